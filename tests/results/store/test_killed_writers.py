"""Fifty writers at once, each of them killed at some moment, and a reader that never sees half a row."""

import contextlib
import os
import random
import select
import signal
import struct
import threading
import time
from collections import Counter

import pytest

from results.recover import sweep
from results.store.files import journals, read_rows, read_table
from results.store.writer import RunWriter

WRITERS, EPOCHS, STEPS = 50, 3, 20
# Whatever the machine's pace, some never come to their end, and some are left to come to it.
DOOMED, SPARED = range(0, WRITERS, 5), range(1, WRITERS, 10)


def write(root, number: int, done: int) -> None:
    """A run of a few tenths of a second; says through a pipe that its rows are written."""
    chance = random.Random(number)
    writer = RunWriter(root, {"run_id": f"r{number}", "depth": number, "warmup_steps": 1})
    writer.system({"cpu_model": "some cpu"})
    for epoch in range(1, EPOCHS + 1):
        writer.steps([{"rank": 0, "step": epoch * STEPS + one, "step_ms": 1.0 + one} for one in range(STEPS)])
        writer.epoch({"epoch": epoch, "elapsed_s": 1.0 * epoch, "top1": 0.1 * epoch, "images": 64})
        time.sleep(0.02 * chance.random())
    if number in DOOMED:
        signal.pause()
    writer.finish("completed", images_per_s=100.0 + number)
    os.write(done, struct.pack("i", number))


def start(root, number: int, done: int) -> int:
    """Fork, since to import everything takes each process longer than its run."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            write(root, number, done)
        os._exit(0)
    return pid


def check(root, finished: set[int]) -> None:
    """Every file that is there is whole, and so is every finished run; what is being written is not seen."""
    rows, bad = read_rows(root, "runs", columns=["run_id", "depth", "status", "images_per_s"])
    assert bad == [] and {row["status"] for row in rows} <= {"completed"}
    assert all(row["images_per_s"] == 100.0 + row["depth"] for row in rows)
    there = {row["run_id"]: row["depth"] for row in rows}
    assert finished <= set(there.values())
    for table, count in (("epochs", EPOCHS), ("steps", EPOCHS * STEPS), ("system", 1)):
        found, bad = read_table(root, table, columns=["run_id"])
        assert bad == []
        counts = Counter(found["run_id"].to_pylist())
        assert set(counts.values()) <= {count} and set(there) <= set(counts)


def kill(moments: list[tuple[float, int]]) -> None:
    """End processes by SIGKILL, each at its moment; those that are waited for only later still have their id."""
    for moment, pid in sorted(moments):
        time.sleep(max(0.0, moment - time.monotonic()))
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_no_reader_fails_and_no_finished_run_is_lost(tmp_path):
    chance = random.Random(1)
    reads, done = os.pipe()
    began = time.monotonic()
    os.waitpid(start(tmp_path, WRITERS, done), 0)
    # How long they will all take on this machine as it is; a death in that time comes anywhere in a run, or after it.
    whole_s = (time.monotonic() - began) * WRITERS / (os.cpu_count() or 1)
    pids = [start(tmp_path, number, done) for number in range(WRITERS)]
    now = time.monotonic()
    moments = [(now + whole_s * chance.random(), pid) for number, pid in enumerate(pids) if number not in SPARED]
    killer = threading.Thread(target=kill, args=(moments,))
    killer.start()
    finished: set[int] = set()
    looks = 0
    while killer.is_alive():
        while select.select([reads], [], [], 0)[0]:
            finished.add(struct.unpack("i", os.read(reads, 4))[0])
        check(tmp_path, finished)
        looks += 1
    killer.join()
    killed = sum(os.WIFSIGNALED(os.waitpid(pid, 0)[1]) for pid in pids)
    while select.select([reads], [], [], 0)[0]:
        finished.add(struct.unpack("i", os.read(reads, 4))[0])
    os.close(done)
    os.close(reads)
    check(tmp_path, finished)
    print(f"{looks} looks, {killed} killed, {len(finished)} finished")
    assert looks > 2 and killed >= len(DOOMED) and len(finished) > len(SPARED), (looks, killed, len(finished))

    left = {path.name.removesuffix(".0.jsonl") for path in journals(tmp_path)}
    result = sweep(tmp_path)
    assert not result.bad and not result.alive and not journals(tmp_path)
    assert {row["run_id"] for row in result.rows} <= left
    rows, bad = read_rows(tmp_path, "runs")
    assert bad == []
    # A run whose journal had not yet its name has left nothing but a temporary file, which no reader takes for rows.
    assert left <= {row["run_id"] for row in rows} and {f"r{number}" for number in finished} <= {
        row["run_id"] for row in rows
    }
    for row in rows:
        epochs, _ = read_rows(tmp_path, "epochs", [row["run_id"]])
        if row["status"] == "completed":
            assert len(epochs) == EPOCHS
        else:
            assert row["status"] == "killed" and row["recovered"] and row["epochs_completed"] == len(epochs)
    assert all(path.suffix in (".parquet", ".tmp") for path in tmp_path.rglob("*") if path.is_file())
