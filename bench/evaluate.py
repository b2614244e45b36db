"""Evaluates trained nets by the paper's test protocols, alone and as an ensemble.

    python -m bench.evaluate weights=PATH[,PATH] data=PATH [protocol=1-crop,10-crop,multi-scale] [bn=running,exact]
    python -m bench.evaluate weights=a.safetensors,b.safetensors data=/data/imagenet protocol=10-crop

Several weights are an ensemble: their softmax is averaged, and each net's own figures stand beside it. All protocols
are computed in one pass over the images. A file that a run saved says which network it is, its dataset and how images
were normalized; one from elsewhere, with torchvision's names and shapes, is asked for what it does not say (stride= of
bottlenecks, shortcut= of nets without projections). The result is a row of the table `evaluations` for each net,
protocol and kind of statistics; a figure is compared only with one of the same protocol.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from bench.config import command
from bench.config.command import Terminal
from bench.config.examined import BN_IMAGES, STATISTICS, check_protocols
from bench.config.grammar import WordError, key, values
from bench.evaluation import rows
from bench.evaluation.exact_bn import mixed_rows, set_exact_statistics
from bench.evaluation.images import Normalization
from bench.evaluation.softmax import Figures, NotFinite, Totals, answers
from bench.evaluation.task import SharedKeys, Subject, normalization, plain_batches, subject
from resnet.architecture import check_bn_values
from resnet.data import DATASETS, PROTOCOLS, DataError
from results.store.schema import Row
from results.words import printable

PIPE_WIDTH = 120


@dataclass(kw_only=True)
class Keys(SharedKeys):
    """Words of the command line."""

    protocol: str | None = key(
        "which crops of an image are averaged", "that of a run on the dataset", choices=PROTOCOLS
    )
    bn: str | None = key(
        "statistics of batch normalization: the momentum average of training, or averages over bn_images", "running",
        choices=STATISTICS,
    )  # fmt: skip
    bn_images: int | None = key(
        "training images for bn=exact, spread evenly", str(BN_IMAGES), unit="images", least=2, one=True
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be evaluated, and how.

    Attributes:
        bn: kinds of statistics, in the order in which the nets have them.
        bn_images: training images for the exact ones.
    """

    of: Subject
    protocols: tuple[str, ...]
    bn: tuple[str, ...]
    bn_images: int


def plan(words: Sequence[str]) -> Task:
    """Read a command line, the weights and what the dataset's folder has.

    Raises:
        ValueError: one line that names the first word that cannot be used, and what would do instead.
    """
    typed = values(words, Keys)
    of = subject(typed)
    chosen = tuple(dict.fromkeys(typed.get("protocol", [DATASETS[of.dataset].eval_protocol])))
    check_protocols(of.dataset, chosen)
    asked = typed.get("bn", ["running"])
    most = len(of.splits.train)
    if "bn_images" in typed and "exact" not in asked:
        (number,) = typed["bn_images"]
        raise WordError(f"bn_images={number}: is for bn=exact; add bn=exact, or leave bn_images out")
    (bn_images,) = typed.get("bn_images", [min(BN_IMAGES, most)])
    if "exact" in asked and bn_images > most:
        raise WordError(f"bn_images={bn_images}: there are {most}; nearest is bn_images={most}")
    if "exact" in asked:
        for net in of.nets:
            check_bn_values(net.model.architecture, of.image_size, of.batch)
    # The exact statistics take the place of those that were trained.
    return Task(of=of, protocols=chosen, bn=tuple(name for name in STATISTICS if name in asked), bn_images=bn_images)


def evaluate(task: Task, normalize: Normalization) -> tuple[dict[tuple[str, int | None], Figures], float]:
    """Evaluate the nets as they are.

    Returns:
        Figures by protocol and member, and the seconds of the pass.

    Raises:
        resnet.data.DataError: an image cannot be read.
    """
    of = task.of
    totals, started = Totals(task.protocols, len(of.nets)), time.perf_counter()
    found = answers(
        [net.model for net in of.nets], of.split, np.arange(of.images), task.protocols, normalize,
        image_size=of.image_size, batch=of.batch, threads=of.threads, device=of.device, precision=of.precision,
    )  # fmt: skip
    for answer in found:
        totals.add(answer)
    return totals.figures(), time.perf_counter() - started


def make_exact(task: Task, normalize: Normalization) -> None:
    """Give every net the exact statistics of batch normalization."""
    train = task.of.splits.train
    chosen = mixed_rows(task.bn_images, len(train))
    for net in task.of.nets:
        images = (images for images, _ in plain_batches(task.of, train, chosen, normalize))
        with task.of.autocast():
            set_exact_statistics(net.model, images)


def run(task: Task) -> int:
    """Evaluate, print and write down what is planned: each pass before the next, which may fail."""
    console = Terminal(PIPE_WIDTH)
    try:
        normalize = normalization(task.of)
        evaluation_id = rows.new_id("evaluations")
        for part, bn in enumerate(task.bn):
            if bn == "exact":
                make_exact(task, normalize)
            figures, elapsed_s = evaluate(task, normalize)
            bn_images = task.bn_images if bn == "exact" else None
            found = rows.rows_of(task.of.nets, figures, bn=bn, bn_images=bn_images, elapsed_s=elapsed_s)
            # Printed first: a disk that is full loses no figure.
            console.print(_table(task.of, found))
            rows.write(task.of, task.of.split, "evaluations", found, evaluation_id, part)
            where = f"evaluation {evaluation_id}: {len(found)} rows in {task.of.results}"
            console.print(where, soft_wrap=True, markup=False)
    except (DataError, NotFinite) as error:
        raise command.Failure(str(error)) from None
    return 0


def _table(of: Subject, found: Sequence[Row]) -> Table:
    caption = "errors compare within one protocol and one kind of statistics alone"
    table = Table(title=Text(printable(rows.title(of))), caption=caption)
    for head in ("net", "protocol", "BN"):
        table.add_column(head)
    for head in ("top-1 error %", "top-5 error %", "loss", "images/s"):
        table.add_column(head, justify="right")
    for row in found:
        name = "ensemble" if row["member"] is None else Path(of.nets[row["member"] - 1].path).name
        bn = row["bn"] if row["bn_images"] is None else f"{row['bn']} over {row['bn_images']:,}"
        errors = [f"{100 * (1 - row[column]):.2f}" for column in ("top1", "top5")]
        table.add_row(
            Text(printable(name)), row["protocol"], bn, *errors, f"{row['loss']:.4f}", f"{row['images_per_s']:.1f}"
        )
    return table


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.evaluate", __doc__, Keys, plan, run, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
