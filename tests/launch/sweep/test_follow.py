"""Waiting for a sweep, and reading the logs of a cell, until there is nothing more to come."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from after_submission import Slurm, begin, log, sweep

from launch.sweep import follow
from launch.sweep.manifest import Manifest
from launch.sweep.status import SweepState, look


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setattr(follow, "READ_S", 0.0)
    return Slurm(tmp_path, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "rows"


def looks(manifest: Manifest, store: Path, *steps: Callable[[], object]) -> Callable[[], SweepState]:
    """Looks at a sweep, before each of which something happens."""
    left = list(steps)

    def one() -> SweepState:
        if left:
            left.pop(0)()
        return look(manifest, store, manifest.cells)

    return one


def complete(store: Path, run_id: str) -> None:
    begin(store, run_id, steps=40).finish("completed", final_top1=0.9, images_per_s=1234.0)


def test_wait_says_what_changes_and_how_all_ended(
    slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sweep(store, ["17_0", "17_1"])
    waits = slurm.job("17_1", "PENDING", "", reason="Resources")
    status = follow.wait(
        looks(
            manifest, store,
            lambda: slurm.queue(slurm.job("17_0", "RUNNING"), waits),
            lambda: None,
            lambda: (complete(store, "run0"), slurm.queue(waits)),
            lambda: slurm.queue(slurm.job("17_1", "RUNNING", "n2")),
            lambda: (complete(store, "run1"), slurm.queue()),
        ),
        every_s=0.0,
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert status == follow.ALL_COMPLETED == 0
    assert lines[0] == f"{manifest.sweep_id}: 2 cells: 1 pending, 1 running"
    assert [line[10:] for line in lines[1:-1]] == [
        "depth=20: running on n1",
        "depth=21: pending (Resources)",
        "depth=20: completed, 1,234 images/s, top-1 0.9000",
        "depth=21: running on n2",
        "depth=21: completed, 1,234 images/s, top-1 0.9000",
    ]
    assert lines[-1] == f"{manifest.sweep_id}: 2 cells: 2 completed"


@pytest.mark.parametrize("end", ["TIMEOUT", "CANCELLED by 0", "FAILED", "none", "gone"])
def test_wait_is_0_only_where_all_completed(
    slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    manifest = sweep(store, ["17_0", None if end == "none" else "17_1"])
    complete(store, "run0")
    if end not in ("none", "gone"):
        slurm.accounting(f"17_1|{end}|1:0|n1|")
    assert follow.wait(looks(manifest, store), every_s=0.0, late_s=0.0) == follow.NOT_ALL_COMPLETED == 1
    assert "depth=21: " in capsys.readouterr().out


def test_a_row_that_a_shared_folder_shows_late_is_waited_for(slurm: Slurm, store: Path) -> None:
    manifest = sweep(store, ["17_0"])
    slurm.accounting("17_0|COMPLETED|0:0|n1|")
    late = looks(manifest, store, lambda: None, lambda: None, lambda: complete(store, "run0"))
    assert follow.wait(late, every_s=0.0, late_s=60.0) == 0


def test_a_queue_that_does_not_answer_for_a_while_is_waited_for(slurm: Slurm, store: Path) -> None:
    manifest = sweep(store, ["17_0"])
    down = looks(
        manifest,
        store,
        lambda: (slurm.fails("squeue", "Unable to contact slurm controller"), slurm.fails("sacct", "x")),
        lambda: None,
        lambda: (slurm.fails("squeue", ""), slurm.queue(slurm.job("17_0", "RUNNING"))),
        lambda: complete(store, "run0") or slurm.queue(),
    )
    assert follow.wait(down, every_s=0.0, late_s=0.0) == 0


def test_a_retry_in_the_meantime_is_waited_for_as_well(slurm: Slurm, store: Path) -> None:
    states = []

    def one() -> SweepState:
        states.append(None)
        manifest = sweep(store, ["17_0"] if len(states) == 1 else ["18"])
        if len(states) == 1:
            slurm.queue(slurm.job("17_0", "RUNNING"))
        elif len(states) == 2:
            slurm.queue(slurm.job("17_0", "FAILED"), slurm.job("18", "PENDING", ""))
        else:
            slurm.queue()
            (store / "runs").exists() or complete(store, "run0")
        return look(manifest, store, manifest.cells)

    assert follow.wait(one, every_s=0.0) == 0 and len(states) == 3


def test_on_a_terminal_the_table_changes_in_place(slurm: Slurm, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", screen := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "14")
    monkeypatch.setenv("COLUMNS", "120")
    manifest = sweep(store, [f"17_{task}" for task in range(8)])
    waiting = [slurm.job(f"17_{task}", "PENDING", "", reason="Priority") for task in range(8)]
    slurm.queue(*waiting[:7], slurm.job("17_7", "RUNNING"))

    def ended() -> None:
        slurm.queue()
        for at in range(8):
            complete(store, f"run{at}")

    assert follow.wait(looks(manifest, store, lambda: None, ended), every_s=0.0) == 0
    shown = screen.getvalue()
    live, _, last = shown.rpartition(f"{manifest.sweep_id}: 8 cells: 8 completed")
    assert "depth=27" in live and "more: python launch/slurm.py status shows all" in live  # what runs comes first
    assert "depth=22 17_2" not in " ".join(live.partition("8 completed")[0].split())
    assert all(f"depth=2{at}" in last for at in range(8))


def tail(manifest: Manifest, store: Path, rank: int = 0) -> int:
    return follow.tail(look(manifest, store, manifest.cells).cells[0], rank, lines=2)


def test_tail_shows_the_last_lines_and_ends_with_the_job(
    slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sweep(store, ["17_0"])
    log(manifest, 0, "17_0", "one\ntwo\nthree\n")
    log(manifest, 0, "17_0", "rank 0\n", "0-0.log")
    log(manifest, 0, "17_0", "restarted\n", "1-0.log")
    log(manifest, 0, "17_0", "rank 1\n", "1-1.log")
    log(manifest, 0, "17", "of another job\n")
    slurm.queue(slurm.job("17_0", "FAILED"))
    assert tail(manifest, store) == 0
    out, err = capsys.readouterr()
    assert out == "==> digits-2x1-17_0.out <==\ntwo\nthree\n==> digits-2x1-17_0.1-0.log <==\nrestarted\n"
    assert err == f"job 17_0 of depth=20: {manifest.cells[0].submissions[0].log}\njob 17_0: FAILED\n"
    assert tail(manifest, store, rank=1) == 0 and "rank 1\n" in capsys.readouterr().out


def test_tail_follows_what_is_written(
    slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "EVERY_S", 0.0)
    manifest = sweep(store, ["17_0"])
    log(manifest, 0, "17_0", "begun\n")
    slurm.queue(slurm.job("17_0", "RUNNING"))
    path = Path(manifest.cells[0].submissions[0].log) / "digits-2x1-17_0.out"
    steps = [
        lambda: path.open("a").write("more\n"),
        lambda: log(manifest, 0, "17_0", "epoch 1\nepoch 2\nepoch 3\n", "0-0.log"),
        lambda: (path.open("a").write("the end\n"), slurm.queue(slurm.job("17_0", "COMPLETED"))),
    ]
    # Its own pauses alone: subprocess, which asks Slurm, may pause as well.
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: steps.pop(0)()))
    tail(manifest, store)
    assert capsys.readouterr().out.splitlines() == [
        "==> digits-2x1-17_0.out <==", "begun", "more",
        "==> digits-2x1-17_0.0-0.log <==", "epoch 1", "epoch 2", "epoch 3",
        "==> digits-2x1-17_0.out <==", "the end",
    ]  # fmt: skip


def test_tail_says_that_a_job_waits_and_why(
    slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "EVERY_S", 0.0)
    manifest = sweep(store, ["17_0"])
    slurm.queue(slurm.job("17_0", "PENDING", "", reason="Resources"))
    steps = [
        lambda: None,
        lambda: slurm.queue(slurm.job("17_0", "PENDING", "", reason="Priority")),
        lambda: slurm.queue(slurm.job("17_0", "RUNNING")),
        lambda: slurm.queue(slurm.job("17_0", "COMPLETED")),
    ]
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: steps.pop(0)()))
    tail(manifest, store)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "job 17_0: PENDING (Resources)", "job 17_0: PENDING (Priority)", "job 17_0: COMPLETED; it left no log",
    ]  # fmt: skip


def test_tail_of_what_left_no_log_says_so(slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = sweep(store, ["17_0"])
    assert tail(manifest, store) == 0
    assert capsys.readouterr().err.endswith("job 17_0: Slurm knows no such job; it left no log\n")
