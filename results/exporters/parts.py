"""A folder that is filled out of sight, and leaves nothing behind where its process dies."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["part_of"]


@contextlib.contextmanager
def part_of(folder: Path, run_id: str) -> Iterator[Path]:
    """Give a new folder beside those that are whole; what is in it at the end is removed.

    Those of processes of this machine that are gone are removed too: a reader would take them for runs.

    Args:
        folder: is made if need be.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{run_id}.*"):
        pid = left.name.rpartition(".")[2]
        if not (pid.isdecimal() and os.path.exists(f"/proc/{pid}")):
            shutil.rmtree(left, ignore_errors=True)
    part = folder / f".{run_id}.{os.getpid()}"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
