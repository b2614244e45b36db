"""Where prepared data is kept between runs, written once and whole."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_root() -> Path:
    """Return `${XDG_CACHE_HOME:-~/.cache}/resnet-bench` (not created)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "resnet-bench"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock beside `path`; file systems without locks do the work twice instead."""
    with open(path.with_name(path.name + ".lock"), "a") as handle:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def publish(target: Path, build: Callable[[Path], None]) -> Path:
    """Make `target` appear whole or not at all, once, whoever else tries at the same time.

    Args:
        target: The file or folder to make. Returned untouched where it exists already.
        build: Writes the file or folder at the temporary path it is given (beside `target`, not existing yet).

    Returns:
        `target`. A process that waited for another's lock, or lost the race without one, returns the winner's.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if target.exists():
            return target
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
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
