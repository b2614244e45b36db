"""Reads image folders: one sub-folder a class, sorted, as ImageNet, Imagenette and CIFAR-10 in files are laid out."""

import hashlib
import os
from pathlib import Path

import numpy as np

from resnet.data.batch import Split, Splits
from resnet.data.errors import DataError
from resnet.data.images.encoded import read_file

EXTENSIONS = (".jpg", ".jpeg", ".png")
_HASH_CONTENT_BYTES = 4 << 20
_HASH_CONTENT_FILES = 2_000
_HASH_SIZES = 65_536


def _images_in(folder: str) -> list[str]:
    """Return the image files directly in a folder, sorted by name, as full paths; a dangling link counts as a file."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    return [os.path.join(folder, name) for name in sorted(names)]


def read_split_folder(folder: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """List one split: `folder/CLASS/*.jpg|jpeg|png` (any case), classes and files in sorted order.

    Returns:
        The files, their labels (int64 [n]) and the class names.

    Raises:
        DataError: The folder is missing, holds no class folder, or a class folder holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one sub-folder a class in it")
    try:
        with os.scandir(folder) as entries:
            classes = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    if not classes:
        flat = " (it holds images, but not sorted into one sub-folder a class)" if _images_in(str(folder)) else ""
        raise DataError(f"{folder}: no class folders{flat}; expected CLASS/*.jpg, *.jpeg or *.png")
    paths: list[str] = []
    labels: list[np.ndarray] = []
    for label, name in enumerate(classes):
        files = _images_in(str(folder / name))
        if not files:
            raise DataError(f"{folder / name}: empty class folder; expected *.jpg, *.jpeg or *.png in it")
        paths += files
        labels.append(np.full(len(files), label, np.int64))
    return paths, np.concatenate(labels), classes


def hash_files(root: Path, paths: list[str]) -> str:
    """Hash a dataset's files so that 1.28 million of them cost seconds, not an hour of reading.

    Always hashed: every path below `root`. Up to 2,000 files of at most 4 MiB together: their contents too.
    Otherwise the sizes of 65,536 files spread evenly (of all, where there are fewer).

    Returns:
        The first 16 hexadecimal digits of a SHA-256.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256()
    prefix = len(str(root)) + 1
    for path in paths:
        digest.update(os.fsencode(path[prefix:]) + b"\0")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _HASH_SIZES)).astype(np.int64))
    try:
        sizes = np.array([os.path.getsize(paths[i]) for i in chosen], "<i8")
        if len(paths) <= _HASH_CONTENT_FILES and sizes.sum() <= _HASH_CONTENT_BYTES:
            for path in paths:
                digest.update(read_file(path))
        else:
            digest.update(sizes.tobytes())
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()[:16]


def has_folders(root: Path) -> bool:
    """Say whether `root` has the layout's first level: train/ and one of test/ and val/."""
    return (root / "train").is_dir() and ((root / "test").is_dir() or (root / "val").is_dir())


def open_folders(dataset: str, root: Path, name: str | None = None) -> Splits:
    """Open `root/train/CLASS/*` and `root/val/CLASS/*` (or `root/test`).

    Args:
        dataset: Name that decides geometry and normalization.
        root: The folder that holds train/ and val/ or test/.
        name: Name that results carry; the dataset's where None.

    Raises:
        DataError: A folder is missing or empty, or the two splits have different classes.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected train/CLASS/* and val/CLASS/* (or test/CLASS/*) in it")
    train_folder = root / "train"
    test_folder = root / "val" if (root / "val").is_dir() else root / "test"
    if train_folder.is_dir() and not test_folder.is_dir():
        raise DataError(f"{root / 'val'}: no such folder, nor is there a test/ beside it; expected val/CLASS/*")
    paths, labels, classes = read_split_folder(train_folder)
    test_paths, test_labels, test_classes = read_split_folder(test_folder)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))[0]
        where = train_folder if odd in classes else test_folder
        other = test_folder if odd in classes else train_folder
        raise DataError(f"{other}: has not the classes of {where}: {odd!r} is missing")
    digest = hash_files(root, paths + test_paths)
    return Splits(
        train=Split(name="train", dataset=dataset, labels=labels, classes=classes, paths=paths, hash=digest),
        test=Split(name="test", dataset=dataset, labels=test_labels, classes=classes, paths=test_paths, hash=digest),
        name=name or dataset,
        hash=digest,
        classes=classes,
    )


def file_list(path: str | os.PathLike[str]) -> Split:
    """Open a flat folder of images as one training split with a single class, to time a loader on.

    Raises:
        DataError: The folder is missing or holds no image.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected *.jpg, *.jpeg or *.png in it")
    paths = _images_in(str(folder))
    if not paths:
        raise DataError(f"{folder}: no images; expected *.jpg, *.jpeg or *.png in it")
    labels = np.zeros(len(paths), np.int64)
    digest = hash_files(folder, paths)
    return Split(name="train", dataset="imagefolder", labels=labels, classes=["all"], paths=paths, hash=digest)
