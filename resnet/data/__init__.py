"""Datasets, augmentation and three loaders with one iterator shape."""

from .archives import unpack
from .datasets import open_dataset
from .errors import DataError
from .folders import file_list
from .loaders import LOADERS, make_loader
from .mean import mean_image
from .split import Batch, Loader, Split, Splits
from .synthetic import synthetic_splits

__all__ = [
    "LOADERS",
    "Batch",
    "DataError",
    "Loader",
    "Split",
    "Splits",
    "file_list",
    "make_loader",
    "mean_image",
    "open_dataset",
    "synthetic_splits",
    "unpack",
]
