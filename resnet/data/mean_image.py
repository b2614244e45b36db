"""Computes the mean training image of the paper's normalization, once for a dataset and size."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from resnet.data.batch import Split
from resnet.data.cache import cache_root, publish
from resnet.data.images.augment import resolve
from resnet.data.images.colour import Colour
from resnet.data.loaders.make import make_reader
from resnet.data.loaders.sampler import Sampler
from resnet.data.loaders.shared_memory import check_room

_BATCH = 128
_VERSION = 2  # of how an image is cut: 1 left small images whole


def compute_mean_image(
    split: Split, *, image_size: int, threads: int, device: torch.device | None = None, kind: str = "dali"
) -> tuple[np.ndarray, float]:
    """Return the per-pixel mean of a training split, from the cache where it is there.

    Each image is taken as in evaluation: whole on digits and CIFAR-10 (He et al. 2016, section 4.2), on ImageNet the
    central crop at shorter side 256 (section 3.4 names AlexNet's mean image, which is that of 256 x 256 crops; here it
    is of the size that the network sees, so that one image fits every crop).

    Args:
        split: The training split.
        image_size: S.
        threads: Threads or worker processes to read with.
        device: A GPU decodes where given.
        kind: `dali` or `torch`.

    Returns:
        float32 [S, S, 3] in [0, 255], and the seconds that computing it took (0.0 from the cache).

    Raises:
        DataError: An image is missing, unreadable or truncated.
    """
    started = time.perf_counter()
    target = cache_root() / "mean" / f"{split.dataset}-{split.hash}-{image_size}-{_VERSION}.npy"
    there = target.is_file()

    def build(path: Path) -> None:
        with open(path, "wb") as handle:
            np.save(handle, _compute(split, image_size, threads, device or torch.device("cpu"), kind))

    mean = np.load(publish(target, build), allow_pickle=False)
    return mean, 0.0 if there else time.perf_counter() - started


def _compute(split: Split, image_size: int, threads: int, device: torch.device, kind: str) -> np.ndarray:
    if kind == "torch":
        check_room(batch=_BATCH, image_size=image_size, workers=threads, loaders=1, ranks=1, any_batch=False)
    sampler = Sampler(n=len(split), train=False, batch=_BATCH, rank=0, world_size=1, seed=0)
    plain = resolve("none", split.dataset, image_size=image_size, train=False)
    # Neither shifted nor divided: pixels in [0, 1].
    plain = dataclasses.replace(plain, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    colour = Colour(plain, device)
    loader = make_reader(kind, split, sampler, plain, colour, threads=threads, device=device, epochs=1)
    total = torch.zeros(image_size, image_size, 3, dtype=torch.float64, device=device)
    try:
        for batch in loader.epoch(0):
            counted = batch.images if batch.valid is None else batch.images[batch.valid]
            total += counted.permute(0, 2, 3, 1).sum(dim=0, dtype=torch.float64)
    finally:
        loader.close()
    return (total * 255 / len(split)).float().cpu().numpy()
