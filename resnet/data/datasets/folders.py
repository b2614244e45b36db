"""Reads image folders: one sub-folder a class, sorted, as ImageNet, Imagenette and CIFAR-10 in files are laid out."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np

from resnet.data.batch import Split, Splits
from resnet.data.errors import DataError
from resnet.data.images.encoded import read_file
from resnet.data.listing import IMAGES, class_folders, empty_class, images_below

_HASH_CONTENT_BYTES = 4 << 20
_HASH_CONTENT_FILES = 2_000
_HASH_SIZES = 65_536


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


def open_folders(dataset: str, root: Path, name: str | None = None) -> Splits:
    """Open `root/train/CLASS/*` and `root/val/CLASS/*` (or `root/test`), classes and files in sorted order.

    Images in sub-folders of a class are of that class. Names that begin with a dot are hidden; other files are left
    out, and counted.

    Args:
        dataset: Name that decides geometry and normalization.
        root: The folder that holds train/ and val/ or test/.
        name: Name that results carry; the dataset's where None.

    Raises:
        DataError: A folder is missing or empty, or the two splits have different classes.
    """
    folders = class_folders(root)
    left_out = Counter(folders.left_out)
    parts: list[tuple[list[str], np.ndarray]] = []
    for split in (folders.train, folders.test):
        paths: list[str] = []
        counts = []
        for label in folders.classes:
            files = sorted(images_below(str(split / label), left_out))
            if not files:
                raise empty_class(split / label)
            paths += files
            counts.append(len(files))
        parts.append((paths, np.repeat(np.arange(len(counts), dtype=np.int64), counts)))
    digest = hash_files(root, parts[0][0] + parts[1][0])
    train, test = (
        Split(name=split, dataset=dataset, labels=labels, classes=folders.classes, paths=paths, hash=digest)
        for split, (paths, labels) in zip(("train", "test"), parts, strict=True)
    )
    return Splits(
        train=train, test=test, name=name or dataset, hash=digest, classes=folders.classes, left_out=dict(left_out)
    )


def file_list(path: str | os.PathLike[str]) -> Split:
    """Open a folder of images, those of its sub-folders too, as one training split with a single class.

    Raises:
        DataError: The folder is missing or holds no image.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {IMAGES} in it")
    paths = sorted(images_below(str(folder)))
    if not paths:
        raise DataError(f"{folder}: no images; expected {IMAGES} in it")
    labels = np.zeros(len(paths), np.int64)
    digest = hash_files(folder, paths)
    return Split(name="train", dataset="imagefolder", labels=labels, classes=["all"], paths=paths, hash=digest)
