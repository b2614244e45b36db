"""Files that appear whole or not at all, and stay after a crash."""

import errno
import io
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["NO_LINKS", "create_file", "publish", "replace_file", "special_file", "sync_folder", "temporary_beside"]

# Errors of filesystems without hard links.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file in place of one that has its name; what is no file of its own is written to as it is.

    Args:
        path: of the file; its folder exists. A device, a pipe, or the name that /dev or /proc has for an open file
            stays what it is, and gets all that is written once that is whole.
        write: gets the open file.

    Raises:
        OSError: the disk refuses; what was there before is still whole.
    """
    if _stays(path):
        whole = io.BytesIO()  # what is written may seek, and a pipe cannot
        write(whole)
        with path.open("ab", buffering=0) as file:
            left = whole.getbuffer()
            while left:
                left = left[file.write(left) :]
        return
    temporary = _written(path, write)
    try:
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _stays(path: Path) -> bool:
    if path.exists() and not path.is_file():
        return True
    name = os.path.join(os.path.realpath(path.parent), path.name)
    shown = os.readlink(name) if os.path.islink(name) else ""  # /dev/stdout is a link to /proc/self/fd/1
    return name.startswith("/proc/") or shown.startswith("/proc/")


def special_file(mode: int) -> str:
    """What something in a file system is that is neither a file nor a folder; empty where it is one.

    Args:
        mode: of its status. To open it may wait for ever, and to rename a file over it takes it away.
    """
    kinds = {
        stat.S_IFIFO: "a pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "")


def create_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file unless its name is taken.

    Args:
        path: of the file; its folder exists.
        write: gets the open file.

    Raises:
        FileExistsError: `path` exists; it is as it was.
        OSError: the disk refuses.
    """
    publish(_written(path, write), path)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no other writer takes and no reader takes for a file."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _written(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """A synced file of another name in the same folder; gone where it could not be written."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def publish(temporary: Path, path: Path) -> None:
    """Give a written and synced file its name, unless the name is taken, and sync the folder.

    Raises:
        FileExistsError: `path` exists; it is untouched. The temporary file is gone either way.
    """
    try:
        os.link(temporary, path)  # never overwrites, unlike a rename
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # claim the name, then rename over it
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)  # an empty file would look like one that was written
            raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the filesystem lets a folder be synced."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some filesystems sync files alone; names last there as they may
            raise
    finally:
        os.close(fd)
