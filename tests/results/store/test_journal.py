"""Journals: cheap to write, readable after any death, clear about who writes them."""

import json
import os
import subprocess
import sys
import time

import pytest

from results.store import journal
from results.store.journal import Journal, JournalError, Owner, encode_steps, read, read_steps

EPOCH = {"run_id": "r", "restart": 0, "epoch": 1, "loss": 1.0}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "journal" / "r.0.jsonl"
    log = Journal(path, {"run_id": "r", "restart_count": 0, "status": "running"}, "2026-11")
    log.append("steps", encode_steps([{"rank": 0, "step": index, "step_ms": 1.5} for index in range(3)]), sync=False)
    log.append("epoch", {"row": EPOCH}, sync=True)
    log.append("steps", encode_steps([{"rank": 0, "step": 3, "loss": float("inf")}]), sync=False)
    log.close()
    return path


def contents(path):
    with path.open("rb") as file:
        found = read(file, path.name)
        return found, [step for columns in read_steps(file) for step in columns["step"]]


def test_what_was_written_is_read(written):
    found, steps = contents(written)
    assert (found.month, found.row["status"], found.epochs, found.unreadable) == ("2026-11", "running", [EPOCH], 0)
    assert steps == [0, 1, 2, 3] and not found.finished
    assert found.owner == Owner.of_this_process()
    assert json.loads(written.read_bytes().splitlines()[-1])["at_us"] == (found.last_at.timestamp() * 1e6)


def test_any_torn_end_loses_the_last_line_only(written):
    whole = written.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[0], len(whole)):
        written.write_bytes(whole[:cut])
        found, steps = contents(written)
        lines = sum(end <= cut for end in ends)
        assert (len(steps), len(found.epochs), found.unreadable) == ([0, 3, 3, 4][lines - 1], int(lines > 2), 0)
    for cut in (0, 1, ends[0] - 1):
        written.write_bytes(whole[:cut])
        with pytest.raises(JournalError, match="not a journal"):
            contents(written)


def test_spoilt_lines_inside_are_counted_and_passed_over(written):
    lines = written.read_bytes().splitlines(keepends=True)
    wrong = b'{"kind":"epoch","at_us":1,"row":{"loss":"x"}}\n'
    spoilt = [b'{"kind":"epo\n', b"\x00\xff\n", b"[1]\n", wrong, b'{"kind":"x"}\n']
    written.write_bytes(b"".join([*lines[:2], *spoilt, b"\n", *lines[2:]]))
    found, steps = contents(written)
    assert (found.unreadable, steps, found.epochs) == (5, [0, 1, 2, 3], [EPOCH])


def test_a_line_after_a_torn_write_stands_alone(tmp_path, monkeypatch):
    log = Journal(tmp_path / "journal" / "r.0.jsonl", {"run_id": "r"}, "2026-11")
    real = os.write

    def full(fd, data):
        real(fd, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.append("epoch", {"row": EPOCH}, sync=False)
    monkeypatch.setattr(os, "write", real)
    log.append("epoch", {"row": EPOCH}, sync=False)
    found, _ = contents(log.path)
    assert (len(found.epochs), found.unreadable) == (1, 1)


@pytest.mark.parametrize("line", [b"{}\n", b'{"kind":"run","version":2}\n', b"[]\n", b"null\n", b"\xff\n"])
def test_a_foreign_first_line_is_refused(written, line):
    written.write_bytes(line)
    with pytest.raises(JournalError, match=r"r\.0\.jsonl: not a journal"):
        contents(written)


def test_an_owner_lives_until_its_process_ends():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    place = journal._place()
    owner = Owner(pid=child.pid, started=journal._process_started(child.pid) or "", **place)
    assert owner.lives() is True
    assert Owner(**{**vars(owner), "started": owner.started and "1"}).lives() is (None if not owner.started else False)
    child.kill()
    limit = time.monotonic() + 10
    while owner.lives() and time.monotonic() < limit:  # dead as soon as it is a zombie, waited for or not
        time.sleep(0.01)
    assert owner.lives() is False
    child.wait()
    child.stdin.close()
    assert owner.lives() is False


@pytest.mark.parametrize("part", ["hostname", "boot_id", "pid_namespace"])
def test_an_owner_elsewhere_cannot_be_seen(part):
    assert Owner(**{**vars(Owner.of_this_process()), part: "elsewhere"}).lives() is None


def test_fifty_steps_cost_little(tmp_path):
    log = Journal(tmp_path / "journal" / "r.0.jsonl", {"run_id": "r"}, "2026-11")
    rows = [
        {
            "rank": 0,
            "step": index,
            "t_ns": index,
            "step_ms": 12.345678,
            "data_ms": 0.123456,
            "compute_ms": 12.2,
            "comm_ms": None,
            "loss": 1.234567,
        }
        for index in range(50)
    ]
    samples = []
    for _ in range(200):
        start = time.perf_counter()
        log.append("steps", encode_steps(rows), sync=False)
        samples.append(time.perf_counter() - start)
    assert sorted(samples)[100] < 5e-3  # some 0.1 ms on an idle machine


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"kind":"epoch","at_us":1' + b"0" * 30 + b',"row":{"run_id":"r","restart":0,"epoch":2}}']
)
def test_a_line_that_no_writer_wrote_costs_itself_alone(written, line):
    written.write_bytes(written.read_bytes() + line + b"\n")
    found, steps = contents(written)
    assert found.unreadable == 1 and steps == [0, 1, 2, 3]


@pytest.mark.parametrize("change", [{"at_us": 10**30}, {"month": "../../x"}, {"month": "2026-1"}, {"month": None}])
def test_a_first_line_that_cannot_be_is_no_journal(written, change):
    first, *others = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(json.dumps(json.loads(first) | change).encode() + b"\n" + b"".join(others))
    with pytest.raises(JournalError, match="not a journal"):
        contents(written)
