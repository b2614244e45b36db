"""Figures 1, 4 and 6, and nets of one-layer blocks: training and test error over optimizer steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.paper import fill
from results.paper.measured import Store, finite, gone_on_from
from results.paper.rules import Standing, marks_of, net_of, standing
from results.plot.run_rows import RunRows
from results.published.figure import Net, Published
from results.published.schedules import SCHEDULES
from results.published.tables import shown_in
from results.store.schema import Row

__all__ = ["FIGURES", "Curve", "Panel", "Point", "PaperFigure", "build"]


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: nets of one kind."""

    name: str
    dataset: str
    nets: tuple[Net, ...]


def _nets(family: str, shortcut: str, *depths: int) -> tuple[Net, ...]:
    return tuple(Net(family, depth, shortcut) for depth in depths)


FIGURES: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "1": ("Figure 1: plain nets on CIFAR-10", (Panel("plain", "cifar10", _nets("cifar", "none", 20, 56)),)),
    "4": (
        "Figure 4: plain and residual nets on ImageNet",
        (
            Panel("plain", "imagenet", _nets("imagenet", "none", 18, 34)),
            Panel("ResNet", "imagenet", _nets("imagenet", "A", 18, 34)),
        ),
    ),
    "6": (
        "Figure 6: plain and residual nets on CIFAR-10",
        (
            Panel("plain", "cifar10", _nets("cifar", "none", 20, 32, 44, 56, 110)),
            Panel("ResNet", "cifar10", _nets("cifar", "A", 20, 32, 44, 56, 110)),
            Panel("ResNet, deepest", "cifar10", _nets("cifar", "A", 110, 1202)),
        ),
    ),
    "one-layer": (
        "Shortcuts around each layer, y = W1 x + x, on CIFAR-10: section 3.2 of the paper has no figure of them",
        (
            Panel("plain", "cifar10", _nets("cifar", "none", 20, 56)),
            Panel("a shortcut around each layer", "cifar10", _nets("one-layer", "A", 20, 56)),
            Panel("around every second layer", "cifar10", _nets("cifar", "A", 20, 56)),
        ),
    ),
}
# Why a figure has no published end points.
UNPUBLISHED = {
    "4": "no published end points: the paper's errors of these nets are of another protocol, 10-crop",
    "one-layer": "no published end points: of such shortcuts the paper only says that it observed no advantage",
}


@dataclass(frozen=True)
class Point:
    """Errors after an epoch, as fractions; None where not recorded.

    Attributes:
        step: optimizer steps done; None where the length of an epoch is not recorded.
    """

    epoch: int
    step: int | None
    train_error: float | None
    test_error: float | None


@dataclass(frozen=True)
class Curve:
    """One run of a net."""

    net: Net
    run_id: str
    seed: int | None
    stands: Standing
    marks: tuple[str, ...]
    points: list[Point]


@dataclass(frozen=True)
class PaperFigure:
    """A figure with what was measured of its nets.

    Attributes:
        word: such as "figure=6".
        curves: of the paper's recipe on the paper's images.
        apart: of copies of the images, of smaller runs and of other recipes; never in one picture with the paper's.
        ends: published errors at the end of a curve, under the protocol of the curves.
        unpublished: why there are none; "" where there are.
        missing: command by net that has no curve of the paper's recipe.
    """

    word: str
    title: str
    panels: tuple[Panel, ...]
    curves: list[Curve]
    apart: list[Curve]
    ends: list[Published]
    unpublished: str
    missing: dict[Net, str]
    notes: list[str]


def build(number: str, store: Store) -> PaperFigure:
    """Lay out a figure of the paper over a store."""
    word = f"figure={number}"
    title, panels = FIGURES[number]
    wanted = {(net, panel.dataset) for panel in panels for net in panel.nets}
    curves, apart, unfinished, lost = list[Curve](), list[Curve](), list[str](), list[str]()
    gone_on = gone_on_from(store.runs)
    for row in store.runs:
        net, stands = net_of(row), standing(row)
        if net is None or stands is None or (net, row["dataset"]) not in wanted:
            continue
        if row["status"] != "completed":
            if row["run_id"] not in gone_on:
                unfinished.append(row["run_id"])
            continue
        if points := _points(RunRows(store.root, row["run_id"]), row):
            curve = Curve(net, row["run_id"], row.get("seed"), stands, marks_of(row), points)
            (curves if stands.kind == "paper" and not stands.copy else apart).append(curve)
        else:
            lost.append(f"run {row['run_id']}: completed, and no epochs of it can be read: not drawn")
    there = {curve.net for curve in curves}
    missing = {
        net: fill.of_net(net, panel.dataset)
        for panel in panels
        for net in panel.nets
        if net not in there
    }  # fmt: skip
    notes = (
        [f"{len(unfinished)} failed or killed runs are not drawn: {', '.join(unfinished[:3])}"] if unfinished else []
    )
    notes += lost
    notes += [f"cannot be read: {file.path}: {file.reason}" for file in store.bad]
    unpublished = UNPUBLISHED.get(number, "")
    return PaperFigure(word, title, panels, curves, apart, _ends(word), unpublished, missing, notes)


def _ends(word: str) -> list[Published]:
    """Published errors to mark: those of whole images, which is how a run on CIFAR-10 evaluates itself."""
    return [one for one in shown_in(word) if one.protocol == "whole image" and one.is_ours]


def _points(rows: RunRows, row: Row) -> list[Point]:
    """A run's epochs, with those of runs that it went on from; of one trained twice the later attempt's."""
    latest: dict[int, Row] = {}
    for one in sorted(rows.rows("epochs"), key=lambda one: one["restart"] or 0):
        if one.get("epoch") is not None:
            latest[one["epoch"]] = one
    before = {one["epoch"]: one for one in rows.before("epochs") if one.get("epoch") is not None}
    images, batch = row.get("images_per_epoch"), row.get("global_batch")
    each = images // batch if images and batch else None
    most = row.get("steps_completed") or SCHEDULES[row["dataset"]].steps
    return [
        Point(
            epoch, min(epoch * each, most) if each else None, _error(one.get("train_top1")), _error(one.get("top1"))
        )
        for epoch, one in sorted({**before, **latest}.items())
    ]  # fmt: skip


def _error(top1: float | None) -> float | None:
    return 1 - top1 if top1 is not None and finite(top1) else None


def groups_of(found: PaperFigure) -> dict[str, Sequence[Curve]]:
    """Return the curves that one picture may have together, by what is said of them; "" for the paper's own."""
    groups: dict[str, list[Curve]] = {"": list(found.curves)}
    for curve in found.apart:
        if curve.stands.kind == "paper":
            said = curve.stands.copy
        else:
            said = "reduced, not comparable" if curve.stands.kind == "reduced" else "another recipe, not the paper's"
        groups.setdefault(said, []).append(curve)
    return dict(groups)
