"""Folders of checkpoints: each complete or absent, its files with their sizes and SHA-256, the last two kept.

`save=NAME.safetensors` writes, beside that file, the folder NAME.checkpoints. In it each checkpoint is a folder of its
own, written under a hidden name and renamed once it is whole:

    NAME.checkpoints/0003-00000066-RUN.RESTART-xxxx/
        weights.safetensors    loads into `resnet.build`, like every weights file
        momentum.safetensors   of each parameter one tensor of its shape
        state.json             how far the run had come, and what it is (see `bench.training.checkpoint.contents`)
        statistics.safetensors within an epoch: BN's running statistics of each rank, which differ until its end
        manifest.json          size and SHA-256 of each of these
        COMPLETE               SHA-256 of the manifest, written last

NAME.safetensors is the last checkpoint's weights (a hard link, a copy where there are none), whose metadata names the
folder: its rename is what makes a checkpoint the last. A part that a later version adds, such as the position of a
loader, is one more file in the manifest; a reader that does not know it refuses the checkpoint.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

from results.durable import NO_LINKS, replace_file, sync_folder, temporary_beside
from results.words import ConfigError, printable

WEIGHTS, MOMENTUM, STATE = "weights.safetensors", "momentum.safetensors", "state.json"
STATISTICS = "statistics.safetensors"
MANIFEST, COMPLETE = "manifest.json", "COMPLETE"
MANIFEST_VERSION = 1
MOST_TEXT = 1 << 22  # bytes of a file of JSON: that of a run of 100,000 epochs
NAME = re.compile(r"(\d{4,12})-\d{8,16}-([A-Za-z0-9._-]*)\.(\d+)-[0-9a-f]{4}", re.ASCII)  # epoch, run, restart
_TEMPORARY = re.compile(rf"\.{NAME.pattern}\.[0-9a-f]{{8}}\.tmp", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK = 1 << 22


class CheckpointError(ConfigError):
    """A checkpoint cannot be written or resumed from; the message is one line that says why."""


def home_of(weights: Path) -> Path:
    """Where the checkpoints of `save=weights` lie."""
    return weights.parent / f"{weights.stem}.checkpoints"  # a link may lead to a folder without a name, such as /


def new_name(epoch: int, step: int, attempt: str) -> str:
    """A name that no other checkpoint has.

    Args:
        attempt: RUN.RESTART that writes it.
    """
    return f"{epoch:04d}-{step:08d}-{attempt}-{secrets.token_hex(2)}"


def write(weights: Path, name: str, parts: Mapping[str, Callable[[Path], object]]) -> Path:
    """Write a checkpoint and make it the last one of `weights`.

    Args:
        weights: the path that was typed for save=.
        name: from `new_name`.
        parts: by file name what writes that file; `WEIGHTS` is among them.

    Returns:
        Its folder.

    Raises:
        OSError, ValueError: the disk refuses; what was there before is still whole.
    """
    home = home_of(weights)
    home.mkdir(parents=True, exist_ok=True)
    temporary = home / f".{name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        files = {}
        for part, write_part in parts.items():
            write_part(temporary / part)
            size, digest = measure(temporary / part)
            files[part] = {"bytes": size, "sha256": digest}
        manifest = json.dumps({"version": MANIFEST_VERSION, "files": files}, sort_keys=True).encode()
        replace_file(temporary / MANIFEST, lambda file: file.write(manifest))
        marker = hashlib.sha256(manifest).hexdigest().encode() + b"\n"
        replace_file(temporary / COMPLETE, lambda file: file.write(marker))
        os.rename(temporary, home / name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(home)
    sync_folder(home.parent)
    _point(weights, home / name / WEIGHTS)
    return home / name


def _point(weights: Path, target: Path) -> None:
    temporary = temporary_beside(weights)
    try:
        os.link(target, temporary)
        os.replace(temporary, weights)
        sync_folder(weights.parent)
    except OSError as error:
        if error.errno not in (*NO_LINKS, errno.EMLINK):
            raise
        with target.open("rb") as source:
            replace_file(weights, lambda file: shutil.copyfileobj(source, file, _CHUNK))
    finally:
        temporary.unlink(missing_ok=True)


def prune(weights: Path, keep: set[str]) -> None:
    """Remove the checkpoints of `weights` but those that are named, and what killed writers left.

    A checkpoint is renamed before its files go, so that none is ever seen in part. Nothing else is touched.
    """
    home = home_of(weights)
    for entry in sorted(os.listdir(home)):
        if NAME.fullmatch(entry) and entry not in keep:
            gone = home / f".{entry}.{secrets.token_hex(4)}.tmp"
            os.rename(home / entry, gone)
            shutil.rmtree(gone, ignore_errors=True)
        elif _TEMPORARY.fullmatch(entry):
            shutil.rmtree(home / entry, ignore_errors=True)


def others(home: Path, name: str = "") -> list[str]:
    """Names of the checkpoints in a folder of them that have their marker, the latest first, but for one."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.listdir(home):
            if NAME.fullmatch(entry) and entry != name:
                with contextlib.suppress(OSError):
                    found.append((os.stat(home / entry / COMPLETE).st_mtime_ns, entry))
    return [entry for _, entry in sorted(found, reverse=True)]


def verify(folder: Path, known: set[str], optional: Set[str] = frozenset()) -> None:
    """See that a folder is a complete checkpoint: every file is there, of its size and SHA-256, and none is a link.

    Args:
        known: files that the reader understands, which have to be there.
        optional: those that it understands as well, and that need not be there.

    Raises:
        CheckpointError: one line that names the file, without the word that was typed.
    """
    if not NAME.fullmatch(folder.name):
        raise CheckpointError(f"{shown(folder.name)} is no name of a checkpoint")
    for path in (folder.parent, folder):
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}; keep the folder beside its weights file") from None
        if not stat.S_ISDIR(mode):
            raise CheckpointError(f"{path}: not a folder{' but a link' if stat.S_ISLNK(mode) else ''}")
    marker = read_text(folder / COMPLETE).removesuffix("\n")
    if not _DIGEST.fullmatch(marker):
        raise CheckpointError(f"{folder / COMPLETE}: {shown(marker)} is no SHA-256; the checkpoint is not complete")
    text = read_text(folder / MANIFEST)
    if hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() != marker:
        raise CheckpointError(f"{folder / MANIFEST}: its SHA-256 is not that in {COMPLETE}")
    for name, (size, digest) in _manifest(folder / MANIFEST, text, known, optional).items():
        path = folder / name
        found = regular(path).st_size
        if found != size:
            raise CheckpointError(f"{path}: has {found} bytes, and bytes={size} in {MANIFEST}")
        try:
            _, measured = measure(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
        if measured != digest:
            raise CheckpointError(f"{path}: its SHA-256 is not sha256 in {MANIFEST}: it was damaged or changed")


def _manifest(path: Path, text: str, known: set[str], optional: Set[str]) -> dict[str, tuple[int, str]]:
    values = parsed(path, text)
    version = values.get("version")
    if version != MANIFEST_VERSION or isinstance(version, bool):
        raise CheckpointError(f"{path}: version={shown(version)}: this reader knows {MANIFEST_VERSION}")
    files = values.get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{path}: files={shown(files)}: expected an object")
    if unknown := sorted(set(files) - known - optional):
        raise CheckpointError(f"{path}: files has {shown(unknown[0])}, which a later version wrote")
    if missing := sorted(known - set(files)):
        raise CheckpointError(f"{path}: files lacks {missing[0]}")
    found = {}
    for name, entry in files.items():
        size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if type(size) is not int or size < 0:
            raise CheckpointError(f"{path}: files.{name}.bytes={shown(size)}: expected a number of bytes")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise CheckpointError(f"{path}: files.{name}.sha256={shown(digest)}: expected 64 hexadecimal digits")
        found[name] = (size, digest)
    return found


def regular(path: Path) -> os.stat_result:
    """The status of a file that is a file of its own: neither a link nor a pipe, whose reader might wait for ever.

    Raises:
        CheckpointError: it is not, or is not there.
    """
    try:
        status = os.lstat(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path}: not a regular file{' but a link' if stat.S_ISLNK(status.st_mode) else ''}")
    return status


def read_text(path: Path) -> str:
    """A small file, whole; bytes that are no UTF-8 as surrogates.

    Raises:
        CheckpointError: it is none, or cannot be read.
    """
    if (size := regular(path).st_size) > MOST_TEXT:
        raise CheckpointError(f"{path}: has {size} bytes, more than the {MOST_TEXT} that it can have")
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def parsed(where: Path | str, text: str) -> dict[str, Any]:
    """A JSON object whose keys are each there once and whose numbers are finite.

    Raises:
        CheckpointError: it is none.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            name = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
            raise ValueError(f"{shown(name)} stands twice")
        return values

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no number")

    try:
        values = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not JSON: {shown(str(error), 80)}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{where}: {type(values).__name__}, expected a JSON object")
    return values


def shown(value: object, most: int = 60) -> str:
    """A value from a file, as a line can show it."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        text = f"a huge {type(value).__name__}"
    text = printable(text.encode("utf-8", "backslashreplace").decode())
    # What no character stands for is no control character, and no terminal shows it.
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def measure(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file, as they are read from it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
