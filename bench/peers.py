"""The suite beside what one would use without it, interleaved on this machine.

    python -m bench.peers [part=loaders,training] [rounds=9]

Loaders alone (DALI against a torch DataLoader), and training blocks of one configuration: DeepSpeed against DDP, DALI
against synthetic images (the loader's cost), the whole against the plain loop, and with against without measuring.
"""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench import plain
from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import key, parse
from bench.config.keys import RunKeys
from bench.config.resolve import Place, resolve
from bench.config.run_config import RunConfig
from bench.measure.clock import now_s
from bench.measure.machine import cpu_model, gpu_name
from bench.training.ranks import Ranks
from resnet.architecture import Architecture
from resnet.data import Loader, Split, archives, file_list, make_loader, open_dataset
from results.statistics import median, paired_ratio, spread

BLOCK_IMAGES = 5120  # of CIFAR-10 in one block of training
RANKS = 2


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    part: str = key("what to compare", "both", default="loaders", choices=("loaders", "training"))
    rounds: int = key("turns of everything, after one that does not count", "9", default=9, least=2)
    depth: int = key("layers of the network in training, 6n+2", "20", default=20, unit="layers", least=8)
    batch: int = key("images a rank in training", "64", default=64, unit="images", least=1)


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
    cifar = open_dataset("cifar10", str(archives.unpack("cifar10-jpeg")), image_size=32, num_classes=10)
    yield Case("cifar10-jpeg", cifar.train, 32, "fast", 128, 9100)
    nette = open_dataset("imagefolder", str(archives.unpack("imagenette-128")), image_size=128, num_classes=10)
    yield Case("imagenette-128", nette.train, 128, "fast", 64, 3300)
    flat = file_list(str(archives.unpack("imagenet-samples-100")))
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


def compare_loaders(rounds: int, console: Console) -> None:
    """DALI against the torch DataLoader, one process with a thread or worker a core."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    threads = len(os.sched_getaffinity(0))
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


def block_folder(source: Path, target: Path) -> None:
    """A CIFAR-10 folder with the first images of each class, as links: one block of training is one epoch of it."""
    for split, count in (("train", BLOCK_IMAGES // 10), ("test", 10)):
        for folder in sorted((source / split).iterdir()):
            (target / split / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:count]:
                (target / split / folder.name / file.name).symlink_to(file)


def compare_training(keys: Keys, console: Console) -> None:
    """Blocks of training over two ranks in turn with blocks of the plain loop."""
    rates: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        data = Path(folder) / "cifar10"
        block_folder(archives.unpack("cifar10-jpeg"), data)
        words = RunKeys(
            depth=keys.depth, dataset="cifar10", data=str(data), batch=keys.batch, epochs=keys.rounds + 1,
            ranks_per_node=RANKS, results=f"{folder}/results",
        )  # fmt: skip
        base, _ = resolve(words, Place(ranks_per_node=RANKS))
        limit = BLOCK_IMAGES // base.global_batch
        cells: dict[str, tuple[RunConfig, bool]] = {
            "whole": (base, True),
            "ddp": (dataclasses.replace(base, engine="ddp"), True),
            "synthetic": (dataclasses.replace(base, loader="synthetic", target=None), True),
            "unmeasured": (base, False),
        }
        path = Path(folder) / "cells.json"
        path.write_text(
            json.dumps(
                {
                    name: {"config": dataclasses.asdict(config), "measured": measured, "limit": limit}
                    for name, (config, measured) in cells.items()
                }
            )
        )
        splits = open_dataset("cifar10", str(data), image_size=32, num_classes=10)
        loop = plain.PlainLoop(splits.train, plain.Keys(depth=keys.depth, epochs=keys.rounds + 1))
        loop.warm_up()
        with Ranks("bench.blocks", [str(path)], RANKS) as ranks:
            for turn in range(keys.rounds + 1):
                # Every other round runs backwards, so that no one always follows the same neighbour.
                for name in list(cells)[:: 1 if turn % 2 else -1]:
                    rates.setdefault(name, []).append(json.loads(ranks.ask(f"{name} {turn}")))
                rates.setdefault("plain", []).append({"images_per_s": loop.train()})
    show_training({name: blocks[1:] for name, blocks in rates.items()}, base, console)


def show_training(rates: dict[str, list[dict[str, float]]], config: RunConfig, console: Console) -> None:
    """Print the comparison; the first round has been left out."""
    images = {name: [block["images_per_s"] for block in blocks] for name, blocks in rates.items()}
    title = f"training {config.name()}, {config.precision}, {RANKS} ranks of batch {config.batch}, images/s"
    table = Table(title=title)
    for column in ("what", "images/s: median (quartiles)", "data wait", "instrumentation"):
        table.add_column(column, justify="left" if column == "what" else "right")
    about = {
        "whole": "DeepSpeed, DALI",
        "ddp": "DDP, DALI",
        "synthetic": "DeepSpeed, SYNTHETIC images",
        "unmeasured": "DeepSpeed, DALI, nothing measured",
        "plain": "plain loop, one process, compiled",
    }
    for name, blocks in rates.items():
        shares = [
            f"{median([block[column] for block in blocks]):.2%}" if column in blocks[0] else "-"
            for column in ("data_wait_frac", "instrumentation_frac")
        ]
        table.add_row(about[name], spread(images[name], 0), *shares)
    console.print(table)
    whole = images["whole"]
    cost = paired_ratio(whole, images["synthetic"])
    for text, ratio in {
        "DeepSpeed / DDP": paired_ratio(whole, images["ddp"]),
        "whole / plain loop": paired_ratio(whole, images["plain"]),
        "DALI / synthetic": cost,
        "measured / unmeasured": paired_ratio(whole, images["unmeasured"]),
    }.items():
        console.print(f"{text}: {ratio} (median of paired ratios, 95% interval, {len(whole)} rounds)")
    console.print(f"the loader's cost: {1 - cost.median:.1%} of throughput")


def _read(words: Sequence[str]) -> list[Keys]:
    parts = [] if any(word.startswith("part=") for word in words) else ["part=loaders,training"]
    cells = parse([*parts, *words], Keys)
    for keys in cells:
        Architecture(family="cifar", depth=keys.depth, shortcut="A", num_classes=10)  # checks itself
    return cells


def _compare(cells: Sequence[Keys]) -> int:
    console = Terminal(140)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    console.print(f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, {gpu_name(device) or 'no GPU'}")
    for keys in cells:
        if keys.part == "loaders":
            compare_loaders(keys.rounds, console)
        else:
            compare_training(keys, console)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.peers", __doc__, Keys, _read, _compare, words)


if __name__ == "__main__":
    sys.exit(main())
