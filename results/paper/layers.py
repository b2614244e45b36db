"""What was measured of each layer of a net, from the table `lesions`: whose rows they are, and what figures share."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from results.paper.measured import Store
from results.paper.rules import Standing, net_of, run_of
from results.published.figure import Net
from results.published.schedules import SCHEDULES
from results.store.files import read_rows
from results.store.schema import Row
from results.words import counted

__all__ = ["DATASET", "Examined", "LayerFigure", "One", "by_command", "images_text", "in_order", "unfinished_notes"]

DATASET = "cifar10"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A net whose layers were looked at.

    Attributes:
        run_id: that trained it, or the first digits of the file's hash where no run did.
    """

    net: Net
    run_id: str
    seed: int | None
    stands: Standing
    marks: tuple[str, ...]


One = TypeVar("One", bound=Examined)


@dataclass(frozen=True)
class LayerFigure(Generic[One]):
    """A figure by layer, with what was measured of its nets.

    Attributes:
        nets: of the figure.
        shown: of nets that were trained as the paper's were.
        apart: of copies of the images, of smaller runs and of other recipes.
        missing: commands by net that nothing whole is shown of.
    """

    word: str
    title: str
    nets: tuple[Net, ...]
    shown: list[One]
    apart: list[One]
    missing: dict[Net, str]
    notes: list[str]

    @classmethod
    def of(
        cls,
        word: str,
        title: str,
        fills: Mapping[Net, str],
        found: Sequence[One],
        whole: Iterable[One],
        notes: Iterable[str],
    ) -> Self:
        """Lay out what was measured.

        Args:
            fills: by each net of the figure the command that would measure it.
            found: all that may be shown.
            whole: those of which nothing is missing.
        """
        shown = [one for one in found if one.stands.kind == "paper" and not one.stands.copy]
        there = {one.net for one in whole if one in shown}
        missing = {net: command for net, command in fills.items() if net not in there}
        apart = [one for one in found if one not in shown]
        return cls(word, title, tuple(fills), shown, apart, missing, list(notes))


def by_command(store: Store, kinds: Iterable[str], split: str) -> tuple[list[list[Row]], list[str]]:
    """Rows of some kinds on the images of a split, those of each command together, the earliest command first.

    Returns:
        The rows; and lines on files of the store that cannot be read, and on rows that cannot be shown.
    """
    rows, bad = read_rows(store.root, "lesions")
    chosen, commands, lost = set(kinds), dict[str, list[Row]](), Counter[str]()
    for row in rows:
        if row["kind"] in chosen and row.get("dataset") == DATASET and row.get("split") == split:
            if row["stage"] is None or row["block"] is None:
                lost[row["evaluation_id"]] += 1
            else:
                commands.setdefault(row["evaluation_id"], []).append(row)
    notes = [f"cannot be read: {file.path}: {file.reason}" for file in [*store.bad, *bad]]
    notes += [
        f"examination {name}: {counted(number, 'row')} of no stage or block, not shown" for name, number in lost.items()
    ]
    return sorted(commands.values(), key=lambda own: str(own[0].get("created") or "")), notes


def unfinished_notes(of: Iterable[Row], nets: Collection[Net | None], runs: Mapping[str, Row]) -> list[str]:
    """Name the runs that failed or were killed, whose nets are therefore not shown.

    Args:
        of: rows of nets that were looked at.
        nets: of the figure.
        runs: by id, each its last attempt.
    """
    ids = dict.fromkeys(
        run["run_id"]
        for row in of
        if net_of(row) in nets and (run := runs.get(run_of(row))) is not None and run["status"] != "completed"
    )
    some = ", ".join([*ids][:3]) + (", ..." if len(ids) > 3 else "")
    return [f"{len(ids)} failed or killed runs are not shown: {some}"] if ids else []


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of a net's layers."""
    return sorted(rows, key=lambda row: (row["stage"], row["block"], row.get("layer") or ""))


def images_text(images: int | None, split: str) -> str:
    """Over which images, such as "300 of 10,000 test images"."""
    schedule = SCHEDULES[DATASET]
    total, kind = (schedule.train_images, "training") if split == "train" else (schedule.test_images, "test")
    return f"{'an unknown number' if images is None else f'{images:,}'} of {total:,} {kind} images"
