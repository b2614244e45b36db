"""Datasets, what happens to their images, and three loaders with one iterator shape.

The names below are imported on first use: the table of datasets needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet.data.batch import Batch, Loader, Split, Splits
    from resnet.data.dataset_table import DATA_VARIABLE, DATASETS, Dataset, dataset_of_family
    from resnet.data.datasets.archives import unpack_archive
    from resnet.data.datasets.folders import file_list
    from resnet.data.datasets.open import open_dataset
    from resnet.data.errors import DataError
    from resnet.data.loaders.make import LOADERS, make_loader
    from resnet.data.loaders.synthetic import synthetic_splits
    from resnet.data.mean_image import compute_mean_image

__all__ = [
    "DATASETS",
    "DATA_VARIABLE",
    "LOADERS",
    "Batch",
    "DataError",
    "Dataset",
    "Loader",
    "Split",
    "Splits",
    "compute_mean_image",
    "dataset_of_family",
    "file_list",
    "make_loader",
    "open_dataset",
    "synthetic_splits",
    "unpack_archive",
]

_MODULES = {
    "DATASETS": "dataset_table",
    "DATA_VARIABLE": "dataset_table",
    "LOADERS": "loaders.make",
    "Batch": "batch",
    "DataError": "errors",
    "Dataset": "dataset_table",
    "Loader": "batch",
    "Split": "batch",
    "Splits": "batch",
    "compute_mean_image": "mean_image",
    "dataset_of_family": "dataset_table",
    "file_list": "datasets.folders",
    "make_loader": "loaders.make",
    "open_dataset": "datasets.open",
    "synthetic_splits": "loaders.synthetic",
    "unpack_archive": "datasets.archives",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"resnet.data.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
