"""A folder that is filled out of sight, and leaves nothing behind where its process dies."""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

__all__ = ["gone", "part_of", "this_process"]


def this_process(pid: str = "") -> tuple[str, str]:
    """Return the host, and the process that is named or this one."""
    return socket.gethostname(), pid or str(os.getpid())


def gone(host: str, pid: str) -> bool:
    """Whether a process of this host has ended; no where that cannot be seen from here."""
    return host == socket.gethostname() and not (pid.isdecimal() and os.path.exists(f"/proc/{pid}"))


@contextlib.contextmanager
def part_of(folder: Path, run_id: str) -> Iterator[Path]:
    """Give a new folder beside those that are whole; what is in it at the end is removed.

    Those of processes of this host that are gone are removed too: a reader would take them for runs. Of other hosts,
    which may share the folder, nobody can say.

    Args:
        folder: is made if need be.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = f".{run_id}.{this_process()[0]}."
    for name in os.listdir(folder):
        if name.startswith(own) and gone(*this_process(name.removeprefix(own))):
            shutil.rmtree(folder / name, ignore_errors=True)
    part = folder / f"{own}{os.getpid()}"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
