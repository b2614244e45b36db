"""Lists image folders and CIFAR-10's files without reading an image: what is there, and what is left out.

Needs the standard library alone, so that a launcher can look before anything is started.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from resnet.data.errors import DataError
from results.durable import special_file

# What Pillow, which both loaders fall back on, reads as a still image.
ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
)  # fmt: skip
IMAGES = "images (*.jpg, *.png, *.webp, *.bmp, *.gif, *.tif, *.ppm)"
PICKLES, BINARIES = "cifar-10-batches-py", "cifar-10-batches-bin"
RECORD_BYTES = 1 + 3 * 32 * 32  # of a binary file: one label, three planes
_SHOWN = 6  # endings of files that are left out
_CIFAR_PARTS = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class ClassFolders:
    """The two splits of an image folder.

    Attributes:
        train, test: their folders.
        classes: names of the class folders, sorted, the same in both.
        left_out: files beside the class folders, by ending.
    """

    train: Path
    test: Path
    classes: list[str]
    left_out: Counter[str]


@dataclass(frozen=True)
class CifarFiles:
    """CIFAR-10's original files.

    Attributes:
        python: whether they are the python pickles, not the binary version.
        train, test: the five files and the one.
    """

    python: bool
    train: list[Path]
    test: Path


@dataclass(frozen=True)
class Found:
    """What `probe` saw of a dataset's folder.

    Attributes:
        classes: how many there are.
        train_images: no more than there are at most; counting stops at what was asked for.
    """

    classes: int
    train_images: int


def _cannot(path: str | os.PathLike[str], error: OSError) -> NoReturn:
    raise DataError(f"{os.fspath(path)}: cannot be read ({error.strerror})") from error


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, in no order; names that begin with a dot are hidden, as from any tool."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except OSError as error:
        _cannot(folder, error)


def _is_dir(path: Path) -> bool:
    """Like `Path.is_dir`, but says so where it is not allowed to look."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        _cannot(path, error)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, as one to nowhere
        return False


def _no_file(entry: os.DirEntry[str]) -> str:
    """What an entry is that is neither folder nor file, whose reader might wait for ever; empty for a file."""
    try:
        if entry.is_file():  # what the folder itself says: of a file nothing more is asked
            return ""
        return special_file(entry.stat().st_mode).removeprefix("a ")
    except OSError:  # a link to nowhere: its reader says so
        return ""


def _kind(entry: os.DirEntry[str]) -> str:
    """By what a file that is left out is counted: its ending, such as ".txt", or what it is where it is none."""
    return _no_file(entry) or os.path.splitext(entry.name)[1].lower() or "no ending"


def images_below(folder: str, left_out: Counter[str] | None = None) -> Iterator[str]:
    """Yield the image files in a folder and its sub-folders, as full paths in no order.

    A link is followed once for each place that it leads to; one that leads nowhere counts as a file. Pipes, sockets and
    devices are left out, whatever their names end in.

    Args:
        left_out: counts the other files, by ending or by what they are.

    Raises:
        DataError: a folder cannot be read.
    """
    pending, seen = [folder], set[tuple[int, int]]()
    while pending:
        current = pending.pop()
        try:
            status = os.stat(current)
        except OSError as error:
            _cannot(current, error)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _entries(current):
            if _leads_to_folder(entry):
                pending.append(entry.path)
            elif entry.name.lower().endswith(ENDINGS) and not _no_file(entry):
                yield entry.path
            elif left_out is not None:
                left_out[_kind(entry)] += 1


def has_folders(root: Path) -> bool:
    """Say whether `root` has the layout's first level: train/ and one of test/ and val/."""
    return _is_dir(root / "train") and (_is_dir(root / "test") or _is_dir(root / "val"))


def class_folders(root: Path) -> ClassFolders:
    """Find the class folders of `root/train` and `root/val` (or `root/test`).

    Raises:
        DataError: a folder is missing or cannot be read, has no class folder, or the splits have different classes.
    """
    layout = "train/CLASS/* and val/CLASS/* (or test/CLASS/*)"
    if not _is_dir(root):
        what = "a file" if os.path.lexists(root) else "no such folder"
        raise DataError(f"{root}: {what}; expected a folder with {layout}")
    train = root / "train"
    test = root / "val" if _is_dir(root / "val") else root / "test"
    for split, also in ((train, ""), (root / "val" if not _is_dir(test) else test, ", nor is there a test/ beside it")):
        if not _is_dir(split):
            what = "a file, not a folder" if os.path.lexists(split) else f"no such folder{also}"
            there = ", ".join(sorted(entry.name for entry in _entries(str(root)))[:6])
            raise DataError(f"{split}: {what}; expected {layout}, found {there or 'nothing'}")
    left_out: Counter[str] = Counter()
    names = {split: _class_names(split, left_out) for split in (train, test)}
    if odd := sorted(set(names[train]) ^ set(names[test])):
        has, lacks = (train, test) if odd[0] in names[train] else (test, train)
        raise DataError(f"{lacks}: has not the classes of {has}: {odd[0]!r} is missing")
    return ClassFolders(train, test, names[train], left_out)


def _class_names(split: Path, left_out: Counter[str]) -> list[str]:
    names, flat = [], False
    for entry in _entries(str(split)):
        if _leads_to_folder(entry):
            names.append(entry.name)
        else:
            left_out[_kind(entry)] += 1
            flat = flat or entry.name.lower().endswith(ENDINGS)
    if not names:
        hint = " (it holds images, but not sorted into one sub-folder a class)" if flat else ""
        raise DataError(f"{split}: no class folders{hint}; expected CLASS/* with {IMAGES}")
    return sorted(names)


def empty_class(folder: Path) -> DataError:
    """What is raised where a class has no image."""
    return DataError(f"{folder}: empty class folder; expected {IMAGES} in it")


def cifar_files(root: Path) -> CifarFiles | None:
    """Find CIFAR-10's original files in `root` or in their archive's folder there; None where it has image folders.

    Raises:
        DataError: `root` holds CIFAR-10 in no form, or only part of its files.
    """
    if not _is_dir(root):
        what = "a file" if os.path.lexists(root) else "no such folder"
        raise DataError(f"{root}: {what}; expected a folder with CIFAR-10")
    if has_folders(root):
        return None
    for name, suffix in ((PICKLES, ""), (BINARIES, ".bin")):
        for folder in (root / name, root):
            paths = [folder / f"{part}{suffix}" for part in _CIFAR_PARTS]
            if not paths[0].exists():
                continue
            for path in paths:
                if not path.is_file():
                    what = "not a file" if path.exists() else "no such file"
                    raise DataError(f"{path}: {what}; expected CIFAR-10's six files beside each other")
            return CifarFiles(suffix == "", paths[:-1], paths[-1])
    raise DataError(f"{root}: no CIFAR-10 in it; expected {PICKLES}/, {BINARIES}/, or train/CLASS and test/CLASS")


def probe(dataset: str, root: Path, enough: int) -> Found:
    """Look whether a folder can be the dataset's, at a cost that does not grow with its images.

    Args:
        dataset: `cifar10`, or a name of an image folder.
        root: the folder.
        enough: training images from which on it does not matter how many there are.

    Raises:
        DataError: it cannot; one line that names the file or folder.
    """
    files = cifar_files(root) if dataset == "cifar10" else None
    if files:
        # A pickle has at least the bytes of its images, so this is the most that there can be.
        size = RECORD_BYTES - 1 if files.python else RECORD_BYTES
        return Found(10, sum(path.stat().st_size // size for path in files.train))
    folders = class_folders(root)
    count = 0
    for split in (folders.train, folders.test):
        for name in folders.classes:
            images = images_below(str(split / name))
            if next(images, None) is None:
                raise empty_class(split / name)
            if split == folders.train:
                count += 1
                while count < enough and next(images, None) is not None:
                    count += 1
    return Found(len(folders.classes), count)


def shown_left_out(left_out: Mapping[str, int]) -> str:
    """Say how many files are left out, such as "12 files left out (10 .txt, 2 no ending)"."""
    most = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {name}" for name, count in most[:_SHOWN]]
    if rest := sum(count for _, count in most[_SHOWN:]):
        parts.append(f"{rest:,} others")
    total = sum(left_out.values())
    return f"{total:,} file{'s' if total > 1 else ''} left out ({', '.join(parts)})"
