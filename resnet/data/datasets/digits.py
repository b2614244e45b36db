"""Writes scikit-learn's handwritten digits as image files, the dataset that every machine has."""

import dataclasses
import time
from pathlib import Path

import numpy as np
from PIL import Image

from resnet.data.batch import Splits
from resnet.data.cache import cache_root, publish
from resnet.data.dataset_table import DATASETS
from resnet.data.datasets.folders import open_folders
from resnet.data.errors import DataError

_DIGITS = DATASETS["digits"]
_SPLIT_SEED = 2016


def test_indices(labels: np.ndarray) -> np.ndarray:
    """Choose the fixed, stratified test images: 360 of 1,797, each class by its share (largest remainders).

    Args:
        labels: int64 [1797].

    Returns:
        int64 [360], sorted.
    """
    counts = np.bincount(labels)
    share = counts * _DIGITS.test_images / len(labels)
    quota = np.floor(share).astype(np.int64)
    quota[np.argsort(quota - share, kind="stable")[: _DIGITS.test_images - quota.sum()]] += 1
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
    size = (_DIGITS.image_size, _DIGITS.image_size)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / ("test" if in_test[i] else "train") / str(label) / f"{i:04d}.png"
        Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).save(path)


def digits_folder() -> Path:
    """Where the digits are written, whether they are yet or not."""
    return cache_root() / "digits-32"


def open_digits() -> Splits:
    """Open the digits from the cache (`resnet-bench/digits-32`), writing them there first where they are not.

    Returns:
        1,437 training and 360 test images of ten classes; `prepare_s` is the time that writing them took, if it was
        needed.

    Raises:
        DataError: The cached folder was damaged after it was written.
    """
    target = digits_folder()
    there, started = target.is_dir(), time.perf_counter()
    folder = publish(target, _write)
    splits = open_folders("digits", folder)
    found, expected = (len(splits.train), len(splits.test)), (_DIGITS.train_images, _DIGITS.test_images)
    if found != expected:
        raise DataError(
            f"{folder}: {found[0]} and {found[1]} images; expected {expected[0]} and {expected[1]}:"
            " delete the folder, it is written again"
        )
    return splits if there else dataclasses.replace(splits, prepare_s=time.perf_counter() - started)
