"""What rank 0 finds out about a failure before it writes it down, and what it notes for the batch script."""

from pathlib import Path

import pytest

from bench.config.environment import END_VARIABLE, RankEnvironment
from bench.measure.failure import NAMELESS, SAVED, Failure
from bench.training.causes import explained, note_end

PLACE = RankEnvironment(rank=0, world_size=4, local_rank=0, local_world_size=2, hosts=("n1", "n2"))
TASK = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
SIGNAL = "rank 0 was stopped by SIGTERM, which Slurm sends at a cancel, a preemption and the time limit"
# As scontrol of Slurm 22.05 says it of a job at its SIGTERM.
CASES = {
    "preempted": (
        "JobState=RUNNING Reason=None PreemptEligibleTime=2026-11-27T02:11:22 PreemptTime=2026-11-27T02:11:27", [],
        ("killed", "preempted", "rank 0 was stopped by SIGTERM: a job of a higher priority takes the nodes"),
    ),
    "time limit": (
        "JobState=COMPLETING Reason=TimeLimit EndTime=2026-11-27T02:13:29", [],
        ("killed", "timeout", "rank 0 was stopped by SIGTERM: the job has met its time limit"),
    ),
    "cancelled": (
        "JobState=COMPLETING Reason=None PreemptTime=None", [1],
        ("killed", "interrupted", "rank 0 was stopped by SIGTERM: the job was cancelled"),
    ),
    "a rank has ended": (
        "JobState=RUNNING Reason=None PreemptTime=None", [2, 3],
        ("failed", "rank_lost",
         "rank 2 (n2), rank 3 (n2) ended without a word (killed, by its log or Slurm's account): rank 0 was stopped by "
         "SIGTERM"),
    ),
    "the step alone was told": ("JobState=RUNNING Reason=None PreemptTime=None", [], ("killed", "interrupted", SIGNAL)),
    "no scontrol": (None, [], ("killed", "interrupted", SIGNAL)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_slurm_knows_says_why_it_sent_a_signal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, gone, expected = CASES[name]
    monkeypatch.setenv("PATH", str(tmp_path))
    if said:
        (tmp_path / "scontrol").write_text(f'#!/bin/sh\n[ "$*" = "show job --oneliner 7" ] && echo "JobId=7 {said}"\n')
        (tmp_path / "scontrol").chmod(0o755)
    found = explained(Failure("killed", "interrupted", SIGNAL, 0), PLACE, lambda: gone, TASK)
    assert (found.status, found.kind, found.message) == expected
    if expected[0] == "killed":  # whoever stopped it, where it goes on is said as well
        saved = f"{SAVED}43: resume=/a/b goes on"
        found = explained(Failure("killed", "interrupted", SIGNAL + saved, 0), PLACE, lambda: gone, TASK)
        assert (found.status, found.kind, found.message) == (*expected[:2], expected[2] + saved)


def test_outside_of_slurm_a_signal_is_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Failure("killed", "interrupted", "rank 0 was stopped by SIGTERM", 0)
    assert explained(failure, PLACE, lambda: [1], {}) == failure


def test_a_rank_that_is_gone_gets_its_name() -> None:
    failure = Failure("failed", "rank_lost", f"{NAMELESS}: RuntimeError: Connection closed by peer [10.0.0.2]:5", 3)
    assert explained(failure, PLACE, list, {}) == failure
    found = explained(failure, PLACE, lambda: [2], {})
    assert found.kind == "rank_lost" and found.rank == 3
    assert found.message.startswith("rank 2 (n2) ended without a word: ") and found.message.endswith("[10.0.0.2]:5")
    found = explained(failure, PLACE, lambda: [2], TASK)
    assert found.message.startswith("rank 2 (n2) ended without a word (killed, by its log or Slurm's account): ")


def test_other_failures_are_left_as_they_are() -> None:
    def never() -> list[int]:
        raise AssertionError("takes seconds")

    for kind in ("data", "oom", "storage", "timeout", "network"):
        failure = Failure("failed", kind, "what happened", 1)
        assert explained(failure, PLACE, never, TASK) == failure


def test_the_end_is_noted_for_the_batch_script_alone(tmp_path: Path) -> None:
    path = tmp_path / "ended"
    note_end(1, {END_VARIABLE: str(path)})  # of a run that merely inherits it
    assert not path.exists()
    note_end(1, {**TASK, END_VARIABLE: str(path)})
    assert path.read_text() == "1 7.0\n"
    note_end(0, {**TASK, END_VARIABLE: str(tmp_path / "no such folder" / "ended")})
    note_end(0, TASK)


def test_of_an_array_its_own_task_alone_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last task has the number of the whole array as its own, by which a step of every task would be ended."""
    task = {**TASK, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    note_end(1, {**task, END_VARIABLE: str(tmp_path / "ended")})
    assert (tmp_path / "ended").read_text() == "1 7_3.0\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "JobId=7 ArrayJobId=7 ArrayTaskId=3 JobState=RUNNING PreemptTime=2026-11-27T02:11:27"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\n[ "$*" = "show job --oneliner 7_3" ] && echo "{said}"\n')
    (tmp_path / "scontrol").chmod(0o755)
    assert explained(Failure("killed", "interrupted", SIGNAL, 0), PLACE, list, task).kind == "preempted"
