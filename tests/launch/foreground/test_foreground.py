"""Runs on this machine: what they print and leave, and that nothing outlives a lost rank, a signal or the launcher."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from stub import OF_A_TASK

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from launch import foreground, interrupts
from results.store.files import read_rows

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parents[1]

# What launch/local.py does, with ranks that train nothing and less patience.
LOCAL = """
import os
import sys
import launch.foreground
from launch.cli import main
from stub import StubJob
launch.foreground.Job = StubJob
launch.foreground.PATIENCE_S = 0.5
launch.foreground.STOP_S = float(os.environ.get("STOP_S", 1.0))
sys.exit(main("local", sys.argv[1:]))
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def popen(does: str, *words: str, shell: str = "", **environment: str) -> subprocess.Popen[str]:
        variables = {**os.environ, "STUB": does, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", **environment}
        for name in ("OMP_NUM_THREADS", "RESNET_BENCH_PROGRESS"):
            if name not in environment:
                variables.pop(name, None)
        command = [sys.executable, "-c", LOCAL, "dataset=digits", f"results={tmp_path}/rows", *words]
        if shell:
            command = ["bash", "-o", "pipefail", "-c", f"{shlex.join(command)} {shell}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # The tests themselves may run where these are ignored (nohup, a shell's background), and children inherit that.
        numbers = (signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
        try:
            started.append(subprocess.Popen(command, env=variables, cwd=tmp_path, start_new_session=True, **pipes))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return started[-1]

    yield popen
    for process in started:
        process.kill()
        process.communicate()


def rows(tmp_path: Path) -> list[dict[str, object]]:
    return read_rows(tmp_path / "rows", "runs")[0]


def ranks(tmp_path: Path, count: int = 2) -> list[psutil.Process]:
    """The rank processes, once all of them run."""
    files = [tmp_path / "rows" / "pids" / str(rank) for rank in range(count)]
    assert until(lambda: all(file.exists() and file.read_text() for file in files)), "the ranks did not start"
    return [psutil.Process(int(file.read_text())) for file in files]


def until(true: Callable[[], bool], patience_s: float = 60.0) -> bool:
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_sweep_runs_in_order_and_ends_with_a_table_and_the_files(start: Start, tmp_path: Path) -> None:
    process = start("complete", "depth=20,32", CUDA_VISIBLE_DEVICES="")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "[1/2] resnet20A-digits seed=0\nresnet20A-digits: a stub" in out and "resnet32A-digits: a stub" in out
    assert out.count("completed") == 2 and out.count(".parquet") == 2
    assert [(row["depth"], row["status"]) for row in sorted(rows(tmp_path), key=lambda row: str(row["run_id"]))] == [
        (20, "completed"),
        (32, "completed"),
    ]
    assert not (tmp_path / "rows" / "jobs").exists()


def test_ranks_know_each_other_and_see_all_devices(start: Start, tmp_path: Path) -> None:
    start("complete", "depth=20", CUDA_VISIBLE_DEVICES="").communicate(timeout=120)
    seen = [json.loads((tmp_path / "rows" / "pids" / f"environment.{rank}.json").read_text()) for rank in range(2)]
    assert [(each["RANK"], each["LOCAL_RANK"]) for each in seen] == [("0", "0"), ("1", "1")]
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    for each in seen:
        assert (each["WORLD_SIZE"], each["LOCAL_WORLD_SIZE"], each["MASTER_ADDR"]) == ("2", "2", "127.0.0.1")
        assert each["OMP_NUM_THREADS"] == str(threads)
        assert each["CUDA_VISIBLE_DEVICES"] == "" and each["DS_ACCELERATOR"] == "cpu"
    assert seen[0]["MASTER_PORT"] == seen[1]["MASTER_PORT"]


def test_the_threads_that_a_user_sets_are_the_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config, _ = resolve(RunKeys(depth=20, dataset="digits", ranks_per_node=1), Host(ranks_per_node=1))
    for given, expected in (("3", "3"), ("", str(len(os.sched_getaffinity(0))))):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert foreground._environment(config, tmp_path)["OMP_NUM_THREADS"] == expected


@pytest.mark.parametrize("node", ["", "n1"])
def test_a_run_in_an_allocation_is_no_task_of_it(start: Start, tmp_path: Path, node: str) -> None:
    process = start("sleep", "depth=20", **OF_A_TASK, SLURMD_NODENAME=node)
    ranks(tmp_path)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (row,) = rows(tmp_path)
    assert (row["status"], row["failure_kind"], row["restart_count"]) == ("killed", "interrupted", 0)
    assert row["failure_message"] == "the launcher was stopped by SIGTERM" and "job" not in str(row["run_id"])
    facts = ["SLURMD_NODENAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID"]
    for rank in range(2):
        seen = json.loads((tmp_path / "rows" / "pids" / f"environment.{rank}.json").read_text())
        assert (seen["RANK"], seen["WORLD_SIZE"], seen["LOCAL_RANK"]) == (str(rank), "2", str(rank))
        assert (seen["OMP_NUM_THREADS"], seen["RESNET_BENCH_CORES"]) == ("1", "1")
        assert seen["slurm"] == (facts if node else [])


@pytest.mark.parametrize(
    ("bound", "given", "ranks", "share"),
    [(8, "", 2, 4), (8, "4", 2, 2), (8, "4", 8, 1), (4, "4", 1, 4), (2, "48", 2, 1), (96, "48", 4, 12)],
)
def test_ranks_share_the_cores_of_their_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bound: int, given: str, ranks: int, share: int
) -> None:
    config, _ = resolve(RunKeys(depth=20, dataset="digits"), Host(ranks_per_node=ranks))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(bound)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    for threads in ("", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found = foreground._environment(config, tmp_path)
        assert (found["RESNET_BENCH_CORES"], found["OMP_NUM_THREADS"]) == (str(share), threads or str(share))


OF_SLURM = "Slurm sets it; unset it outside of an allocation"
OF_THREADS = "expected a whole number from 1 to 4096 (nearest: 1); unset it, and the launcher sets it"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SLURM_CPUS_PER_TASK": "abc"}, f"SLURM_CPUS_PER_TASK=abc: expected a whole number, at least 1; {OF_SLURM}"),
        ({"SLURM_CPUS_PER_TASK": "0"}, f"SLURM_CPUS_PER_TASK=0: expected at least 1 (nearest: 1); {OF_SLURM}"),
        (
            {"SLURM_ARRAY_TASK_ID": "x", "SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"},
            f"SLURM_ARRAY_TASK_ID=x: expected a whole number, at least 0; {OF_SLURM}",
        ),
        ({"OMP_NUM_THREADS": "many"}, f"OMP_NUM_THREADS=many: {OF_THREADS}"),
        ({"OMP_NUM_THREADS": "0"}, f"OMP_NUM_THREADS=0: {OF_THREADS}"),
        ({"OMP_NUM_THREADS": "-1"}, f"OMP_NUM_THREADS=-1: {OF_THREADS}"),
        ({"RESNET_BENCH_RUN_ID": "a/b"}, "RESNET_BENCH_RUN_ID=a/b: "),
    ],
)
def test_variables_that_cannot_be_are_one_line_and_start_nothing(
    start: Start, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    process = start("complete", "depth=20", **variables)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"launch: {said}")
    assert not (tmp_path / "rows").exists()


def test_a_failed_run_is_said_in_one_line_and_the_next_still_runs(start: Start, tmp_path: Path) -> None:
    process = start("data", "depth=20,32")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if "launch:" in line]
    assert len(lines) == 2
    assert lines[0].startswith("launch: resnet20A-digits failed (data): /images/cat/1.jpg: truncated (logs in ")
    assert len(rows(tmp_path)) == 2


def test_a_run_without_a_row_shows_the_end_of_its_traceback(start: Start) -> None:
    process = start("crash", "depth=20")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RuntimeError: no row was written" in err and "launch: resnet20A-digits ended before it wrote a row" in err


@pytest.mark.parametrize("does", ["sleep", "deaf"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_takes_its_siblings_along_and_the_row_is_kept(
    start: Start, tmp_path: Path, does: str, victim: int
) -> None:
    process = start(does, "depth=20")
    both = ranks(tmp_path)
    both[victim].kill()
    killed_at = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - killed_at < 20
    assert process.returncode == 1
    assert all(gone(rank) for rank in both)
    (row,) = rows(tmp_path)
    assert row["status"] == "killed", err
    # On a machine that is too busy the launcher comes after submitit, which has then cleared away what killed it.
    said = rf"rank {victim} (was killed by signal 9 \(SIGKILL\)|is gone)"
    assert row["failure_kind"] == "rank_lost" and re.search(said, str(row["failure_message"]))
    assert bool(row["recovered"]) == (victim == 0 or does == "deaf")
    assert not list((tmp_path / "rows" / "journal").glob("*.jsonl"))


@pytest.mark.parametrize(
    ("number", "status", "sender"),
    [
        (signal.SIGINT, 130, ", as Ctrl-C sends it"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGHUP, 129, ", as a terminal sends it that closes"),
    ],
)
def test_a_signal_ends_the_ranks_in_order_and_the_sweep(
    start: Start, tmp_path: Path, number: signal.Signals, status: int, sender: str
) -> None:
    process = start("sleep", "depth=20,32")
    both = ranks(tmp_path)
    os.killpg(process.pid, number) if number != signal.SIGTERM else process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    message = f"the launcher was stopped by {number.name}{sender}"
    assert f"killed (interrupted): {message}" in out
    assert all(gone(rank) for rank in both)
    assert f"launch: stopped by {number.name}; 2 of 2 not run to their end" in err
    (row,) = rows(tmp_path)
    assert (row["status"], row["failure_kind"], row["failure_message"]) == ("killed", "interrupted", message)


def test_ranks_do_not_outlive_a_killed_launcher(start: Start, tmp_path: Path) -> None:
    process = start("sleep", "depth=20")
    both = ranks(tmp_path)
    process.kill()
    assert until(lambda: all(gone(rank) for rank in both), 20)
    (row,) = rows(tmp_path)
    said = f"the launcher (process {process.pid}) is gone"
    assert (row["status"], row["failure_kind"], row["failure_message"]) == ("killed", "interrupted", said)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.3])
def test_a_signal_before_there_are_ranks_ends_those_that_are_about_to_start(
    start: Start, tmp_path: Path, delay_s: float
) -> None:
    process = start("sleep", "depth=8")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "rows" / "jobs").glob("*/*_submitted.pkl")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay_s)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM

    def left() -> list[psutil.Process]:
        found = []
        for each in psutil.process_iter():
            try:
                if str(tmp_path) in " ".join(each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
            except psutil.NoSuchProcess:
                continue
        return found

    assert not left()
    time.sleep(3)
    assert not left()


def test_a_second_ctrl_c_hurries_the_ranks_and_their_rows_are_written_all_the_same(
    start: Start, tmp_path: Path
) -> None:
    process = start("deaf", "depth=20", STOP_S="30")
    both = ranks(tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None  # it waits for a rank that no signal reaches
    for _ in range(3):  # the last two are of the same doing
        process.send_signal(signal.SIGINT)
    hurried_at = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - hurried_at < 20 and process.returncode == 130, err
    assert all(gone(rank) for rank in both)
    (row,) = rows(tmp_path)
    assert (row["failure_kind"], row["recovered"]) == ("interrupted", True)
    assert str(row["failure_message"]).startswith("the launcher was stopped by SIGINT, as Ctrl-C sends it (last line")


def test_the_death_of_the_controller_is_said_and_its_ranks_end_in_order(start: Start, tmp_path: Path) -> None:
    process = start("slow", "depth=20", STOP_S="20")
    both = ranks(tmp_path)
    controller = both[0].parent()
    assert controller
    controller.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and all(gone(rank) for rank in both), err
    (row,) = rows(tmp_path)
    said = f"the process that started the ranks (submitit, {controller.pid}) is gone"
    assert (row["failure_kind"], row["failure_message"], row["recovered"]) == ("interrupted", said, None)


def test_siblings_that_leave_a_suspended_rank_are_not_the_cause(start: Start, tmp_path: Path) -> None:
    process = start("deaf", "depth=20")
    both = ranks(tmp_path)
    both[0].suspend()
    assert until(lambda: both[0].status() == psutil.STATUS_STOPPED)
    both[1].kill()  # as its watchdog does
    _, err = process.communicate(timeout=60)
    (row,) = rows(tmp_path)
    assert row["failure_kind"] == "rank_lost", err
    assert str(row["failure_message"]).startswith("rank 0 was suspended, as by SIGSTOP")


def test_signals_that_are_held_back_come_when_the_block_is_over() -> None:
    before = {number: signal.getsignal(number) for number in interrupts.STOP_SIGNALS}
    seen: list[str] = []
    try:
        for number in interrupts.STOP_SIGNALS:
            signal.signal(number, lambda number, frame: seen.append(signal.Signals(number).name))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with interrupts.held_back():
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            assert seen == []
        assert seen == ["SIGINT"]  # the first says enough
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# A reader that leaves after two lines, closed streams, and disks that are full.
@pytest.mark.parametrize(
    ("where", "status", "said"),
    [
        ("| head -2", 0, ""),
        (">&- 2>&-", 0, ""),
        (
            ">/dev/full",
            1,
            "launch: [Errno 28] No space left on device: 'stdout'; all runs completed and their rows are written, only "
            "what was printed is lost\n",
        ),
        (">/dev/full 2>/dev/full", 1, ""),
    ],
)
def test_what_becomes_of_the_output_ends_no_sweep(
    start: Start, tmp_path: Path, where: str, status: int, said: str
) -> None:
    process = start("complete", "depth=8,14", shell=where)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (status, said), out
    assert sorted((row["depth"], row["status"]) for row in rows(tmp_path)) == [(8, "completed"), (14, "completed")]
