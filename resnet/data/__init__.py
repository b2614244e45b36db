"""Datasets, what happens to their images, and three loaders with one iterator shape.

The names below are imported on first use: the table of datasets needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet.data.batch import Batch, Loader, Split, Splits
    from resnet.data.cache import check_place
    from resnet.data.dataset_table import DATA_VARIABLE, DATASETS, PROTOCOLS, Dataset, dataset_of_family
    from resnet.data.datasets.archives import (
        ARCHIVES,
        data_folder,
        dataset_in_environment,
        is_archive,
        unpack_archive,
    )
    from resnet.data.datasets.digits import digits_folder
    from resnet.data.datasets.folders import file_list
    from resnet.data.datasets.open import open_dataset
    from resnet.data.errors import DataError
    from resnet.data.images.encoded import decode_image
    from resnet.data.images.jpeg import mended_images
    from resnet.data.listing import Found, class_folders, probe, shown_left_out
    from resnet.data.loaders.make import LOADERS, make_loader
    from resnet.data.loaders.patience import LOOK_S, STALL_S, waited_for, waiting
    from resnet.data.loaders.shared_memory import check_room
    from resnet.data.loaders.synthetic import synthetic_splits
    from resnet.data.loaders.workers import death_of_worker
    from resnet.data.mean_image import compute_mean_image
    from resnet.data.strict import Damage, damaged_files, files_to_check

__all__ = [
    "ARCHIVES",
    "DATASETS",
    "DATA_VARIABLE",
    "LOADERS",
    "LOOK_S",
    "PROTOCOLS",
    "STALL_S",
    "Batch",
    "Damage",
    "DataError",
    "Dataset",
    "Found",
    "Loader",
    "Split",
    "Splits",
    "check_place",
    "check_room",
    "class_folders",
    "compute_mean_image",
    "damaged_files",
    "data_folder",
    "dataset_in_environment",
    "dataset_of_family",
    "death_of_worker",
    "decode_image",
    "digits_folder",
    "file_list",
    "files_to_check",
    "is_archive",
    "make_loader",
    "mended_images",
    "open_dataset",
    "probe",
    "shown_left_out",
    "synthetic_splits",
    "unpack_archive",
    "waited_for",
    "waiting",
]

_MODULES = {
    "ARCHIVES": "datasets.archives",
    "DATASETS": "dataset_table",
    "DATA_VARIABLE": "dataset_table",
    "LOADERS": "loaders.make",
    "LOOK_S": "loaders.patience",
    "PROTOCOLS": "dataset_table",
    "STALL_S": "loaders.patience",
    "Batch": "batch",
    "Damage": "strict",
    "DataError": "errors",
    "Dataset": "dataset_table",
    "Loader": "batch",
    "Split": "batch",
    "Splits": "batch",
    "compute_mean_image": "mean_image",
    "dataset_of_family": "dataset_table",
    "decode_image": "images.encoded",
    "file_list": "datasets.folders",
    "files_to_check": "strict",
    "make_loader": "loaders.make",
    "mended_images": "images.jpeg",
    "open_dataset": "datasets.open",
    "synthetic_splits": "loaders.synthetic",
    "Found": "listing",
    "class_folders": "listing",
    "damaged_files": "strict",
    "data_folder": "datasets.archives",
    "dataset_in_environment": "datasets.archives",
    "is_archive": "datasets.archives",
    "probe": "listing",
    "shown_left_out": "listing",
    "unpack_archive": "datasets.archives",
    "check_place": "cache",
    "digits_folder": "datasets.digits",
    "check_room": "loaders.shared_memory",
    "death_of_worker": "loaders.workers",
    "waited_for": "loaders.patience",
    "waiting": "loaders.patience",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"resnet.data.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
