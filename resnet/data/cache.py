"""Where prepared data is kept between runs, written once and whole."""

import contextlib
import fcntl
import glob
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from resnet.data.errors import DataError

_AGAIN_S = 0.2  # between two looks at whether another process has done it
_MOVES = "XDG_CACHE_HOME=FOLDER, a variable, says where"


def cache_root() -> Path:
    """Return `${XDG_CACHE_HOME:-~/.cache}/resnet-bench` (not created).

    Raises:
        DataError: The user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if base.startswith("~"):
        raise DataError(f"no home folder to keep prepared data in: {_MOVES}")
    return Path(base) / "resnet-bench"


def check_place(target: Path) -> None:
    """See that what is not in the cache yet can be written there.

    Raises:
        DataError: It cannot; one line that names the folder, and the variable that moves it.
    """
    if os.path.exists(target):
        return
    # Not Path.exists, which raises where a folder may not even be looked into.
    there = next(part for part in target.parents if os.path.exists(part))
    if not (os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)):
        raise DataError(
            f"{target.parent}: {there} cannot be written to, and data is prepared there for all runs: {_MOVES}"
        )


def _taken(handle: IO[str]) -> bool:
    """Take the lock of a file if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold an exclusive lock beside `path`; file systems without locks do the work twice instead.

    Yields:
        Whether the lock is held.
    """
    with open(path.with_name(path.name + ".lock"), "a") as handle:
        locked = told = False
        with contextlib.suppress(OSError):
            while not (locked := _taken(handle)):
                if not told:
                    waiting()
                told = True
                time.sleep(_AGAIN_S)  # waiting in the kernel would look like a disk that does not answer
        yield locked


def publish(target: Path, build: Callable[[Path], None], waiting: Callable[[], None] = lambda: None) -> Path:
    """Make `target` appear whole or not at all, once, whoever else tries at the same time.

    What a process that was killed left half made is removed by the next one.

    Args:
        target: The file or folder to make. Returned untouched where it exists already.
        build: Writes the file or folder at the temporary path it is given (beside `target`, not existing yet).
        waiting: Called where another process is at it, before its end is waited for.

    Returns:
        `target`. A process that waited for another's lock, or lost the race without one, returns the winner's.

    Raises:
        DataError: See `check_place`.
    """
    if os.path.exists(target):
        return target
    check_place(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.{socket.gethostname()}."
    with _locked(target, waiting) as locked:
        if target.exists():
            return target
        if locked:  # whoever made these on this host is gone, or the lock would be its
            for left in target.parent.glob(f"{glob.escape(prefix)}????????"):
                shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        try:
            made = scratch / target.name
            build(made)
            try:
                os.rename(made, target)
            except OSError:
                # Another process, on a file system without locks, was first: a folder that is not empty stays.
                if not target.exists():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target
