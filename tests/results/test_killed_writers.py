"""Fifty writers at once, each of them killed at some moment, and every command that reads, beside them all the time."""

import contextlib
import io
import json
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results import baseline, recover
from results.check import command as check
from results.check.verdict import STATUS
from results.query import command as query
from results.report import command as report
from results.store import files, gather
from results.store.files import journals, read_rows, read_table, table_path
from results.store.writer import RunWriter

WRITERS, EPOCHS, STEPS = 50, 3, 20
# Whatever the machine's pace, some never come to their end, and some are left to come to it.
DOOMED, SPARED = range(0, WRITERS, 5), range(1, WRITERS, 10)
STALLED_S = 2.0  # those that are left wait to be killed
ACCEPTED = range(100, 105)
TORN = 200


def name(number: int) -> str:
    """The id of a run, of this hour; those that are accepted are of two days ago."""
    at = datetime.now(UTC).replace(minute=0, second=0) - timedelta(days=2 if number in ACCEPTED else 0)
    return f"{at:%Y%m%dT%H%M%S}-resnet20A-digits-{number:08x}"


class Store:
    """A store and, beside it, what its writers say that they have done."""

    def __init__(self, folder: Path) -> None:
        self.root, self.said = folder / "store", folder / "said"
        self.ids = {number: name(number) for number in (*range(WRITERS), *ACCEPTED, TORN)}
        self.said.mkdir()

    def say(self, number: int, what: str) -> None:
        (self.said / f"{self.ids[number]} {what}").touch()

    def heard(self, what: str) -> set[str]:
        """The runs of which this was said."""
        return {path.name.partition(" ")[0] for path in self.said.glob(f"* {what}")}

    def write(self, number: int, chance: random.Random) -> None:
        """Write a run of a few tenths of a second."""
        at = datetime.strptime(self.ids[number][:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        config = json.dumps({"depth": 20, "seed": number})
        writer = RunWriter(self.root, {
            "run_id": self.ids[number], "depth": 20, "seed": number, "benchmark": "training", "config_json": config,
            "git_commit": ("a" if number in ACCEPTED else "b") * 40, "dirty": False, "warmup_steps": 1,
            "init_start": at, "run_start": at,
        })  # fmt: skip
        self.say(number, "begun")
        writer.system({"cpu_model": "some cpu"})
        for epoch in range(1, EPOCHS + 1):
            writer.steps([{"rank": 0, "step": epoch * STEPS + one, "step_ms": 1.0 + one} for one in range(STEPS)])
            writer.epoch({"epoch": epoch, "elapsed_s": 1.0 * epoch, "top1": 0.1 * epoch, "images": 64})
            self.say(number, f"epoch {epoch}")
            time.sleep(0.02 * chance.random())
        if number in DOOMED:
            signal.pause()
        writer.finish("completed", images_per_s=100.0 + number)
        self.say(number, "finished")

    def torn(self, table: str) -> Path:
        """Where a file of a table is that was cut after its first bytes."""
        return table_path(self.root, table, self.ids[TORN][:4] + "-" + self.ids[TORN][4:6], self.ids[TORN], 0)


class Processes:
    """Started by fork, since to import everything anew takes each longer than what it does; none outlives its test."""

    def __init__(self) -> None:
        self.left: set[int] = set()

    def start(self, do: Callable[[], None], log: Path) -> int:
        """Start a process; what it raises is in the log then, and its status is not 0."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                do()
                status = 0
            except BaseException:
                log.write_text(traceback.format_exc())
            finally:
                os._exit(status)
        self.left.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """How a process ended, as `os.waitpid` says it."""
        self.left.discard(pid)
        return os.waitpid(pid, 0)[1]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.left.copy():
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)


def ask(main: Callable[[list[str]], int], *words: str) -> tuple[int, str, str]:
    """Run a command; its status, stdout and stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(list(words))
    return status, out.getvalue(), err.getvalue()


def hold(rows: list[dict[str, Any]], finished: set[str]) -> set[str]:
    """Hold that runs ended as they did, and that those are there that have finished; return the ids of all."""
    ended = {row["run_id"]: row["status"] for row in rows}
    assert len(ended) == len(rows) and set(ended.values()) <= {"completed", "killed"}
    assert all(ended.get(run_id) == "completed" for run_id in finished)
    return set(ended)


def by_table(store: Store) -> set[str]:
    """Every file that is there is whole, and so is every run that has finished; what is being written is not seen."""
    finished = store.heard("finished")
    rows, bad = read_rows(store.root, "runs", columns=["run_id", "status", "seed", "images_per_s"])
    assert [one.path for one in bad] == [store.torn("runs")]
    assert all(row["images_per_s"] == 100.0 + row["seed"] for row in rows if row["status"] == "completed")
    there = hold(rows, finished)
    ended = {row["run_id"] for row in rows if row["status"] == "completed"}
    for table, count in (("epochs", EPOCHS), ("steps", EPOCHS * STEPS), ("system", 1)):
        found, bad = read_table(store.root, table, columns=["run_id"])
        assert [one.path for one in bad] == ([store.torn(table)] if table == "epochs" else [])
        counts = Counter(found["run_id"].to_pylist())
        assert all(counts[one] == count for one in ended) and max(counts.values()) == count
    return there


def by_report(store: Store) -> set[str]:
    finished = store.heard("finished")
    status, out, err = ask(report.main, f"results={store.root}", "format=json")
    assert status == 0 and err.count(f"cannot be read: {store.torn('runs')}: ") == 1, err
    return hold(json.loads(out), finished)


def by_query(store: Store) -> set[str]:
    finished = store.heard("finished")
    sql = "SELECT run_id, status, count(epoch) AS epochs FROM runs LEFT JOIN epochs USING (run_id) GROUP BY ALL"
    status, out, err = ask(query.main, sql, f"results={store.root}", "format=json")
    assert status == 0 and [err.count(f"cannot be read: {store.torn(one)}: ") for one in ("runs", "epochs")] == [1, 1]
    rows = json.loads(out)
    return hold(rows, finished)


def by_check(store: Store) -> set[str]:
    finished = store.heard("finished") - {store.ids[one] for one in ACCEPTED}
    status, out, err = ask(check.main, f"results={store.root}", "format=json")
    said = json.loads(out)
    # A run of which the file is torn is none that may be passed over.
    assert status == said["exit_status"] == STATUS[said["verdict"]] and said["verdict"] not in ("pass", "regression")
    assert sum(one.startswith(f"{store.torn('runs')}: ") for one in said["left_out"]) == 1, said["left_out"]
    assert all(f"results.check: {line}" in err for line in said["left_out"])
    judged = {run_id for one in said["findings"] if one["metric"] == "images_per_s" for run_id in one["candidates"]}
    assert finished <= judged
    return judged


def by_recovery(store: Store) -> set[str]:
    status, out, err = ask(recover.main, f"results={store.root}")
    assert (status, err) == (0, ""), err
    return {line.split()[1].removesuffix(".0:") for line in out.splitlines() if line.startswith("recovered ")}


READERS = [by_table, by_report, by_query, by_check, by_recovery]


def watch(store: Store, look: Callable[[Store], set[str]], log: Path) -> None:
    """Look again and again, and once more when all is over; says how often."""
    over, looks = False, 0
    while not over:
        over = (store.said / "over").exists()
        seen = look(store)
        looks += 1
    if look in (by_table, by_report, by_query):
        assert seen == set((store.said / "over").read_text().split()), look.__name__
    log.write_text(str(looks))


def kept(store: Store) -> set[str]:
    """After the last recovery each run that began has its row, with all that it had said; return the ids."""
    assert not journals(store.root)
    rows, _ = read_rows(store.root, "runs")
    there = hold(rows, store.heard("finished"))
    assert store.heard("begun") <= there <= set(store.ids.values())
    for row in rows:
        epochs, _ = read_rows(store.root, "epochs", [row["run_id"]])
        numbers = {one["epoch"] for one in epochs}
        assert len(numbers) == len(epochs)
        assert {one for one in range(1, EPOCHS + 1) if row["run_id"] in store.heard(f"epoch {one}")} <= numbers
        if row["status"] == "completed":
            assert len(epochs) == EPOCHS
        else:
            assert row["recovered"] and row["epochs_completed"] == len(epochs)
    kinds = {path.suffix for path in store.root.rglob("*") if path.is_file()}
    assert kinds <= {".parquet", ".index", ".tmp"}
    return there


def kill(store: Store, pids: list[int], chance: random.Random) -> None:
    """End processes by SIGKILL, each at its moment: so much has been done by all, which comes anywhere in a run."""
    before, moved, done = len(os.listdir(store.said)), time.monotonic(), 0
    for moment, pid in sorted((chance.randrange(WRITERS * (EPOCHS + 2) // 2), pid) for pid in pids):
        while done < moment and time.monotonic() - moved < STALLED_S:
            time.sleep(0.005 * chance.random())
            if (now := len(os.listdir(store.said)) - before) > done:
                done, moved = now, time.monotonic()
        os.kill(pid, signal.SIGKILL)  # whoever is not yet waited for still has its id


def killed_at_random(folder: Path, seed: int, processes: Processes) -> dict[str, int]:
    """Do all of it once; how often who looked, and how many were killed and have finished."""
    store, chance = Store(folder), random.Random(seed)
    for number in ACCEPTED:
        store.write(number, chance)
    of_that_day = f"run={store.ids[ACCEPTED[0]][:8]}"
    assert ask(baseline.main, "accept", "reason=test", f"results={store.root}", of_that_day)[0] == 0
    for table in ("runs", "epochs"):
        store.torn(table).parent.mkdir(parents=True, exist_ok=True)
        store.torn(table).write_bytes(b"PAR1")
    logs = {look: folder / look.__name__ for look in READERS}
    readers = {
        log: processes.start(lambda look=look, log=log: watch(store, look, log), log) for look, log in logs.items()
    }
    shut, gate = os.pipe()

    def write(number: int) -> None:
        os.close(gate)
        os.read(shut, 1)  # returns once all have been started and the gate is closed
        store.write(number, random.Random(number))

    log = folder / "writer"
    writers = [processes.start(lambda number=number: write(number), log) for number in range(WRITERS)]
    os.close(gate)
    os.close(shut)
    kill(store, [pid for number, pid in enumerate(writers) if number not in SPARED], chance)
    killed = sum(os.WIFSIGNALED(processes.wait(pid)) for pid in writers)
    assert not log.exists(), log.read_text()
    by_recovery(store)
    there = kept(store)
    (store.said / ".over").write_text("\n".join(there))
    (store.said / ".over").rename(store.said / "over")
    failed = [log for log, pid in readers.items() if processes.wait(pid)]
    assert not failed, "\n".join(log.read_text() for log in failed)
    assert kept(store) == there
    looks = {log.name: int(log.read_text()) for log in readers}
    return {**looks, "killed": killed, "finished": len(store.heard("finished")) - len(ACCEPTED)}


def a_round(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an index from the first files on, which is written again for each few."""
    monkeypatch.setattr(files, "INDEXED_FROM", 2)
    monkeypatch.setattr(gather, "UNINDEXED", 4)
    with Processes() as processes:
        found = killed_at_random(folder, seed, processes)
    print(f"\n{found}")
    assert min(found.values()) > 2 and found["killed"] >= len(DOOMED) and found["finished"] >= len(SPARED), found


@pytest.mark.slow
def test_no_reader_fails_and_no_finished_run_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_round(tmp_path, 1, monkeypatch)


@pytest.mark.soak
def test_nor_in_twenty_rounds_at_other_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = time.time_ns()
    print(f"\nkilled writers: the first seed is {first}")
    for seed in range(first, first + 20):
        (tmp_path / str(seed)).mkdir()
        a_round(tmp_path / str(seed), seed, monkeypatch)
