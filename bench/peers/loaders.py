"""DALI against a torch DataLoader, each alone, over real images."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.config.slurm import cores_here
from bench.measure.clock import now_s
from resnet.data import Loader, Split, file_list, make_loader, open_dataset, unpack_archive
from results.statistics import paired_ratio, spread


@dataclass(frozen=True)
class Case:
    """A loader benchmark: real images, side in pixels, and a DataLoader's images/s over PIL, 2 workers on 2 cores."""

    sample: str
    split: Split
    image_size: int
    augment: str
    batch: int
    reference: float


def loader_cases() -> Iterator[Case]:
    """The three sizes of image that matter: CIFAR, small photographs, ImageNet's originals."""
    cifar = open_dataset("cifar10", str(unpack_archive("cifar10-jpeg")), image_size=32, num_classes=10)
    yield Case("cifar10-jpeg", cifar.train, 32, "fast", 128, 9100)
    nette = open_dataset("imagefolder", str(unpack_archive("imagenette-128")), image_size=128, num_classes=10)
    yield Case("imagenette-128", nette.train, 128, "fast", 64, 3300)
    flat = file_list(str(unpack_archive("imagenet-samples-100")))
    assert flat.paths is not None
    # A hundred files are one second's work: the list is read ten times over.
    many = dataclasses.replace(flat, paths=flat.paths * 10, labels=np.tile(flat.labels, 10))
    yield Case("imagenet-samples-100", many, 224, "fast", 50, 730)


def time_epoch(loader: Loader, epoch: int) -> float:
    """Images/s of one epoch of a loader alone."""
    start, images = now_s(), 0
    for batch in loader.epoch(epoch):
        images += len(batch.labels)
    return images / (now_s() - start)


def compare_loaders(rounds: int, console: Console, threads: int | None = None) -> None:
    """DALI against the torch DataLoader, in one process.

    Args:
        rounds: turns of both, after one that does not count.
        console: shows the comparison.
        threads: of DALI, or worker processes; None for one a core.
    """
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    threads = threads or cores_here(os.environ)
    table = Table(title=f"loaders alone, {threads} threads or workers, images/s: median (quartiles)")
    for column in ("images", "size", "dali", "torch", "torch on the reference machine", "dali / torch [95%]"):
        table.add_column(column, justify="left" if column == "images" else "right")
    for case in loader_cases():
        rates: dict[str, list[float]] = {"dali": [], "torch": []}
        with contextlib.ExitStack() as stack:
            loaders = {}
            for kind in rates:
                loaders[kind] = make_loader(
                    kind,
                    case.split,
                    train=True,
                    batch=case.batch,
                    rank=0,
                    world_size=1,
                    seed=0,
                    augment=case.augment,
                    image_size=case.image_size,
                    device=device,
                    threads=threads,
                )
                stack.callback(loaders[kind].close)
            for epoch in range(rounds + 1):
                for kind, loader in loaders.items():
                    rate = time_epoch(loader, epoch)
                    if epoch:
                        rates[kind].append(rate)
        ratio = paired_ratio(rates["dali"], rates["torch"])
        reference = f"{case.reference:,.0f}"
        shown = [spread(rates["dali"], 0), spread(rates["torch"], 0), reference, str(ratio)]
        table.add_row(case.sample, str(case.image_size), *shown)
    console.print(table)
