"""Follows a sweep until its cells are over, and the logs of one cell until its job is."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from launch.sweep import table
from launch.sweep.account import ask
from launch.sweep.evidence import logs_of
from launch.sweep.status import CellState, SweepState
from results.words import ConfigError, printable

__all__ = ["ALL_COMPLETED", "NOT_ALL_COMPLETED", "tail", "wait"]

ALL_COMPLETED, NOT_ALL_COMPLETED = 0, 1
EVERY_S = 10.0  # between two looks: each asks the controller, which others need too
LATE_S = 60.0  # for which a shared folder may not show a row that another machine has written
READ_S = 0.5  # between two looks at a log
HEADS_AND_NOTES = 12  # lines of a terminal that are not the table's


def wait(look: Callable[[], SweepState], every_s: float = EVERY_S, late_s: float = LATE_S) -> int:
    """Look at a sweep until all its cells are over; show a table that changes on a terminal, and lines elsewhere.

    Args:
        look: at the sweep, from its manifest on: a retry in the meantime is waited for as well.

    Returns:
        `ALL_COMPLETED`, or `NOT_ALL_COMPLETED` where a cell is over otherwise, or nobody knows what became of it.
    """
    before: SweepState | None = None
    told = ""
    over_since: float | None = None
    live = _Table() if sys.stdout.isatty() else None
    try:
        while True:
            now = look()
            if live:
                live.show(now)
            else:
                if before is None:
                    print(printable(table.summary(now)))
                for text in table.changes(before, now):
                    print(table.stamp(text))
                sys.stdout.flush()
            silent = "" if now.account.queue else "; ".join(now.account.notices)
            if silent and silent != told and not live:
                print(
                    printable(f"launch: {silent}: waiting until it does; Ctrl-C ends this command alone"),
                    file=sys.stderr,
                )
            told = silent
            before = now
            if now.over:
                over_since = time.monotonic() if over_since is None else over_since
                if "unknown" not in now.counts() or time.monotonic() - over_since >= late_s:
                    break
            else:
                over_since = None
            time.sleep(every_s)
    finally:
        if live:
            live.close()
    if live:
        table.write(now, "table")
    else:
        print(printable(table.summary(now)))
    return ALL_COMPLETED if set(now.counts()) == {"completed"} else NOT_ALL_COMPLETED


class _Table:
    """A table that changes in place."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._live.start()

    def show(self, found: SweepState) -> None:
        rows = max(1, (self._console.height or 24) - HEADS_AND_NOTES)
        self._live.update(Group(*table.render(found, rows)), refresh=True)

    def close(self) -> None:
        self._live.stop()


def tail(cell: CellState, rank: int, lines: int = 20) -> int:
    """Print the logs of a cell's newest job, that of its batch script and that of one rank, until the job has ended.

    Args:
        lines: of what is there already.

    Returns:
        0.

    Raises:
        ConfigError: the cell was never submitted.
    """
    if cell.submission is None:
        raise ConfigError(f"{cell.cell.label} was not submitted: it has no log")
    reader = _Logs(Path(cell.log), cell.submission.job_id, rank)
    ended = _ended(cell.submission.job_id)
    print(f"job {cell.submission.job_id} of {printable(cell.cell.label)}: {cell.log}", file=sys.stderr, flush=True)
    first, said, told = lines, False, ""
    while True:
        over, waits = next(ended)
        if waits and waits != told:
            print(f"job {cell.submission.job_id}: {printable(waits)}", file=sys.stderr, flush=True)
        told = waits
        shown = reader.new(first)
        first = -1
        for text in shown:
            sys.stdout.write(text)
        sys.stdout.flush()
        said = said or bool(shown)
        if over:
            break
        time.sleep(READ_S)
    print(f"job {cell.submission.job_id}: {over}{'' if said else '; it left no log'}", file=sys.stderr, flush=True)
    return 0


def _ended(job_id: str) -> Iterator[tuple[str, str]]:
    """Again and again, how a job has ended and why it waits; each empty where it does not. Slurm is asked rarely."""
    asked_s, over, waits = -EVERY_S, "", ""
    while True:
        if time.monotonic() - asked_s >= EVERY_S:
            account = ask([job_id])
            asked_s = time.monotonic()
            job = account.jobs.get(job_id)
            waits = f"{job.state} ({job.reason})" if job is not None and job.phase == "waiting" else ""
            if job is not None and (job.phase == "over" or not job.known):
                over = job.state
            elif job is None and account.queue:
                over = "Slurm knows no such job"
            elif job is None:
                over = f"whether it has ended cannot be seen ({'; '.join(account.notices)})"
        yield over, waits


class _Logs:
    """The logs of a job as they grow, new files among them.

    Args:
        folder: of the logs.
        rank: whose log is read beside that of the batch script.
    """

    def __init__(self, folder: Path, job_id: str, rank: int) -> None:
        self._folder, self._job_id, self._rank = folder, job_id, rank
        self._offsets: dict[Path, int] = {}
        self._shown: Path | None = None

    def new(self, last: int) -> list[str]:
        """Return what has been written since the last call, below the name of its file where that is another.

        Args:
            last: lines of each file that is met for the first time; negative for all.
        """
        texts: list[str] = []
        for path in self.files():
            data = self._read(path, last)
            if data:
                if path != self._shown:
                    texts.append(f"==> {path.name} <==\n")
                    self._shown = path
                texts.append(data)
        return texts

    def files(self) -> Sequence[Path]:
        """The newest log of the batch script, and the newest one of the rank: of the last attempt."""
        kinds = (None, self._rank)
        return [path for rank in kinds for path in logs_of(self._folder, self._job_id, rank)[-1:]]

    def _read(self, path: Path, last: int) -> str:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                offset = self._offsets.get(path, 0)
                if size < offset:  # begun again
                    offset = 0
                file.seek(offset)
                data = file.read()
        except OSError:
            return ""
        self._offsets[path] = offset + len(data)
        if offset == 0 and last >= 0:
            data = b"".join(data.splitlines(keepends=True)[-last:]) if last else b""
        return data.decode(errors="replace")
