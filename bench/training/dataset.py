"""What a run reads: its dataset opened, and what is computed from it once for all runs."""

import numpy as np

from bench.config.run_config import RunConfig
from bench.training.process_group import World
from resnet.data import (
    Loader,
    Split,
    Splits,
    check_room,
    compute_mean_image,
    make_loader,
    open_dataset,
    synthetic_splits,
    waiting,
)

_LOADERS = 2  # for training and for evaluation, open at a time


def check_shared_memory(config: RunConfig, world: World) -> None:
    """See that the loaders of this node have room for their batches, before anything is built for them.

    Raises:
        resnet.data.DataError: they have not; one line with the nearest that has.
    """
    if config.loader == "torch":
        check_room(
            batch=config.batch, image_size=config.image_size, workers=config.threads_of_loader(world.threads),
            loaders=_LOADERS, ranks=world.local_size,
        )  # fmt: skip


def prepare(config: RunConfig, world: World) -> tuple[Splits, np.ndarray | None, float]:
    """Open the dataset of a run.

    Returns:
        The splits; the mean training image, float32 [S, S, 3] in [0, 255], where the recipe subtracts it; the seconds
        of preparation that later runs will not need.

    Raises:
        resnet.data.DataError: a folder or an image of it is not as it should be; the message names it.
    """
    if config.loader == "synthetic":
        return synthetic_splits(config.dataset, num_classes=config.num_classes), None, 0.0
    with waiting(lambda: f"opening {config.data or config.dataset}: does its file system answer?"):
        splits = open_dataset(config.dataset, config.data, image_size=config.image_size, num_classes=config.num_classes)
    if config.recipe.augment != "paper":
        return splits, None, splits.prepare_s
    # Its batches are larger than a run's may be: they bound its threads.
    threads = world.threads if config.loader_threads is None else config.loader_threads
    mean, mean_s = compute_mean_image(
        splits.train, image_size=config.image_size, threads=threads, device=world.device, kind=config.loader
    )
    return splits, mean, splits.prepare_s + mean_s


def make_run_loader(config: RunConfig, world: World, split: Split, mean: np.ndarray | None, threads: int) -> Loader:
    """The loader of a split of a run, on one rank.

    Args:
        mean: from `prepare`.
        threads: of the loader.
    """
    train = split.name == "train"
    return make_loader(
        config.loader,
        split,
        train=train,
        batch=config.batch,
        rank=world.rank,
        world_size=world.size,
        seed=config.seed,
        augment=config.recipe.augment,
        image_size=config.image_size,
        device=world.device,
        grad_accum=config.grad_accum,
        threads=threads,
        mean_image=mean,
        epochs=config.epochs if train else None,
    )
