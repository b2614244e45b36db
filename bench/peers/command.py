"""The suite beside what one would use without it, interleaved on this machine.

    python -m bench.peers [part=loaders,training] [rounds=9]

Loaders alone (DALI against a torch DataLoader), and training blocks of one configuration: DeepSpeed against DDP, DALI
against synthetic images (the loader's cost), the whole against the plain loop, and with against without measuring.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.config import command
from bench.config.command import Terminal
from bench.config.environment import THREADS_MAX
from bench.config.grammar import WordError, key, parse
from bench.config.paths import check_temporary
from bench.config.slurm import cores_here
from bench.measure.machine import cpu_model, gpu_name
from bench.peers.loaders import compare_loaders
from bench.peers.training import BLOCK_IMAGES, RANKS, compare_training
from resnet import Architecture
from resnet.data import DataError


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    part: str = key("what to compare", "both", default="loaders", choices=("loaders", "training"))
    rounds: int = key("turns of everything, after one that does not count", "9", default=9, least=2)
    depth: int = key("layers of the network in training, 6n+2", "20", default=20, unit="layers", least=8)
    batch: int = key("images a rank in training", "64", default=64, unit="images", least=1)
    loader_threads: int | None = key(
        "CPU threads of DALI, or worker processes of the DataLoader, of one process or rank",
        "its cores",
        unit="threads",
        least=1,
        most=THREADS_MAX,
    )


def _read(words: Sequence[str]) -> list[Keys]:
    parts = [] if any(word.startswith("part=") for word in words) else ["part=loaders,training"]
    cells = parse([*parts, *words], Keys)
    check_temporary()
    for keys in cells:
        Architecture(family="cifar", depth=keys.depth, shortcut="A", num_classes=10)  # checks itself
        if keys.part == "training" and keys.batch > (most := BLOCK_IMAGES // RANKS):
            raise WordError(
                f"batch={keys.batch}: a block of training has {BLOCK_IMAGES} images for {RANKS} ranks; "
                f"nearest is batch={most}"
            )
    return cells


def _compare(cells: Sequence[Keys]) -> int:
    console = Terminal(140)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    console.print(f"{cpu_model()}, {cores_here(os.environ)} cores, {gpu_name(device) or 'no GPU'}")
    try:
        for keys in cells:
            if keys.part == "loaders":
                compare_loaders(keys.rounds, console, keys.loader_threads)
            else:
                compare_training(keys.depth, keys.batch, keys.rounds, console, keys.loader_threads)
    except DataError as error:
        raise command.Failure(str(error)) from None
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.peers", __doc__, Keys, _read, _compare, words, goes_on=True)
