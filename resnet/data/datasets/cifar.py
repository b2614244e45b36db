"""Reads CIFAR-10's original files: the python pickles, executing nothing that they hold, and the binary version."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resnet.data.batch import Split, Splits
from resnet.data.datasets.folders import open_folders
from resnet.data.errors import DataError
from resnet.data.listing import RECORD_BYTES, cifar_files

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, which protocol 2 uses for bytes, without the codecs that decompress."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _allowed_globals() -> dict[tuple[str, str], Callable[..., Any]]:
    """Return what a pickled dict of bytes, lists and one array may name, and nothing that could run a command."""
    reconstruct = np.ndarray((0,), np.uint8).__reduce__()[0]
    assert callable(reconstruct)
    return {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
    }


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds arrays, bytes, strings, lists and dicts and refuses every other global."""

    allowed = _allowed_globals()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"global {module}.{name} refused") from None


def read_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of `cifar-10-batches-py`.

    Returns:
        Images uint8 [n, 32, 32, 3] and labels int64 [n].

    Raises:
        DataError: The file is missing, is no such pickle, or names a global other than numpy's array (named).
    """
    try:
        with open(path, "rb") as handle:
            content = _ArrayUnpickler(handle, encoding="bytes").load()
        data, labels = content[b"data"], np.asarray(content[b"labels"], np.int64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        # A damaged pickle can raise almost anything; all of it means that this file is not CIFAR-10.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a CIFAR-10 python file: {reason}") from error
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == (len(labels), 3072)):
        raise DataError(f"{path}: not a CIFAR-10 python file: expected data uint8 [n, 3072] and n labels")
    return _check(path, data, labels)


def read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of `cifar-10-batches-bin`: records of one label byte and 3 x 32 x 32 pixels.

    Returns:
        Images uint8 [n, 32, 32, 3] and labels int64 [n].

    Raises:
        DataError: The file is missing, or is not a whole number of records.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if raw.size == 0 or raw.size % RECORD_BYTES:
        raise DataError(f"{path}: {raw.size} bytes; expected a multiple of {RECORD_BYTES}")
    records = raw.reshape(-1, RECORD_BYTES)
    return _check(path, records[:, 1:], records[:, 0].astype(np.int64))


def _check(path: Path, data: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path}: labels outside 0 to 9, or none")
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def open_cifar10(root: Path) -> Splits:
    """Open CIFAR-10 in whichever form `root` holds it.

    Image folders (train/CLASS and test/CLASS or val/CLASS) are named `cifar10-jpeg`, because such copies are
    compressed; the original python or binary files, in `root` or in their archive's folder there, `cifar10`.

    Raises:
        DataError: None of the three forms is there, or a file is missing or damaged.
    """
    files = cifar_files(root)
    if files is None:
        return open_folders("cifar10", root, name="cifar10-jpeg")
    read = read_pickle if files.python else read_binary
    parts = [read(path) for path in files.train]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    test_images, test_labels = read(files.test)
    digest = hashlib.sha256()
    for array in (images, labels, test_images, test_labels):
        digest.update(array.tobytes())
    short = digest.hexdigest()[:16]
    return Splits(
        train=Split(name="train", dataset="cifar10", labels=labels, classes=CLASSES, images=images, hash=short),
        test=Split(name="test", dataset="cifar10", labels=test_labels, classes=CLASSES, images=test_images, hash=short),
        name="cifar10",
        hash=short,
        classes=CLASSES,
    )
