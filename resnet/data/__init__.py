"""Datasets, augmentation and three loaders with one iterator shape."""

from resnet.data.archives import unpack
from resnet.data.datasets import open_dataset
from resnet.data.errors import DataError
from resnet.data.folders import file_list
from resnet.data.loaders import LOADERS, make_loader
from resnet.data.mean import mean_image
from resnet.data.split import Batch, Loader, Split, Splits
from resnet.data.synthetic import synthetic_splits

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
