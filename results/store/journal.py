"""What a running attempt leaves on disk: JSON lines that name their writer and can be read after any death.

The first line appears whole or not at all. It holds the row of `runs` so far (status "running"), the month of the
attempt's files and the owner (host, process, start of the process), from which others tell whether it still lives.
"""

import contextlib
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from results.durable import publish, temporary_beside
from results.store.row_json import EPOCH, MICROSECOND, from_json, to_json
from results.store.schema import Row, clean_column, clean_row, merge

VERSION = 1
OWNER = "owner.json"  # of a folder under jobs/ that a command has for itself while it goes
_STEPS = re.compile(rb'{"kind":"steps","at_us":(\d+),.*}\n')
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


class JournalError(ValueError):
    """A journal that cannot be read, or not be written."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that writes a journal.

    Attributes:
        hostname: of its machine.
        boot_id: of its kernel's present boot ("" where unknown), so that two machines of one name are told apart.
        pid_namespace: in which `pid` counts ("" where unknown); two containers may share a host name.
        pid: process id.
        started: start of the process in ticks since boot ("" where unknown), as process ids are used again.
    """

    hostname: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: str

    @classmethod
    def of_this_process(cls) -> "Owner":
        return cls(pid=os.getpid(), started=_process_started(os.getpid()) or "", **_place())

    @classmethod
    def of(cls, folder: Path) -> "Owner | None":
        """Return the process whose folder it is; None where the folder does not say, or is gone."""
        try:
            return cls(**json.loads((folder / OWNER).read_text()))
        except (OSError, TypeError, ValueError):
            return None

    def lives(self) -> bool | None:
        """Whether the process lives; None where that cannot be seen from here."""
        if {key: getattr(self, key) for key in ("hostname", "boot_id", "pid_namespace")} != _place():
            return None
        if self.started:
            return _process_started(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def _place() -> dict[str, str]:
    boot_id = pid_namespace = ""
    with contextlib.suppress(OSError):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        pid_namespace = os.readlink("/proc/self/ns/pid")
    return {"hostname": socket.gethostname(), "boot_id": boot_id, "pid_namespace": pid_namespace}


def _process_started(pid: int) -> str | None:
    """Start of a live process (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, field 22)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold spaces
    return None if fields[0] in "ZX" else fields[19]  # a zombie is dead, only not yet waited for


class Journal:
    """The writing side.

    Args:
        path: where the journal appears; its folder is made.
        row: the checked row of `runs`.
        month: "YYYY-MM", the partition of the attempt's files.

    Raises:
        JournalError: the journal exists already.
    """

    def __init__(self, path: Path, row: Row, month: str) -> None:
        self.path = path
        self._torn = False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        try:
            header = {"version": VERSION, "owner": asdict(Owner.of_this_process()), "month": month}
            self.append("run", {**header, "row": to_json("runs", row)}, sync=True)
            publish(temporary, path)
        except BaseException as error:
            self.close()
            temporary.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise JournalError(
                    f"{path}: exists already: another process writes this attempt, or one died in it "
                    f"(python -m results.recover results={path.parent.parent})"
                ) from None
            raise

    def append(self, kind: str, payload: Mapping[str, Any], *, sync: bool) -> None:
        """Write one line in one call, so that a killed process tears at most the last one.

        Raises:
            OSError: the disk is full or gone.
        """
        line = json.dumps({"kind": kind, "at_us": time.time_ns() // 1000, **payload}, separators=(",", ":")).encode()
        data = (b"\n" if self._torn else b"") + line + b"\n"
        self._torn = True  # until the whole line is out: the next one then starts on a line of its own
        written = os.write(self._fd, data)
        while written < len(data):
            written += os.write(self._fd, data[written:])
        self._torn = False
        if sync:
            os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def encode_steps(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Check rows of `steps` and packs them by column: a third of the size and time of one object a row.

    Raises:
        ValueError: as `clean_row`.
    """
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row))
    packed = {column: clean_column("steps", column, [row.get(column) for row in rows]) for column in columns}
    return {"count": len(rows), "columns": packed}


@dataclass
class Contents:
    """A journal, read: everything but the steps, which may be many.

    Attributes:
        row: the row of `runs` as last journalled.
        last_at: time of the last whole line.
        unreadable: lines that are not whole, the last one (torn by the death) not counted.
        finished: the run had ended by itself; only its files are missing.
    """

    owner: Owner
    month: str
    row: Row
    last_at: datetime
    epochs: list[Row] = field(default_factory=list)
    systems: list[Row] = field(default_factory=list)
    unreadable: int = 0
    finished: bool = False


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines from the start of the file; a torn last one is left out."""
    file.seek(0)
    for line in file:
        if line.endswith(b"\n") and line.strip():
            yield line


def open_journal(path: Path) -> BinaryIO:
    """Open a journal for reading.

    Raises:
        JournalError: it is no file, such as a pipe, which would be waited for.
        OSError: it cannot be opened.
    """
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise JournalError(f"{path.name}: not a file")
    return file


def read(file: BinaryIO, name: str) -> Contents:
    """Read a journal from its start.

    Args:
        file: open for reading.
        name: for messages.

    Raises:
        JournalError: the first line is not that of a journal of this version.
    """
    lines = _lines(file)
    try:
        first = json.loads(next(lines, b"null"))
        if not isinstance(first, dict) or first.get("kind") != "run" or first.get("version") != VERSION:
            raise ValueError(f"expected a first line of kind run and version {VERSION}")
        row = from_json("runs", first["row"])
        if not re.fullmatch(r"\d{4}-\d{2}", str(first["month"]), re.ASCII):  # part of a path
            raise ValueError(f"month {first['month']!r:.40}: expected YYYY-MM")
        contents = Contents(Owner(**first["owner"]), str(first["month"]), row, _time(first["at_us"]))
    except _MALFORMED as error:
        raise JournalError(f"{name}: not a journal ({type(error).__name__}: {error})") from None
    for line in lines:
        try:
            if steps := _STEPS.match(line):  # their values are for `read_steps`
                contents.last_at = _time(int(steps[1]))
            else:
                _apply(contents, json.loads(line))
        except _MALFORMED:
            contents.unreadable += 1
    return contents


def _apply(contents: Contents, line: dict[str, Any]) -> None:
    kind = line["kind"]
    if kind in ("update", "finish"):
        contents.row = merge("runs", contents.row, from_json("runs", line["row"]))
        contents.finished = kind == "finish"
    elif kind == "epoch":
        contents.epochs.append(clean_row("epochs", line["row"]))
    elif kind == "checkpoint":
        row = clean_row("epochs", line["row"])
        (at,) = (index for index, epoch in enumerate(contents.epochs) if epoch["epoch"] == row["epoch"])
        contents.epochs[at] |= row
    elif kind == "system":
        contents.systems.append(clean_row("system", line["row"]))
    else:
        raise ValueError(f"{kind}: no such kind of line")
    contents.last_at = _time(line["at_us"])


def read_steps(file: BinaryIO) -> Iterator[dict[str, list[Any]]]:
    """Read steps, batch by batch: values by column, all of one length; malformed batches are left out."""
    for line in _lines(file):
        if _STEPS.match(line):
            with contextlib.suppress(*_MALFORMED):
                yield _columns(json.loads(line))


def _columns(line: dict[str, Any]) -> dict[str, list[Any]]:
    columns = line["columns"]
    if any(len(values) != line["count"] for values in columns.values()):
        raise ValueError("columns of different lengths")
    return {column: clean_column("steps", column, values) for column, values in columns.items()}


def _time(at_us: int) -> datetime:
    return EPOCH + at_us * MICROSECOND
