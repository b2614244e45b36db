"""Ends a small run in one of the ways that runs end, at some moment, and says what is wrong with what it leaves."""

import contextlib
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from recomputed import differences

from results.store.files import read_rows
from results.store.journal import read

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 6
WORDS = (
    "depth=8", "dataset=digits", "batch=16", "engine=ddp", "ranks_per_node=2", f"epochs={EPOCHS}", "target=0.3",
)  # fmt: skip
LEAST_S, MOST_S = 0.0, 3.0  # after the epoch that is waited for
PATIENCE_S = 90.0  # within which a run has to have ended

# What is done, by name, and the causes that the row may then give. Which of two true ones it is can be a matter of
# milliseconds: a rank that is killed is missed by the launcher or by the other rank first.
LAUNCHER_GONE = r"the launcher \(process \d+\) is gone"
KILLED = r"was killed by signal 9 \(SIGKILL\)"
LOST = {
    0: rf"rank 0 {KILLED}|ranks? 0(, 1)? (is|are) gone",
    1: rf"rank 1 ({KILLED}|is gone|\(\S+\) ended without a word: .+)|another rank is gone: .+|rank 1 has been silent.*",
}
WAYS: dict[str, tuple[str, str]] = {
    "kill rank 0": ("rank_lost", LOST[0]),
    "kill rank 1": ("rank_lost", LOST[1]),
    "kill launcher": ("interrupted", LAUNCHER_GONE),
    "stop rank 0": ("interrupted", "rank 0 was stopped by SIGTERM"),
    "stop rank 1": ("interrupted", "rank 1 was stopped by SIGTERM"),
    "stop launcher": ("interrupted", "the launcher was stopped by SIGTERM"),
    "hang up launcher": ("interrupted", "the launcher was stopped by SIGHUP, as a terminal sends it that closes"),
    "interrupt launcher": ("interrupted", "the launcher was stopped by SIGINT, as Ctrl-C sends it"),
    "interrupt at terminal": ("interrupted", "the launcher was stopped by SIGINT, as Ctrl-C sends it"),
    "interrupt twice at terminal": ("interrupted", "the launcher was stopped by SIGINT, as Ctrl-C sends it"),
    "close terminal": ("interrupted", r"the terminal of the launcher was closed \(SIGHUP\)"),
}


@dataclass(frozen=True)
class Moment:
    """When a run is ended: so many seconds after an epoch is over, or (None) after the launcher has begun."""

    epoch: int | None
    seconds: float

    @classmethod
    def drawn(cls, draw: random.Random) -> "Moment":
        if draw.random() < 0.15:
            return cls(None, draw.uniform(0.5, 8.0))
        return cls(draw.randrange(EPOCHS), draw.uniform(LEAST_S, MOST_S))


def end_one(folder: Path, way: str, moment: Moment, words: Sequence[str] = ()) -> list[str]:
    """Start a run, end it, and return what is wrong; nothing is left of its processes."""
    folder.mkdir()
    terminal, ours = pty.openpty()
    command = [sys.executable, str(ROOT / "launch" / "local.py"), *WORDS, *words, f"results={folder}/rows"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    environment.pop("RESNET_BENCH_PROGRESS", None)
    launcher = subprocess.Popen(
        command, env=environment, cwd=folder, stdin=ours, stdout=ours, stderr=ours, preexec_fn=_take_terminal,
        start_new_session=True,
    )  # fmt: skip
    os.close(ours)
    reader = subprocess.Popen(["cat"], stdin=terminal, stdout=(folder / "screen").open("wb"), stderr=subprocess.DEVNULL)
    try:
        _wait_for(folder, launcher, moment)
        family = _family(folder)
        if launcher.poll() is None:
            _do(way, launcher, terminal, reader, folder)
        deadline = time.monotonic() + PATIENCE_S
        while (launcher.poll() is None or _alive(family)) and time.monotonic() < deadline:
            time.sleep(0.1)
        wrong = [f"process {each.pid} is left: {' '.join(each.cmdline())[:200]}" for each in _alive(_family(folder))]
        return wrong + _judged(folder, way, begun=moment.epoch is not None)
    finally:
        for each in _alive(_family(folder)):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        for process in (launcher, reader):
            process.kill()
            process.wait()
        with contextlib.suppress(OSError):
            os.close(terminal)


def _take_terminal() -> None:
    """In the child: make stdin the terminal of its session, and undo what the tests were started to ignore."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait_for(folder: Path, launcher: "subprocess.Popen[bytes]", moment: Moment) -> None:
    if moment.epoch is not None:
        deadline = time.monotonic() + 180
        sign = '"event": "epoch"' if moment.epoch else '"event": "start"'
        while launcher.poll() is None and time.monotonic() < deadline:
            texts = [path.read_text() for path in folder.glob("rows/jobs/*/progress.jsonl")]
            if any(text.count(sign) >= max(moment.epoch, 1) for text in texts):
                break
            time.sleep(0.02)
    time.sleep(moment.seconds)


def _do(
    way: str, launcher: "subprocess.Popen[bytes]", terminal: int, reader: "subprocess.Popen[bytes]", folder: Path
) -> None:
    what, _, whom = way.partition(" ")
    if way.startswith("interrupt") and whom.endswith("at terminal"):
        os.write(terminal, b"\x03")
        if "twice" in whom:
            time.sleep(1.2)
            with contextlib.suppress(OSError):
                os.write(terminal, b"\x03")
        return
    if way == "close terminal":
        reader.kill()
        reader.wait()
        os.close(terminal)
        return
    number = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "hang": signal.SIGHUP, "interrupt": signal.SIGINT}[what]
    if whom.startswith("rank"):
        for each in _family(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.environ().get("SUBMITIT_LOCAL_GLOBALID") == whom[-1] and "_submit" in " ".join(each.cmdline()):
                    each.send_signal(number)
                    return
        return  # there is no such rank yet, or any more
    launcher.send_signal(number)


def _family(folder: Path) -> list[psutil.Process]:
    """Every process that runs in the folder: the launcher, its ranks, and whatever these start."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.pid != os.getpid() and each.cwd() == str(folder):
                found.append(each)
    return found


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                alive.append(each)
    return alive


def _judged(folder: Path, way: str, *, begun: bool) -> list[str]:
    """What is wrong with the rows that a run has left."""
    wrong = []
    root = folder / "rows"
    for path in root.glob("journal/*.jsonl"):
        with path.open("rb") as file:
            wrong.append(f"a journal is left, of {read(file, path.name).last_at}")
    rows, _ = read_rows(root, "runs")
    if begun and not rows:
        wrong.append("there is no row")
    kind, message = WAYS[way]
    for row in rows:
        if row["status"] == "completed":
            continue
        said = re.sub(r" \(last line of the journal at .*\)$", "", row["failure_message"])
        if row["failure_kind"] != kind or not re.fullmatch(message, said):
            wrong.append(f"cause: {row['status']} ({row['failure_kind']}): {row['failure_message']}")
    return wrong + differences(root)
