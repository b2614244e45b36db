"""A save= path has one writer: a second one is refused while the first lives, on this machine or another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.config.paths import ROOT
from bench.training.checkpoint import writer
from bench.training.checkpoint.folder import CheckpointError
from bench.training.checkpoint.writer import Writer, refuse_if_taken
from results.store.journal import Owner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def marker(path: Path) -> Path:
    return path.with_name("w.checkpoints") / "writer.json"


def leave(path: Path, age_s: float = 0.0, **owner: object) -> None:
    """A marker of another process, last touched some time ago."""
    mine = Owner.of_this_process()
    values = {"hostname": mine.hostname, "boot_id": mine.boot_id, "pid_namespace": mine.pid_namespace, "pid": mine.pid,
              "started": mine.started} | owner  # fmt: skip
    marker(path).parent.mkdir(exist_ok=True)
    marker(path).write_text(json.dumps({"attempt": "other.0", "owner": values, "token": "t"}))
    os.utime(marker(path), (time.time() - age_s,) * 2)


def test_a_live_writer_is_named_with_its_process_and_host(path: Path) -> None:
    first = Writer(str(path), "first.0")
    for second in (lambda: Writer(str(path), "second.0"), lambda: refuse_if_taken(str(path))):
        with pytest.raises(CheckpointError) as raised:
            second()
        said = f"save={path}: run first.0 writes there (process {os.getpid()} on {Owner.of_this_process().hostname}, "
        assert str(raised.value).startswith(said) and "\n" not in str(raised.value)
    first.check()
    first.release()
    assert not marker(path).parent.exists()  # it had written nothing
    refuse_if_taken(str(path))
    Writer(str(path), "second.0").release()


def test_a_pipe_that_came_after_the_plan_stays_one(path: Path) -> None:
    os.mkfifo(path)
    for claim in (lambda: Writer(str(path), "first.0"), lambda: refuse_if_taken(str(path))):
        with pytest.raises(
            CheckpointError, match=f"^save={path}: a pipe \\(FIFO\\), and weights would take its place; "
        ):
            claim()
    assert path.is_fifo() and [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_killed_writer_is_replaced_at_once(path: Path) -> None:
    code = f"""
import time
from bench.training.checkpoint.writer import Writer
held = Writer({str(path)!r}, "first.0")
print("held", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    with pytest.raises(CheckpointError, match=f"run first.0 writes there .process {process.pid} on "):
        Writer(str(path), "second.0")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    refuse_if_taken(str(path))
    second = Writer(str(path), "second.0")
    assert json.loads(marker(path).read_text())["attempt"] == "second.0"
    second.release()


@pytest.mark.parametrize(
    ("age_s", "owner", "taken"),
    [
        (89.0, {"hostname": "elsewhere"}, True),
        (91.0, {"hostname": "elsewhere"}, False),
        (89.0, {"boot_id": "another"}, True),
        (91.0, {"boot_id": "another"}, False),
        (89.0, {"pid_namespace": "another container's"}, True),
        (-30.0, {"hostname": "elsewhere"}, True),  # its clock was ahead
        (1e6, {}, True),  # stopped, but alive: it may go on
        (0.0, {"started": "1"}, False),  # another process has its number now
        (0.0, {"pid": 2**22 + 1}, False),
    ],
)
def test_a_heartbeat_counts_where_the_process_cannot_be_looked_up(
    path: Path, age_s: float, owner: dict[str, object], taken: bool
) -> None:
    leave(path, age_s, **owner)
    if taken:
        with pytest.raises(CheckpointError, match="run other.0 writes there"):
            refuse_if_taken(str(path))
        with pytest.raises(CheckpointError, match=r"run other.0 writes there \(process .*; save elsewhere, or wait"):
            Writer(str(path), "second.0")
        assert json.loads(marker(path).read_text())["attempt"] == "other.0"
    else:
        refuse_if_taken(str(path))
        Writer(str(path), "second.0").release()
        assert not marker(path).exists()
    left = [entry.name for entry in path.parent.rglob("*") if entry.name not in ("w.checkpoints", "writer.json")]
    assert left == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"owner": 5}', '{"owner": {"pid": "x"}}', "\ud800"])
@pytest.mark.parametrize("age_s", [0.0, 91.0])
def test_a_marker_that_cannot_be_read_counts_by_its_age(path: Path, text: str, age_s: float) -> None:
    leave(path)
    marker(path).write_bytes(text.encode("utf-8", "surrogatepass"))
    os.utime(marker(path), (time.time() - age_s,) * 2)
    if age_s:
        Writer(str(path), "second.0").release()
    else:
        with pytest.raises(CheckpointError, match="another run writes there .an unreadable marker, "):
            Writer(str(path), "second.0")


def test_a_writer_gives_signs_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < 4 * writer.BEAT_S <= writer.STALE_S == 90
    monkeypatch.setattr(writer, "BEAT_S", 0.02)
    held = Writer(str(path), "first.0")
    os.utime(marker(path), (1.0, 1.0))
    deadline = time.monotonic() + 20
    while marker(path).stat().st_mtime < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert time.time() - marker(path).stat().st_mtime < 60
    held.release()
    assert not marker(path).exists()


def test_a_writer_that_was_replaced_writes_no_more(path: Path) -> None:
    held = Writer(str(path), "first.0")
    leave(path)
    with pytest.raises(CheckpointError, match="run other.0 has taken it over while this run gave no sign of life"):
        held.check()
    held.release()
    assert json.loads(marker(path).read_text())["attempt"] == "other.0"  # which is not ours to remove


def test_a_marker_that_was_deleted_is_set_again(path: Path) -> None:
    held = Writer(str(path), "first.0")
    marker(path).unlink()
    held.check()
    with pytest.raises(CheckpointError, match="first.0"):
        refuse_if_taken(str(path))
    shutil.rmtree(marker(path).parent)
    marker(path).parent.mkdir()
    held.check()
    held.release()


@pytest.mark.parametrize("dead", [False, True])
def test_of_many_at_once_one_writes(path: Path, dead: bool) -> None:
    """Also where the marker of a dead one lies there."""
    if dead:
        leave(path, pid=2**22 + 1)
    held: list[Writer] = []
    refused: list[CheckpointError] = []
    start = threading.Barrier(8)

    def claim(number: int) -> None:
        start.wait()
        try:
            held.append(Writer(str(path), f"run-{number}.0"))
        except CheckpointError as error:
            refused.append(error)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    held[0].check()
    held[0].release()


def test_who_comes_late_takes_no_marker_but_that_of_the_dead(path: Path) -> None:
    leave(path, pid=2**22 + 1)
    seen = marker(path).read_text()
    held = Writer(str(path), "first.0")
    held._take_away(seen)  # as one does that had looked before
    held.check()
    assert sorted(os.listdir(marker(path).parent)) == ["writer.json"]
    held.release()


def test_who_died_while_it_took_a_marker_away_is_waited_for_so_long_and_no_longer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, pid=2**22 + 1)
    with monkeypatch.context() as patch:  # killed before it removes the marker
        unlink = Path.unlink

        def die(self: Path, missing_ok: bool = False) -> None:
            if self == marker(path):
                raise KeyboardInterrupt
            unlink(self, missing_ok)

        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            Writer(str(path), "first.0")
    (ticket,) = set(marker(path).parent.iterdir()) - {marker(path)}
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.utime(ticket, (time.time() - writer.STALE_S,) * 2)

    monkeypatch.setattr(writer.time, "sleep", wait)
    Writer(str(path), "second.0").release()
    assert len(waits) == 4 and not marker(path).parent.exists()


@pytest.mark.parametrize("what", ["link", "file"])
def test_a_home_that_is_no_folder_of_its_own_is_refused(path: Path, tmp_path: Path, what: str) -> None:
    home = path.with_name("w.checkpoints")
    home.symlink_to(tmp_path) if what == "link" else home.touch()
    for attempt in (lambda: refuse_if_taken(str(path)), lambda: Writer(str(path), "first.0")):
        with pytest.raises(CheckpointError, match=f"its checkpoints go to {home}, which is (a link|not a folder)"):
            attempt()
