"""Opens a dataset by its name."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from resnet.data.batch import Splits
from resnet.data.dataset_table import DATASETS
from resnet.data.datasets.archives import cache_folder, data_folder, is_archive
from resnet.data.datasets.cifar import open_cifar10
from resnet.data.datasets.digits import open_digits
from resnet.data.datasets.folders import open_folders
from resnet.data.errors import DataError
from results.words import ConfigError

# Of the datasets that come with a package, and of those in a folder, which is absolute.
_PACKAGED: Mapping[str, Callable[[], Splits]] = {"digits": open_digits}
_IN_FOLDERS: Mapping[str, Callable[[Path], Splits]] = {
    "cifar10": open_cifar10,
    "imagenet": functools.partial(open_folders, "imagenet"),
    "imagefolder": functools.partial(open_folders, "imagefolder"),
}


def open_dataset(
    name: str, path: str | os.PathLike[str] | None, *, image_size: int, num_classes: int | None = None
) -> Splits:
    """Open a dataset's training and evaluation splits; no image of a folder is read yet.

    Args:
        name: `digits` (needs no path), `cifar10` (image folders, python pickles or binary files), `imagenet` or
            `imagefolder` (train/CLASS and val/CLASS or test/CLASS).
        path: The dataset's folder, or an archive of it, which is unpacked into the cache when it is first needed.
        image_size: Side in pixels to which loaders will bring the images; checked here so that errors come early.
        num_classes: Number of classes that the model has, or None to take what is there.

    Returns:
        The splits; `prepare_s` is the time that writing the digits or unpacking took, if it was needed.

    Raises:
        ConfigError: The name is unknown, or image_size is too small.
        DataError: The folder is missing or not laid out as expected, or num_classes is not what it holds.
    """
    if name not in DATASETS:
        raise ConfigError(f"dataset={name}: expected one of {', '.join(DATASETS)}")
    if image_size < 8:
        raise ConfigError(f"image_size={image_size}: expected 8 or more pixels")
    if name in _PACKAGED:
        splits = _PACKAGED[name]()
    elif path is None:
        raise DataError(f"data: no path given; dataset={name} needs data=PATH")
    else:
        place = Path(path).expanduser().absolute()
        there, started = not is_archive(place) or cache_folder(place).is_dir(), time.perf_counter()
        folder = data_folder(place)
        unpack_s = 0.0 if there else time.perf_counter() - started
        splits = dataclasses.replace(_IN_FOLDERS[name](folder), prepare_s=unpack_s)
    if num_classes is not None and num_classes != len(splits.classes):
        where = path if path is not None else name
        hint = "; dataset=imagefolder takes any number" if name == "imagenet" else ""
        raise DataError(f"{where}: {len(splits.classes)} classes; expected num_classes={num_classes}{hint}")
    return splits
