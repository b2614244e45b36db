"""What Slurm says: fields by their names whatever the version, and who is asked, how, and what for."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from after_submission import SWEEP, Slurm

from launch.sweep import account
from launch.sweep.account import PHASES, Job, SlurmError, accounted, ask, call, expand


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    return Slurm(tmp_path, monkeypatch)


# What sacct --parsable2 prints. That of 22.05 is real; the others are made after the manual pages and release notes of
# these versions, with the fields that they have, in other orders than that in which they are asked for.
SACCT_22_05 = """\
JobID|JobIDRaw|State|ExitCode|DerivedExitCode|NodeList|Reason|Submit
2|2|FAILED|15:0|0:15|n[1-2]|None|2026-11-27T02:05:20
2.batch|2.batch|FAILED|15:0||n1||2026-11-27T02:05:20
2.0|2.0|CANCELLED|0:15||n[1-2]||2026-11-27T02:05:20
1_0|3|CANCELLED by 0|0:0|0:0|n1|None|2026-11-27T02:05:20
1_0.batch|3.batch|CANCELLED|0:15||n1||2026-11-27T02:05:20
1_[2-8%2]|1|CANCELLED by 0|0:0|0:0|None assigned|None|2026-11-27T02:05:20
7|7|TIMEOUT|0:0|0:0|n1|None|2026-11-27T02:06:01
7.batch|7.batch|CANCELLED|0:15||n1||2026-11-27T02:06:01
8|8|NODE_FAIL|0:0|0:0|n[1-2]|None|2026-11-27T02:06:01
8.0|8.0|CANCELLED|0:15||n[1-2]||2026-11-27T02:06:01
11|11|PENDING|0:0|0:0|None assigned|None|2026-11-27T02:06:01
"""
SACCT_23_11 = """\
State|JobID|ExitCode|NodeList|FailedNode|SubmitLine
OUT_OF_MEMORY|17_4|0:125|gpu07||sbatch /rows/jobs/s/array-0.sh
OUT_OF_MEMORY|17_4.batch|0:125|gpu07||
COMPLETED|17_4.extern|0:0|gpu07||
OUT_OF_MEMORY|17_4.0|0:125|gpu07||srun --unbuffered python -c 'a|b'
NODE_FAIL|17_5|1:0|gpu[07-08]|gpu08|sbatch /rows/jobs/s/array-0.sh
PREEMPTED|18|0:0|gpu07||sbatch a|b.sh
PENDING|17_[6,8-12:2%4]|0:0|None assigned||sbatch /rows/jobs/s/array-0.sh
"""
SACCT_24_11 = """\
JobID|Restarts|State|NodeList|ExitCode
17_4|2|RUNNING|gpu07|0:0
17_4.extern|2|RUNNING|gpu07|0:0
17_5|0|CANCELLED by 4294967294|gpu08|0:0
19|1|DEADLINE|None assigned|0:0
20|0|BOOT_FAIL|gpu09|1:0
21|0|REVOKED||0:0
"""
SACCT_25_05 = """\
JobID|State|Restarts|NodeList|ExitCode|FailedNode|StdOut|SubmitLine
30|FAILED|0|gpu01|137:0||/logs/a.out|sbatch /rows/x.sh
30.batch|FAILED|0|gpu01|137:0|||
30.0|FAILED|0|gpu01|0:9|||srun x
31|COMPLETED|0|gpu01|0:0||/logs/b.out|sbatch /rows/x.sh
32|LAUNCH_FAILED|0|gpu02|0:0||/logs/c.out|sbatch /rows/x.sh
33|EXPEDITING|1|None assigned|0:0||/logs/d.out|sbatch /rows/x.sh
34|WARMING|0|gpu02|0:0||/logs/d.out|sbatch /rows/x.sh
"""
SAMPLES: dict[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {
    "22.05": (
        SACCT_22_05,
        {
            "2": {"state": "FAILED", "exit_code": 15, "signal": 0, "nodes": "n[1-2]"},
            "1_0": {"state": "CANCELLED", "by": "root", "nodes": "n1"},
            **{f"1_{task}": {"state": "CANCELLED", "by": "root", "nodes": ""} for task in range(2, 9)},
            "7": {"state": "TIMEOUT", "nodes": "n1"},
            "8": {"state": "NODE_FAIL", "nodes": "n[1-2]", "failed_node": "", "restarts": None},
            "11": {"state": "PENDING", "nodes": "", "phase": "waiting"},
        },
    ),
    "23.11": (
        SACCT_23_11,
        {
            "17_4": {"state": "OUT_OF_MEMORY", "signal": 125, "script": "sbatch /rows/jobs/s/array-0.sh"},
            "17_5": {"state": "NODE_FAIL", "failed_node": "gpu08", "exit_code": 1},
            "18": {"state": "PREEMPTED", "script": "sbatch a|b.sh"},
            **{f"17_{task}": {"state": "PENDING", "nodes": ""} for task in (6, 8, 10, 12)},
        },
    ),
    "24.11": (
        SACCT_24_11,
        {
            "17_4": {"state": "RUNNING", "restarts": 2, "phase": "running"},
            "17_5": {"state": "CANCELLED", "by": "user 4294967294"},
            "19": {"state": "DEADLINE", "restarts": 1, "phase": "over"},
            "20": {"state": "BOOT_FAIL", "phase": "over"},
            "21": {"state": "REVOKED", "phase": "over"},
        },
    ),
    "25.05": (
        SACCT_25_05,
        {
            "30": {"state": "FAILED", "exit_code": 137, "signal": 0},
            "31": {"state": "COMPLETED", "script": "sbatch /rows/x.sh"},
            "32": {"state": "LAUNCH_FAILED", "phase": "over"},
            "33": {"state": "EXPEDITING", "phase": "waiting", "nodes": ""},
            "34": {"state": "WARMING", "phase": "unknown"},
        },
    ),
}


@pytest.mark.parametrize("version", SAMPLES)
def test_accounting_is_read_by_the_names_of_its_fields(version: str) -> None:
    text, expected = SAMPLES[version]
    found = accounted(text)
    assert set(found) == set(expected)
    for job_id, values in expected.items():
        assert {name: getattr(found[job_id], name) for name in values} == values, job_id
        assert found[job_id].job_id == job_id


def test_no_state_has_two_phases() -> None:
    words = [word for words in PHASES.values() for word in words]
    assert len(words) == len(set(words)) and len(words) > 25
    assert Job(job_id="1", state="NEW_IN_30_05").phase == "unknown"


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("17", ["17"]),
        ("17_4", ["17_4"]),
        ("17_[4]", ["17_4"]),
        ("17_[0-2%1]", ["17_0", "17_1", "17_2"]),
        ("17_[1,3-7:2]", ["17_1", "17_3", "17_5", "17_7"]),
        ("17_[0-99999999999]", []),
        ("17.batch", []),
        ("17+0", []),
        ("", []),
        ("JOBID", []),
    ],
)
def test_ids_of_tasks_that_wait_together(name: str, ids: list[str]) -> None:
    assert expand(name) == ids


def test_both_are_asked_once_for_all_jobs(slurm: Slurm) -> None:
    slurm.queue(slurm.job("17_1", "RUNNING", left="9:59"), slurm.job("17_0", "PENDING", "", reason="Priority"))
    slurm.accounting("17_1|RUNNING|0:0|n1|sbatch x", "18|TIMEOUT|0:0|n2|sbatch x", "18.batch|CANCELLED|0:15|n2|")
    found = ask(["18", "17_1", "17_0", "17_1", "no job"])
    assert {one: (job.state, job.nodes) for one, job in found.jobs.items()} == {
        "17_1": ("RUNNING", "n1"), "17_0": ("PENDING", ""), "18": ("TIMEOUT", "n2"),
    }  # fmt: skip
    assert (found.jobs["17_1"].left, found.jobs["17_0"].reason, found.jobs["17_1"].restarts) == ("9:59", "Priority", 0)
    assert (found.queue, found.accounting, found.notices) == (True, True, ())
    (asked,) = slurm.calls("squeue")
    assert asked.startswith("--jobs=17,18 --array --states=all --Format=JobArrayID:|,")
    helped, asked = slurm.calls("sacct")
    assert helped == "--helpformat"
    assert asked == "--jobs=17,18 --allusers --parsable2 --format=JobID,State,ExitCode,NodeList,SubmitLine"


def test_fields_that_a_version_has_are_asked_for(slurm: Slurm) -> None:
    slurm.set("helpformat", "Account JobID  State\nExitCode NodeList  FailedNode Restarts SubmitLine\n")
    ask(["17"])
    assert slurm.calls("sacct")[1].endswith("NodeList,FailedNode,Restarts,SubmitLine")


def test_the_queue_is_ahead_and_accounting_knows_more_of_what_is_over(slurm: Slurm) -> None:
    slurm.queue(
        slurm.job("1", "RUNNING"), slurm.job("2", "FAILED", reason="NonZeroExitCode"), slurm.job("3", "CANCELLED")
    )
    slurm.accounting("1|TIMEOUT|0:0|n1|", "2|FAILED|9:0|n1|", "3|CANCELLED by 0|0:0|n1|", "4|RUNNING|0:0|n1|")
    jobs = ask(["1", "2", "3", "4"]).jobs
    assert (jobs["1"].state, jobs["1"].phase) == ("RUNNING", "running")  # requeued, and run again
    assert (jobs["2"].exit_code, jobs["2"].reason, jobs["3"].by) == (9, "NonZeroExitCode", "root")
    assert not jobs["4"].known and jobs["4"].reason == "sacct still says RUNNING, and squeue has no such job"


@pytest.mark.parametrize(
    ("name", "said", "notice"),
    [
        ("sacct", "Slurm accounting storage is disabled\n", "sacct does not answer: accounting is off"),
        (
            "sacct",
            "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection\n",
            "sacct does not answer: sacct: error: slurm_persist_conn_open_without_init: failed to open persistent "
            "connection",
        ),
        (
            "squeue",
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
            "squeue does not answer: slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        ),
    ],
)
def test_what_does_not_answer_is_named_and_the_other_is_heard(slurm: Slurm, name: str, said: str, notice: str) -> None:
    slurm.queue(slurm.job("17", "RUNNING"))
    slurm.accounting("17|RUNNING|0:0|n1|")
    slurm.fails(name, said)
    found = ask(["17"])
    assert found.notices == (notice,) and found.jobs["17"].state == "RUNNING"
    assert (found.queue, found.accounting) == (name != "squeue", name != "sacct")


@pytest.mark.parametrize("said", ["", "Welcome to the cluster!", "a|b\n1|2", "\udcc3("])
@pytest.mark.parametrize("name", ["squeue", "sacct"])
def test_what_is_no_table_is_no_answer(slurm: Slurm, name: str, said: str) -> None:
    slurm.queue(slurm.job("17", "RUNNING"))
    slurm.accounting("17|RUNNING|0:0|n1|")
    (slurm.folder / name).write_text(said, errors="surrogateescape")
    found = ask(["17"])
    (notice,) = found.notices
    assert notice.startswith(f"{name} says ") and notice.endswith(", which is no table of jobs")
    assert found.jobs["17"].state == "RUNNING" and (found.queue, found.accounting) == (
        name != "squeue",
        name != "sacct",
    )


def test_an_unknown_job_is_no_failure_of_the_queue(slurm: Slurm) -> None:
    slurm.fails("squeue", "slurm_load_jobs error: Invalid job id specified\n")
    found = ask(["99"])
    assert (found.jobs, found.queue, found.notices) == ({}, True, ())


def test_without_slurm_each_missing_command_is_named(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = ask(["17"])
    assert found.notices == ("no squeue on this machine", "no sacct on this machine")
    assert (found.queue, found.accounting, ask([]).notices) == (False, False, ())


def test_a_command_that_hangs_is_left(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "PATIENCE_S", 0.2)
    (slurm.commands / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    began = time.monotonic()
    with pytest.raises(SlurmError, match=r"^squeue does not answer within 0\.2 s$"):
        call("squeue")
    assert time.monotonic() - began < 20


def test_what_a_shell_says_for_people_is_not_said_to_programs(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_FORMAT", "SACCT_FORMAT", "SLURM_TIME_FORMAT", "SCANCEL_INTERACTIVE", "SLURM_BITSTR_LEN"):
        monkeypatch.setenv(name, "9")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    call("scancel", "17")
    said = dict(line.partition("=")[::2] for line in (slurm.folder / "environment").read_text().splitlines())
    there = {name: said[name] for name in said if name.startswith(("SLURM", "SQUEUE", "SACCT", "SCANCEL"))}
    assert there == {"SLURM_CONF": "/etc/slurm.conf", "SLURM_BITSTR_LEN": "0"}


def test_a_job_of_another_sweep_with_the_same_number_is_none_of_it() -> None:
    ours = f"sbatch /rows/jobs/{SWEEP}/array-0.sh"
    assert Job(job_id="1", state="RUNNING", script=ours).is_of(SWEEP)
    assert Job(job_id="1", state="RUNNING").is_of(SWEEP)  # which versions without the field do not say
    assert not Job(job_id="1", state="RUNNING", script="/home/me/other.sh").is_of(SWEEP)


def test_an_array_that_was_cancelled_whole_has_one_record_for_all_its_tasks(slurm: Slurm) -> None:
    """Cancelled while it was being divided, accounting keeps the bare id, and the controller too."""
    ids = ["17_0", "17_3", "18_0", "18_1"]
    slurm.accounting("17|CANCELLED by 0|0:0|None assigned|", "18_0|COMPLETED|0:0|n1|", "18|RUNNING|0:0|n1|")
    found = ask(ids)
    assert {job_id: (job.state, job.by) for job_id, job in found.jobs.items()} == {
        "17_0": ("CANCELLED", "root"), "17_3": ("CANCELLED", "root"), "18_0": ("COMPLETED", ""),
    }  # fmt: skip
    assert [found.jobs[job_id].job_id for job_id in ids[:3]] == ids[:3]
    slurm.accounting()
    slurm.queue(slurm.job("17", "CANCELLED", ""))
    assert {job_id: job.state for job_id, job in ask(ids).jobs.items()} == {"17_0": "CANCELLED", "17_3": "CANCELLED"}
