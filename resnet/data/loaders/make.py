"""Makes a loader from its name: the one place that knows which libraries there are."""

import numpy as np
import torch

from resnet.data.batch import Loader, Split
from resnet.data.images.augment import Augmentation, resolve
from resnet.data.images.colour import Colour
from resnet.data.loaders.sampler import Sampler
from results.words import ConfigError

LOADERS = ("dali", "torch", "synthetic")


def make_loader(
    kind: str,
    split: Split,
    *,
    train: bool,
    batch: int,
    rank: int,
    world_size: int,
    seed: int,
    augment: str,
    image_size: int,
    device: torch.device,
    grad_accum: int = 1,
    threads: int,
    mean_image: np.ndarray | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
) -> Loader:
    """Make one rank's loader of a split.

    Args:
        kind: `dali`, `torch` or `synthetic`. All give the same samples in the same order, and the first two the
            same augmentation: their pixels differ by what their decoders and resizers round differently.
        split: What to read.
        train: Shuffled, augmented, without the remainder; otherwise every image once, padded (see `Sampler`).
        batch: N, images per rank and micro-batch.
        rank: This rank.
        world_size: Number of ranks.
        seed: Seed of order and augmentation.
        augment: `paper`, `fast`, `shift` or `none` (see `resnet.data.images.augment.resolve`); in evaluation it
            decides the normalization alone.
        image_size: S.
        device: Where the batches go; with a GPU, DALI decodes on it.
        grad_accum: Micro-batches per optimizer step; counted in training only.
        threads: DALI's threads, of which no more than one an image of the batch is started, or the DataLoader's worker
            processes (0: none).
        mean_image: float32 [S, S, 3] from `mean_image`; needed by `augment=paper`.
        epochs: Number of epochs, beyond which nothing is read ahead; None for no end.
        steps_per_epoch: Upper bound of optimizer steps per epoch, or None.

    Returns:
        The loader.

    Raises:
        ConfigError: An unknown name, a size that does not fit, or a missing mean image.
    """
    if kind not in LOADERS:
        raise ConfigError(f"loader={kind}: expected one of {', '.join(LOADERS)}")
    if threads < (0 if kind == "torch" else 1):
        raise ConfigError(f"threads={threads}: expected 1 or more")
    sampler = Sampler(
        n=len(split),
        train=train,
        batch=batch,
        rank=rank,
        world_size=world_size,
        seed=seed,
        grad_accum=grad_accum if train else 1,
        steps=steps_per_epoch,
    )
    if kind == "synthetic":
        from resnet.data.loaders.synthetic import SyntheticLoader

        classes = len(split.classes)
        return SyntheticLoader(sampler, image_size=image_size, num_classes=classes, device=device, epochs=epochs)
    if split.paths is None and split.images is None:
        raise ConfigError(f"loader={kind}: {split.dataset} has no images here; expected loader=synthetic")
    augmentation = resolve(augment, split.dataset, image_size=image_size, train=train)
    colour = Colour(augmentation, device, mean_image)
    return make_reader(kind, split, sampler, augmentation, colour, threads=threads, device=device, epochs=epochs)


def make_reader(
    kind: str,
    split: Split,
    sampler: Sampler,
    augmentation: Augmentation,
    colour: Colour,
    *,
    threads: int,
    device: torch.device,
    epochs: int | None,
) -> Loader:
    """Make a loader that reads images (`dali` or `torch`) from its resolved parts."""
    if kind == "torch":
        from resnet.data.loaders.torch_loader import TorchLoader

        return TorchLoader(split, sampler, augmentation, colour, workers=threads, device=device, epochs=epochs)
    # Only here, because importing DALI takes a second and needs it installed.
    from resnet.data.loaders.dali import DaliLoader

    return DaliLoader(split, sampler, augmentation, colour, threads=threads, device=device, epochs=epochs)
