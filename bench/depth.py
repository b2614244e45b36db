"""Examines how much each block of a trained net does: responses, lesions, truncations, and whether its depth is empty.

    python -m bench.depth weights=PATH data=PATH [images=300] [draws=20]
    python -m bench.depth weights=a.safetensors images=300

Of each layer with a 3x3 convolution the deviation of its BN's output (the paper's Figure 7); of each residual block
|F(x)|/|x|, and what top-1 loses without it; of each stage what top-1 loses without its last blocks, and without as many
others at random. The verdict is on the strong reading of "optimal depth", that the blocks past it are empty: truncating
is then free, leaving out others is not, and the last blocks respond with next to nothing. Rows go to the table
`lesions`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import WordError, key, values
from bench.evaluation import rows
from bench.evaluation.exact_bn import spread_rows
from bench.evaluation.lesions import DRAWS, Cut, Examination, Place, all_cuts, examine
from bench.evaluation.softmax import NotFinite
from bench.evaluation.task import SharedKeys, Subject, normalization, plain_batches, subject
from bench.evaluation.verdict import Cost, costs, verdict
from resnet.data import DATASETS, DataError
from results.store.schema import Row
from results.words import printable

PIPE_WIDTH = 120


@dataclass(kw_only=True)
class Keys(SharedKeys):
    """Words of the command line."""

    images: int | None = key("so many of them, spread evenly over the split", "all", unit="images", least=1, one=True)
    draws: int | None = key(
        "sets of random blocks for each number of them", str(DRAWS), unit="sets", least=2, most=1000, one=True
    )
    seed: int | None = key("of the random choice", "0", least=0, most=2**32 - 1, one=True)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be examined: one net, and how it is cut."""

    of: Subject
    draws: int
    seed: int


def plan(words: Sequence[str]) -> Task:
    """Read a command line, the weights and what the dataset's folder has.

    Raises:
        ValueError: one line that names the first word that cannot be used, and what would do instead.
    """
    typed = values(words, Keys)
    if len(set(typed.get("weights", []))) > 1:
        raise WordError(f"weights={','.join(typed['weights'])}: one net is examined at a time")
    (draws,), (seed,) = typed.get("draws", [DRAWS]), typed.get("seed", [0])
    return Task(of=subject(typed), draws=draws, seed=seed)


def run(task: Task) -> int:
    """Examine, print and write down what is planned."""
    of = task.of
    (net,) = of.nets
    cuts = all_cuts(net.model, task.draws, task.seed)
    try:
        with of.autocast():
            batches = plain_batches(of, of.split, spread_rows(of.images, len(of.split)), normalization(of))
            found = examine(net.model, batches, cuts)
    except (DataError, NotFinite) as error:
        raise command.Failure(str(error)) from None
    known = costs(found)
    console = Terminal(PIPE_WIDTH)
    console.print(_of_blocks(task, found, known))
    console.print(_of_stages(known))
    says = verdict(found, known)
    silent = "a plain net has no shortcuts" if not found.ratios else "with a block a stage there are no last ones"
    console.print(str(says) if says else f"{silent}: nothing is said of optimal depth", soft_wrap=True)
    # Printed first: a disk that is full loses no figure.
    evaluation_id, shared = rows.new_id("lesions"), _shared(task)
    rows.write(of, of.split, "lesions", [one | shared for one in rows.lesion_rows(found, known)], evaluation_id)
    console.print(f"examination {evaluation_id}: rows in {of.results}", soft_wrap=True, markup=False)
    return 0


def _shared(task: Task) -> Row:
    protocol = DATASETS[task.of.dataset].eval_protocol
    row = rows.of_nets(task.of.nets)
    return row | {"weights": rows.hashes(task.of.nets), "images": task.of.images, "protocol": protocol}


def _of_blocks(task: Task, found: Examination, known: Mapping[Cut, Cost]) -> Table:
    top1 = float(found.right[None].mean())
    table = Table(title=Text(printable(f"{rows.title(task.of)}, top-1 of the whole net {top1:.4f}")))
    for head in ("block", "responses of its 3x3 layers", "|F(x)|/|x|", "top-1 lost without it", "95% interval"):
        table.add_column(head, justify="left" if head == "block" else "right")
    single = {cut.places[0]: cost for cut, cost in known.items() if cut.kind == "lesion"}
    for stage, blocks in enumerate(task.of.nets[0].model.stages(), start=1):
        for number in range(1, len(blocks) + 1):
            place = Place(stage, number)
            layers = [f"{value:.3f}" for name, value in found.responses.items() if name.startswith(f"{place.name}.")]
            ratio, cost = found.ratios.get(place), single.get(place)
            table.add_row(
                place.name, " ".join(layers), "" if ratio is None else f"{ratio:.3f}", *_shown(cost)
            )  # fmt: skip
    return table


def _of_stages(known: Mapping[Cut, Cost]) -> Table:
    table = Table(title="top-1 lost without the last blocks of a stage, and without as many others at random")
    for head in ("stage", "blocks", "the last", "95% interval", "others", "middle 95% of the draws", "draws"):
        table.add_column(head, justify="right")
    others = {(cut.places[0].stage, len(cut.places)): cost for cut, cost in known.items() if cut.kind == "deletion"}
    for cut, cost in known.items():
        if cut.kind == "truncation":
            stage, count = cut.places[0].stage, len(cut.places)
            other = others.get((stage, count))
            table.add_row(
                str(stage), str(count), *_shown(cost), *_shown(other), "" if other is None else str(other.draws)
            )  # fmt: skip
    return table


def _shown(cost: Cost | None) -> tuple[str, str]:
    if cost is None:
        return "", ""
    return f"{cost.mean:.4f}", f"{cost.low:.4f} to {cost.high:.4f}"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.depth", __doc__, Keys, plan, run, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
