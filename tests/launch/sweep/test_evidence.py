"""Why a job ended: Slurm's state first, then what its tools wrote into the log."""

from pathlib import Path

import pytest

from launch.sweep.account import PHASES, Job
from launch.sweep.evidence import KINDS, of_job
from results.store.schema import FAILURE_KINDS

FAILED = {"state": "FAILED", "nodes": "n[1-2]", "exit_code": 1, "signal": 0}
# Real lines of Slurm 22.05, and those of other versions after their sources and public reports.
KILLED = """\
srun: error: n1: task 0: Killed
srun: launch/slurm: _step_signal: Terminating StepId=2.0
srun: error: n2: task 1: Terminated
srun: Force Terminated StepId=2.0
"""
ECHO = """\
srun: error: n2: task 1: Exited with exit code 1
srun: Terminating StepId=2.0
srun: error: n1: task 0: Killed
"""
LOGS = {
    KILLED: ("killed", "rank_lost", "rank 0 on n1 was killed by signal 9, by the job's log"),
    ECHO: ("failed", "unknown", "rank 1 on n2 exited with code 1, by the job's log"),
    "srun: error: n1: tasks 4-7: Segmentation fault (core dumped)\n": (
        "killed", "rank_lost", "rank 4-7 on n1 was killed by signal 11",
    ),
    "srun: error: n1: task 3: Some new word\n": ("killed", "rank_lost", "killed by a signal (Some new word)"),
    "slurmstepd: error: Detected 1 oom_kill event in StepId=17.0. Some of the step tasks have been OOM Killed.\n"
    "srun: error: gpu7: task 2: Out Of Memory\n": ("killed", "oom", "Detected 1 oom_kill event in StepId=17.0"),
    "slurmstepd-n1: error: Detected 2 oom-kill event(s) in StepId=17.batch cgroup.\n": ("killed", "oom", "oom-kill"),
    "srun: error: gpu7: task 2: Out Of Memory\n": ("killed", "oom", "gpu7: task 2: Out Of Memory"),
    "srun: error: Node failure on n2\nsrun: error: n1: task 0: Terminated\n": (
        "killed", "rank_lost", "Node failure on n2, by the job's log",
    ),
    "slurmstepd-n1: error: *** JOB 9 ON n1 CANCELLED AT 2026-11-27T02:06:49 DUE TO PREEMPTION ***\n": (
        "killed", "preempted", "DUE TO PREEMPTION",
    ),
    "slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-27T02:07:09 DUE TO TIME LIMIT ***\n": (
        "killed", "timeout", "DUE TO TIME LIMIT",
    ),
    "srun: error: Task launch for StepId=17.0 failed on node n2: Invalid job credential\n"
    "srun: error: Application launch failed: Invalid job credential\n": (
        "failed", "launch", "failed on node n2: Invalid job credential",
    ),
    "slurmstepd-n1: error: execve(): /no/such/python: No such file or directory\n"
    "srun: error: n1: task 0: Exited with exit code 2\n": ("failed", "launch", "execve(): /no/such/python: No such"),
    "slurmstepd: error: pyxis: failed to import docker image\n": ("failed", "launch", "pyxis: failed to import"),
    "OSError: [Errno 28] No space left on device: '/rows/a'\n": ("failed", "storage", "No space left on device"),
    "": ("failed", "unknown", "by Slurm's account: FAILED on n[1-2], exit code 1"),
}  # fmt: skip
STATES = {
    "BOOT_FAIL": ("failed", "launch"),
    "CANCELLED": ("killed", "interrupted"),
    "DEADLINE": ("killed", "timeout"),
    "LAUNCH_FAILED": ("failed", "launch"),
    "NODE_FAIL": ("killed", "rank_lost"),
    "OUT_OF_MEMORY": ("killed", "oom"),
    "PREEMPTED": ("killed", "preempted"),
    "RECONFIG_FAIL": ("failed", "launch"),
    "REVOKED": ("killed", "interrupted"),
    "TIMEOUT": ("killed", "timeout"),
}


@pytest.mark.parametrize("text", LOGS, ids=lambda text: text[:40].strip() or "nothing")
def test_a_log_says_who_ended_a_job_and_where(tmp_path: Path, text: str) -> None:
    (tmp_path / "digits-2x1-17_4.out").write_text(f"a line\n{text}")
    found = of_job(Job(job_id="17_4", **FAILED), str(tmp_path))
    status, kind, words = LOGS[text]
    assert (found.status, found.kind) == (status, kind)
    assert words in found.message and "by Slurm's account: FAILED on n[1-2], exit code 1" in found.message
    assert "\n" not in found.message and found.kind in FAILURE_KINDS


def test_a_log_of_another_job_of_the_cell_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "digits-2x1-17_4.out").write_text(KILLED)
    (tmp_path / "digits-2x1-17_4.0-1.log").write_text("No space left on device")
    assert of_job(Job(job_id="4", **FAILED), str(tmp_path)).kind == "unknown"
    assert of_job(Job(job_id="17", **FAILED), str(tmp_path)).kind == "unknown"


def test_a_rank_says_that_a_disk_is_full(tmp_path: Path) -> None:
    (tmp_path / "digits-17.out").write_text("")
    (tmp_path / "digits-17.0-3.log").write_text("Epoch 3\nOSError: [Errno 122] Disk quota exceeded\n")
    found = of_job(Job(job_id="17", **FAILED), str(tmp_path))
    assert (found.status, found.kind) == ("failed", "storage") and "Disk quota exceeded" in found.message


@pytest.mark.parametrize("state", sorted(PHASES["over"] - {"COMPLETED", "FAILED"}))
def test_a_state_that_says_why_needs_no_log(tmp_path: Path, state: str) -> None:
    found = of_job(Job(job_id="17", state=state, nodes="n1", by="ann"), str(tmp_path / "none"))
    assert (found.status, found.kind) == STATES[state] and KINDS[state] in FAILURE_KINDS
    assert found.message == f"by Slurm's account: {state} by ann on n1"


def test_the_node_that_was_lost_is_named_by_slurm_or_by_the_log(tmp_path: Path) -> None:
    lost = {"state": "NODE_FAIL", "nodes": "n[1-2]"}
    told = of_job(Job(job_id="8", failed_node="n2", **lost), str(tmp_path))
    assert told.message == "by Slurm's account: NODE_FAIL on n2"
    (tmp_path / "node-8.out").write_text("srun: error: Node failure on n2\n")
    assert of_job(Job(job_id="8", **lost), str(tmp_path)).message == (
        "by Slurm's account: NODE_FAIL on n[1-2], n2 by its log"
    )


def test_only_numbers_of_real_signals_are_said(tmp_path: Path) -> None:
    oom = of_job(Job(job_id="1", state="OUT_OF_MEMORY", nodes="n1", exit_code=0, signal=125), str(tmp_path))
    assert oom.message == "by Slurm's account: OUT_OF_MEMORY on n1"
    killed = of_job(Job(job_id="1", state="FAILED", nodes="n1", exit_code=0, signal=9), str(tmp_path))
    assert (killed.status, killed.kind) == ("killed", "rank_lost")
    assert killed.message == "by Slurm's account: FAILED on n1, signal 9"


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "digits-17.out").write_text("srun: error: Node failure on n1\n" + 70000 * "x" + "\n" + KILLED)
    assert of_job(Job(job_id="17", **FAILED), str(tmp_path)).message.startswith("rank 0 on n1 was killed by signal 9")
