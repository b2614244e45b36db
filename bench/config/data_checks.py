"""Sees that the images of a run are there and suffice, before anything starts and without decoding one."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.config import paths
from bench.config.grammar import WordError
from bench.config.run_config import RunConfig
from resnet.data import (
    DATASETS,
    DataError,
    Found,
    check_place,
    class_folders,
    data_folder,
    digits_folder,
    is_archive,
    probe,
)

Seen = TypeVar("Seen")

_NEAR = 200  # folders that are looked at for one that would do


def check_data(config: RunConfig, *, unpack: bool = True) -> None:
    """See that a run's folder holds its dataset, and images enough for its batch.

    What is not on this machine is left to the run.

    Args:
        config: the run's configuration.
        unpack: whether an archive may be unpacked into the cache to look into it; else it is left to the run as well.

    Raises:
        WordError: one line that names the word and what would do instead.
    """
    dataset, images = DATASETS[config.dataset], DATASETS[config.dataset].train_images
    if config.loader != "synthetic" and config.data is not None:
        if not os.path.exists(config.data) or (is_archive(config.data) and not unpack):
            return
        found = _look(config.dataset, config.data, config.global_batch)
        if found.classes != config.num_classes:
            hint = "" if dataset.counted else "; dataset=imagefolder takes any number"
            raise WordError(
                f"data={config.data}: {found.classes} classes, where dataset={dataset.name} has "
                f"{config.num_classes}{hint}"
            )
        images = found.train_images
    _check_batch(config, images)


def check_cache(config: RunConfig) -> None:
    """See that what this machine has to write once of a run's dataset can be written.

    Raises:
        WordError: one line that names the folder, and the variable that moves it.
    """
    if DATASETS[config.dataset].comes_with and config.loader != "synthetic":
        try:
            check_place(digits_folder())
        except DataError as error:
            raise WordError(f"dataset={config.dataset}: {error}") from None


def classes_in(dataset: str, path: str) -> int:
    """How many class folders a dataset's folder or archive has.

    Raises:
        WordError: it is no image folder; one line with the nearest that is.
    """
    return _seen(dataset, path, lambda folder: len(class_folders(folder).classes))


@functools.lru_cache
def _look(dataset: str, path: str, enough: int) -> Found:
    return _seen(dataset, path, lambda folder: probe(dataset, folder, enough))


def _seen(dataset: str, path: str, look: Callable[[Path], Seen]) -> Seen:
    with paths.of_data(path):
        folder = data_folder(path)
        try:
            return look(folder)
        except DataError as error:
            near = _nearest(dataset, folder)
            raise DataError(f"{error}{f'; nearest is data={near}' if near else ''}") from None


def _nearest(dataset: str, folder: Path) -> Path | None:
    """A folder below or above one that holds the dataset, or None."""
    try:
        below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())[:_NEAR]
    except OSError:
        below = []
    for path in [*map(Path, below), folder.parent]:
        try:
            probe(dataset, path, 1)
            return path
        except (DataError, OSError):
            continue
    return None


def _check_batch(config: RunConfig, images: int) -> None:
    """See that an optimizer step takes no more images than there are."""
    if config.global_batch <= images:
        return
    takes = f"a step of {config.world_size} ranks and grad_accum={config.grad_accum} takes {config.global_batch}"
    if most := images // (config.world_size * config.grad_accum):
        raise WordError(f"batch={config.batch}: {takes} of {images} training images; nearest is batch={most}")
    if most := images // config.world_size:
        raise WordError(
            f"grad_accum={config.grad_accum}: {takes} of {images} training images; nearest is batch=1 grad_accum={most}"
        )
    word = "ranks_per_node" if config.ranks_per_node > 1 else "nodes"
    most = max(1, images // (config.nodes if word == "ranks_per_node" else 1))
    raise WordError(
        f"{word}={getattr(config, word)}: {takes} of {images} training images; nearest is {word}={most} batch=1"
    )
