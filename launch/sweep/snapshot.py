"""The copy of the checkout that the jobs of a sweep run: what was submitted, whatever becomes of the checkout."""

import dataclasses
import errno
import fnmatch
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.paths import ROOT
from bench.measure import revision
from bench.measure.revision import SNAPSHOT, Code
from results.words import ConfigError, printable

__all__ = ["Listing", "copy", "listing"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
FILE_BYTES = 10 << 20  # of a file that git does not know: code is smaller
ALL_BYTES = 100 << 20  # of all of them


@dataclass(frozen=True)
class Listing:
    """What a copy of the checkout holds.

    Attributes:
        files: by path below the checkout; folders come with what is in them.
        code: what is known of it, the hash of its content included.
        notices: lines about what is left out.
    """

    files: tuple[str, ...]
    code: Code
    notices: tuple[str, ...]


def listing(store: Path) -> Listing:
    """Find what a copy of the checkout holds: tracked files as they are now, and new ones that git does not ignore.

    Without a repository it is all but what the first lines of .gitignore and the like leave out.

    Args:
        store: of rows, which are no code wherever they lie.

    Raises:
        ConfigError: new files that look like no code, too many to be copied for each sweep; or one cannot be read.
    """
    known = revision.running()
    # What runs from a copy has no repository, though the copy may lie in a folder of one.
    tracked, new = _walked() if known.commit is None or known.snapshot else _listed()
    notices = []
    if rows := [name for name in new if _within(ROOT / name, store)]:
        new = [name for name in new if not _within(ROOT / name, store)]
        notices.append(f"results={store} lies in the checkout: {len(rows):,} files there are not copied for the jobs")
    kept, big, odd = [], [], []
    for name in new:
        found = os.lstat(ROOT / name)
        kind = stat.S_IFMT(found.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            odd.append(name)
        elif found.st_size > FILE_BYTES:
            big.append(name)
        else:
            kept.append(name)
    for names, why in ((big, f"larger than {FILE_BYTES >> 20} MiB"), (odd, "a repository of its own or no file")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            shown = ", ".join(printable(name) for name in names[:3])
            notices.append(f"not copied for the jobs, as git does not know it and it is {why}: {shown}{more}")
    _check_size(kept)
    files = tuple(sorted([*tracked, *kept]))
    return Listing(files, dataclasses.replace(known, snapshot=_hash(files)), tuple(notices))


def copy(found: Listing, folder: Path) -> None:
    """Copy the checkout, with modes and symbolic links, to where nothing is yet.

    Raises:
        OSError: a file cannot be read, or the disk refuses.
    """
    folder.mkdir(parents=True)
    try:
        for name in found.files:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (link := _link(source)) is not None:
                target.symlink_to(link)
            else:
                shutil.copy2(source, target)
        found.code.write(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # half a copy would be taken for a whole one
        if error.errno in FULL:  # a copy's error names its source, which is not at fault
            raise OSError(error.errno, error.strerror, str(folder)) from None
        raise


def _listed() -> tuple[list[str], list[str]]:
    """Files that git knows and that are there, and new ones."""

    def names(*words: str) -> list[str]:
        listed = revision.git("ls-files", "-z", *words).split("\0")
        return [name for name in listed if name and os.path.lexists(ROOT / name)]

    try:
        # A folder among the first is a repository that belongs to this one; its files are its own.
        tracked, new = names("--cached"), names("--others", "--exclude-standard")
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{ROOT}: git does not list its files ({error}); the jobs' copy would not be whole") from None
    folders = [name for name in tracked if os.path.isdir(ROOT / name) and not os.path.islink(ROOT / name)]
    return sorted({*tracked} - {*folders}), [*new, *folders]


def _walked() -> tuple[list[str], list[str]]:
    """All files, as new ones: nobody says which belong to the code."""
    patterns = _ignored()

    def leaves_out(path: str) -> bool:
        name = os.path.basename(path)
        return any(fnmatch.fnmatch(path if "/" in pattern else name, pattern) for pattern in patterns)

    found = []
    for folder, folders, files in os.walk(ROOT):
        below = os.path.relpath(folder, ROOT)
        inside = {name: os.path.normpath(os.path.join(below, name)) for name in (*folders, *files)}
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        environments = [name for name in folders if os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))]
        folders[:] = [name for name in folders if name not in (*links, *environments) and not leaves_out(inside[name])]
        found += [inside[name] for name in (*files, *links) if not leaves_out(inside[name])]
    return [], [name for name in found if name != SNAPSHOT]


def _ignored() -> list[str]:
    """The patterns of .gitignore, of the kinds that the suite's own has: names, and paths from the checkout on."""
    lines = [".git", "__pycache__/"]
    try:
        lines += (ROOT / ".gitignore").read_text().split("\n")
    except OSError:
        pass
    return [line.strip().rstrip("/").removeprefix("/") for line in lines if line.strip() and line[0] not in "#!"]


def _within(path: Path, store: Path) -> bool:
    # A store that is the checkout itself, or around it, holds the code as well: then it is what a sweep writes there.
    return path.is_relative_to(store / "jobs" if ROOT.is_relative_to(store) else store)


def _check_size(names: Sequence[str]) -> None:
    sizes: dict[str, int] = {}
    for name in names:
        top = name.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + os.lstat(ROOT / name).st_size
    if (total := sum(sizes.values())) > ALL_BYTES:
        most = max(sizes, key=lambda top: sizes[top])
        raise ConfigError(
            f"{ROOT / most}: has {sizes[most] >> 20:,} MiB of the {total >> 20:,} MiB of new files that each sweep "
            f"would copy, expected at most {ALL_BYTES >> 20}; move it out of the checkout, or name it in .gitignore"
        )


def _hash(files: Sequence[str]) -> str:
    """The hash of files by path, kind, whether they are executable, and content."""
    whole = hashlib.sha256()
    for name in files:
        for part in _content(ROOT / name):
            whole.update(len(part).to_bytes(8) + part)
        whole.update(os.fsencode(name) + b"\0")
    return whole.hexdigest()[:16]


def _content(path: Path) -> Iterator[bytes]:
    try:
        if (link := _link(path)) is not None:
            yield b"link"
            yield os.fsencode(link)
        else:
            yield b"executable" if os.stat(path).st_mode & stat.S_IXUSR else b"file"
            yield path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be copied for the jobs ({error.strerror or error}); "
            "mend or remove it, or name it in .gitignore"
        ) from None


def _link(path: Path) -> str | None:
    """Where a link leads within the checkout, as a copy has it; None for a file, and what a link to one outside has."""
    if not path.is_symlink():
        return None
    target = os.path.normpath(path.parent / os.readlink(path))
    if Path(target).is_relative_to(ROOT):
        return os.path.relpath(target, path.parent)
    return None if path.is_file() else target
