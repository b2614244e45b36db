"""Evaluates trained nets by the paper's test protocols, alone and as an ensemble.

    python -m bench.evaluate weights=PATH[,PATH] data=PATH [protocol=1-crop,10-crop,multi-scale] [bn=running,exact]
    python -m bench.evaluate weights=a.safetensors,b.safetensors data=/data/imagenet protocol=10-crop

Several weights are an ensemble: their softmax is averaged, and each net's own figures stand beside it. All protocols
are computed in one pass over the images. A file that a run saved says which network it is, its dataset and how images
were normalized; one from elsewhere, with torchvision's names and shapes, is asked for what it does not say (stride= of
bottlenecks, shortcut= of nets without projections). The result is a row of the table `evaluations` for each net,
protocol and kind of statistics; a figure is compared only with one of the same protocol.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

import resnet
from bench.config import command, paths
from bench.config.command import Terminal
from bench.config.grammar import WordError, key, values
from bench.config.slurm import cores_here
from bench.evaluation import nets as trained
from bench.evaluation import protocols, rows
from bench.evaluation.exact_bn import set_exact_statistics, spread_rows
from bench.evaluation.images import Normalization, pieces
from bench.evaluation.nets import Net
from bench.evaluation.softmax import Figures, Totals, answers
from kernels.dtypes import PRECISIONS
from resnet.architecture import SHORTCUTS, STRIDES
from resnet.data import (
    DATA_VARIABLE,
    DATASETS,
    DataError,
    Split,
    Splits,
    compute_mean_image,
    dataset_in_environment,
    open_dataset,
)
from results.store.schema import Row
from results.words import DEFAULT_ROOT

PIPE_WIDTH = 120
BN = ("running", "exact")
BN_IMAGES = 2048
BATCH = 64


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    weights: str | None = key("trained nets, as .safetensors; several are an ensemble", "required", path=True)
    data: str | None = key(
        "folder of the dataset, or an archive of it", f"what ${DATA_VARIABLE} has", path=True, one=True
    )
    dataset: str | None = key(
        "which dataset that is", "that of the run that saved the weights", choices=tuple(DATASETS), one=True
    )
    split: str | None = key("images to evaluate", "test", choices=("test", "train"), one=True)
    images: int | None = key("the first so many of them, in their order", "all", unit="images", least=1, one=True)
    protocol: str | None = key(
        "which crops of an image are averaged", "that of a run on the dataset", choices=protocols.PROTOCOLS
    )
    bn: str | None = key(
        "statistics of batch normalization: the momentum average of training, or averages over bn_images", "running",
        choices=BN,
    )  # fmt: skip
    bn_images: int | None = key(
        "training images for bn=exact, spread evenly", str(BN_IMAGES), unit="images", least=2, one=True
    )
    image_size: int | None = key(
        "side that the network sees",
        "that of the run, else of the dataset",
        unit="pixels",
        least=8,
        most=4096,
        one=True,
    )
    recipe: str | None = key(
        "how images were normalized in training, where the weights do not say: fast by channel, paper by mean image",
        "fast", choices=("fast", "paper"), one=True,
    )  # fmt: skip
    shortcut: str | None = key("of the net, where the weights do not say", "known", choices=SHORTCUTS, one=True)
    stride: str | None = key("of its bottlenecks, likewise", "known", choices=STRIDES, one=True)
    batch: int | None = key("views that go through a net at a time", str(BATCH), unit="views", least=1, one=True)
    precision: str | None = key("of the forward pass", "fp32", choices=tuple(PRECISIONS), one=True)
    threads: int | None = key("that read images", "a core each", unit="threads", least=1, most=1024, one=True)
    results: str | None = key("folder that rows are written to", "results/v1 of the checkout", path=True, one=True)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be evaluated, all of it checked but for the images themselves."""

    nets: list[Net]
    dataset: str
    splits: Splits
    split: Split
    images: int
    protocols: tuple[str, ...]
    bn: tuple[str, ...]
    bn_images: int
    image_size: int
    per_pixel: bool
    batch: int
    precision: str
    threads: int
    results: Path
    device: torch.device


def plan(words: Sequence[str]) -> Task:
    """Read a command line, the weights and what the dataset's folder has.

    Raises:
        ValueError: one line that names the first word that cannot be used, and what would do instead.
    """
    typed: dict[str, list[Any]] = values(words, Keys)
    one = {name: each[0] for name, each in typed.items()}
    if "weights" not in typed:
        raise WordError("weights is missing: add weights=PATH, a file that a run's save= wrote")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    nets = []
    for path in dict.fromkeys(typed["weights"]):
        found = paths.existing("weights", path, visible=True)
        try:
            net = trained.load(found, device=device, shortcut=one.get("shortcut"), stride=one.get("stride"))
        except resnet.WeightsError as error:
            raise WordError(f"weights={error}") from None
        nets.append(net)
    dataset = _dataset(nets, one)
    allowed = protocols.fitting(dataset)
    chosen = tuple(dict.fromkeys(typed.get("protocol", [protocols.default_protocol(dataset)])))
    for name in chosen:
        if name not in allowed:
            raise WordError(
                f"protocol={name}: images of {dataset} are evaluated by {', '.join(allowed)} (nearest: "
                f"protocol={_quoted(allowed[0])})"
            )
    image_size = one.get("image_size") or int(trained.one_of(nets, "image_size") or DATASETS[dataset].image_size)
    splits = _open(nets, dataset, one, image_size)
    split = splits.train if one.get("split") == "train" else splits.test
    images = one.get("images", len(split))
    if images > len(split):
        raise WordError(f"images={images}: there are {len(split)}; nearest is images={len(split)}")
    bn = tuple(dict.fromkeys(typed.get("bn", ["running"])))
    bn_images = one.get("bn_images", min(BN_IMAGES, len(splits.train)))
    if "exact" in bn and bn_images > len(splits.train):
        raise WordError(
            f"bn_images={bn_images}: there are {len(splits.train)}; nearest is bn_images={len(splits.train)}"
        )
    recipe = trained.one_of(nets, "recipe", one.get("recipe"))
    return Task(
        nets=nets, dataset=dataset, splits=splits, split=split, images=images, protocols=chosen,
        bn=tuple(name for name in BN if name in bn),  # the exact ones take the place of those that were trained
        bn_images=bn_images, image_size=image_size, per_pixel=recipe == "paper", batch=one.get("batch", BATCH),
        precision=one.get("precision", "fp32"), threads=one.get("threads", cores_here(os.environ)),
        results=paths.check_folder("results", one.get("results", str(DEFAULT_ROOT))), device=device,
    )  # fmt: skip


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def _dataset(nets: Sequence[Net], one: dict[str, Any]) -> str:
    """Which dataset is evaluated: the one that was typed, else that of the runs."""
    if typed := one.get("dataset"):
        return str(typed)
    known = trained.one_of(nets, "dataset")
    if known is None:
        names = ", ".join(DATASETS)
        raise WordError(f"dataset is missing: the weights do not say what they were trained on; choose from {names}")
    if known not in DATASETS:
        raise WordError(f"dataset={known}, of the weights: no such dataset here; choose from {', '.join(DATASETS)}")
    return known


def _open(nets: Sequence[Net], dataset: str, one: dict[str, Any], image_size: int) -> Splits:
    """Open the images, whose classes are those of the nets.

    Raises:
        WordError: there are none, or other ones.
    """
    path: str | None = None
    if DATASETS[dataset].comes_with:
        if "data" in one:
            raise WordError(
                f"data={one['data']}: the {dataset} come with {DATASETS[dataset].comes_with}; leave data out"
            )
    elif "data" in one:
        path = paths.existing("data", one["data"], visible=True)
    else:
        try:
            found = dataset_in_environment(dataset)
        except DataError as error:
            raise WordError(str(error)) from None
        if found is None:
            raise WordError(f"data is missing: add data=PATH; ${DATA_VARIABLE} has no images of {dataset}")
        path = str(found)
    try:
        splits = open_dataset(dataset, path, image_size=image_size)
    except DataError as error:
        raise WordError(f"data={path or dataset}: {error}") from None
    for net in nets:
        if net.number_of_classes != len(splits.classes):
            raise WordError(
                f"weights={net.path}: puts out {net.number_of_classes} classes, and {path or dataset} has "
                f"{len(splits.classes)}"
            )
    return splits


def normalization(task: Task) -> Normalization:
    """How the nets' images were normalized in training.

    Raises:
        resnet.data.DataError: an image of the mean image cannot be read.
    """
    known = DATASETS[task.dataset]
    if not task.per_pixel:
        return Normalization(mean=known.mean, std=known.std)
    mean, _ = compute_mean_image(
        task.splits.train, image_size=task.image_size, threads=task.threads, device=task.device
    )  # fmt: skip
    return Normalization(mean=known.mean, std=known.std, mean_image=mean)


def evaluate(task: Task, normalize: Normalization) -> tuple[dict[tuple[str, int | None], Figures], float]:
    """Evaluate the nets as they are.

    Returns:
        Figures by protocol and member, and the seconds of the pass.

    Raises:
        resnet.data.DataError: an image cannot be read.
    """
    totals, started = Totals(), time.perf_counter()
    found = answers(
        [net.model for net in task.nets], task.split, np.arange(task.images), task.protocols, normalize,
        image_size=task.image_size, batch=task.batch, threads=task.threads, device=task.device,
        precision=task.precision,
    )  # fmt: skip
    for answer in found:
        totals.add(answer)
    return totals.figures(), time.perf_counter() - started


def training_batches(task: Task, normalize: Normalization) -> Iterator[Tensor]:
    """Training images for exact statistics, as a run's own evaluation sees them: float32 [N, 3, S, S]."""
    train = task.splits.train
    (view,) = protocols.views_of(protocols.default_protocol(task.dataset), task.image_size)
    chosen = spread_rows(task.bn_images, len(train))
    read = pieces(train, chosen, [view.crop], image_size=task.image_size, size=task.batch, threads=task.threads)
    for piece in read:
        (found,) = piece.crops.values()
        yield normalize(torch.from_numpy(np.stack([pixels for _, _, pixels in found])).to(task.device))


def make_exact(task: Task, normalize: Normalization) -> None:
    """Give every net the exact statistics of batch normalization."""
    for net in task.nets:

        def forward(batch: Tensor, net: Net = net) -> Tensor:
            precision = PRECISIONS[task.precision].torch_dtype
            with torch.autocast(task.device.type, precision, enabled=task.precision != "fp32"):
                return net.model(batch)

        set_exact_statistics(net.model, training_batches(task, normalize), forward)


def run(task: Task) -> int:
    """Evaluate, print and write down what is planned."""
    try:
        normalize = normalization(task)
        found: list[Row] = []
        for bn in task.bn:
            if bn == "exact":
                make_exact(task, normalize)
            figures, elapsed_s = evaluate(task, normalize)
            bn_images = task.bn_images if bn == "exact" else None
            found += rows.rows_of(task.nets, figures, bn=bn, bn_images=bn_images, elapsed_s=elapsed_s)
    except DataError as error:
        raise command.Failure(str(error)) from None
    evaluation_id = rows.write(
        task.results, found, task.splits, dataset=task.dataset, split=task.split.name, image_size=task.image_size,
        precision=task.precision, device=task.device,
    )  # fmt: skip
    console = Terminal(PIPE_WIDTH)
    console.print(_table(task, found))
    console.print(f"evaluation {evaluation_id}: {len(found)} rows in {task.results}", soft_wrap=True)
    return 0


def _table(task: Task, found: Sequence[Row]) -> Table:
    title = f"{task.splits.name}, {task.images:,} {task.split.name} images, {task.image_size} pixels, {task.precision}"
    table = Table(title=title, caption="errors compare within one protocol and one kind of statistics alone")
    for head in ("net", "protocol", "BN"):
        table.add_column(head)
    for head in ("top-1 error %", "top-5 error %", "loss", "images/s"):
        table.add_column(head, justify="right")
    for row in found:
        name = "ensemble" if row["member"] is None else Path(task.nets[row["member"] - 1].path).name
        bn = row["bn"] if row["bn_images"] is None else f"{row['bn']} over {row['bn_images']:,}"
        errors = [f"{100 * (1 - row[column]):.2f}" for column in ("top1", "top5")]
        table.add_row(name, row["protocol"], bn, *errors, f"{row['loss']:.4f}", f"{row['images_per_s']:.1f}")
    return table


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.evaluate", __doc__, Keys, plan, run, words)


if __name__ == "__main__":
    sys.exit(main())
