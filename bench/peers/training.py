"""Blocks of training: engines, loaders and the measuring itself, in turn with a plain loop."""

import dataclasses
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.peers import plain
from bench.training.ranks import Ranks
from resnet.data import open_dataset, unpack_archive
from results.statistics import median, paired_ratio, spread

BLOCK_IMAGES = 5120  # of CIFAR-10 in one block of training
RANKS = 2


def block_folder(source: Path, target: Path) -> None:
    """A CIFAR-10 folder with the first images of each class, as links: one block of training is one epoch of it."""
    for split, count in (("train", BLOCK_IMAGES // 10), ("test", 10)):
        for folder in sorted((source / split).iterdir()):
            (target / split / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:count]:
                (target / split / folder.name / file.name).symlink_to(file)


def compare_training(depth: int, batch: int, rounds: int, console: Console, loader_threads: int | None = None) -> None:
    """Compare blocks of training over two ranks, in turn with blocks of the plain loop.

    Args:
        depth: layers of the network.
        batch: images a rank.
        rounds: turns of everything, after one that does not count.
        console: shows the comparison.
        loader_threads: of a rank; None for its cores.
    """
    rates: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        data = Path(folder) / "cifar10"
        block_folder(unpack_archive("cifar10-jpeg"), data)
        words = RunKeys(
            depth=depth, dataset="cifar10", data=str(data), batch=batch, epochs=rounds + 1,
            loader_threads=loader_threads, ranks_per_node=RANKS, results=f"{folder}/results",
        )  # fmt: skip
        base, _ = resolve(words, Host(ranks_per_node=RANKS))
        limit = BLOCK_IMAGES // base.global_batch
        cells: dict[str, tuple[RunConfig, bool]] = {
            "whole": (base, True),
            "ddp": (dataclasses.replace(base, engine="ddp"), True),
            "synthetic": (dataclasses.replace(base, loader="synthetic", target=None, loader_threads=None), True),
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
        loop = plain.PlainLoop(splits.train, plain.Keys(depth=depth, epochs=rounds + 1))
        loop.warm_up()
        with Ranks("bench.peers.processes", [str(path)], RANKS) as ranks:
            for turn in range(rounds + 1):
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
