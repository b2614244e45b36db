"""Writes scikit-learn's handwritten digits as image files, the dataset that every machine has."""

from pathlib import Path

import numpy as np
from PIL import Image

from .cache import cache_root, publish
from .errors import DataError
from .folders import open_folders
from .split import Splits

SIZE = 32
TRAIN_IMAGES = 1_437
TEST_IMAGES = 360
_SPLIT_SEED = 2016


def test_indices(labels: np.ndarray) -> np.ndarray:
    """Choose the fixed, stratified test images: 360 of 1,797, each class by its share (largest remainders).

    Args:
        labels: int64 [1797].

    Returns:
        int64 [360], sorted.
    """
    counts = np.bincount(labels)
    share = counts * TEST_IMAGES / len(labels)
    quota = np.floor(share).astype(np.int64)
    quota[np.argsort(quota - share, kind="stable")[: TEST_IMAGES - quota.sum()]] += 1
    generator = np.random.Generator(np.random.PCG64(_SPLIT_SEED))
    chosen = [generator.permutation(np.flatnonzero(labels == c))[: quota[c]] for c in range(len(counts))]
    return np.sort(np.concatenate(chosen))


def _write(folder: Path) -> None:
    """Write all digits as 32 x 32 greyscale PNG, bilinear from 8 x 8, into train/CLASS and test/CLASS."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    # Sixteen is full ink in the source.
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    in_test = np.zeros(len(labels), bool)
    in_test[test_indices(labels)] = True
    for split in ("train", "test"):
        for label in range(10):
            (folder / split / str(label)).mkdir(parents=True)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / ("test" if in_test[i] else "train") / str(label) / f"{i:04d}.png"
        Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path)


def open_digits() -> Splits:
    """Open the digits from the cache (``resnet-bench/digits-32``), writing them there first where they are not.

    Returns:
        1,437 training and 360 test images of ten classes; its caller fills in ``prepare_s``.

    Raises:
        DataError: The cached folder was damaged after it was written.
    """
    folder = publish(cache_root() / "digits-32", _write)
    splits = open_folders("digits", folder)
    if (len(splits.train), len(splits.test)) != (TRAIN_IMAGES, TEST_IMAGES):
        raise DataError(
            f"{folder}: {len(splits.train)} and {len(splits.test)} images; expected {TRAIN_IMAGES} and {TEST_IMAGES}:"
            " delete the folder, it is written again"
        )
    return splits
