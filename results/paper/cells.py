"""A table of the paper: published figures, what was measured beside each, and what has to stand apart."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from results.paper import evaluated, fill, measured
from results.paper.measured import Group, Label, Store
from results.published.figure import ERRORS, Published
from results.published.schedules import SCHEDULES
from results.published.tables import shown_in
from results.words import counted

__all__ = ["TABLES", "Line", "PaperTable", "build"]

TABLES: dict[str, str] = {
    "1": "Table 1: architectures for ImageNet, counted",
    "2": "Table 2: plain and residual nets on ImageNet",
    "3": "Table 3: ImageNet validation, one crop size",
    "4": "Table 4: ImageNet validation, single models, multi-scale",
    "5": "Table 5: ImageNet, ensembles",
    "6": "Table 6: CIFAR-10 test",
    "7": "Table 7: PASCAL VOC, detection",
    "8": "Table 8: COCO, detection",
}
TOP_5 = ("2", "3", "4")  # tables of single nets on ImageNet: their top-5 errors are shown, also where none is published


@dataclass(frozen=True)
class Line:
    """One line of a table: what was published, what was measured, or both where they may stand side by side.

    Attributes:
        published: None where nothing comparable was published.
        group: None where nothing was measured.
        fill: what would fill it; "" where nothing is missing.
    """

    published: Published | None
    group: Group | None
    fill: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table with everything that was measured of its nets.

    Attributes:
        word: such as "table=6".
        lines: comparable ones, by the order of the published figures.
        reduced: groups of smaller runs, which stand beside no figure of the paper.
        other: groups that followed another recipe, likewise.
    """

    word: str
    title: str
    lines: list[Line]
    reduced: list[Group]
    other: list[Group]
    notes: list[str]


def build(number: str, store: Store) -> PaperTable:
    """Lay out a table of the paper over a store."""
    word = f"table={number}"
    published = shown_in(word)
    # Where no run has an error on ImageNet there are no top-5 errors, and all tables are of the same groups.
    imagenet = any(row["dataset"] == "imagenet" and row["final_top1"] is not None for row in store.runs)
    every, said = _groups(store, number in TOP_5 and imagenet)
    groups = [group for group in every if _of_table(group.label, number, published)]
    notes = list(said)
    notes += [
        f"{group.label.system}, {group.label.metric}: {counted(len(group.repeats), 'run')} of a seed that was there "
        f"before, not counted: {', '.join(group.repeats)}"
        for group in groups
        if group.repeats and group.label.metric == "top-1 error"
    ]
    notes += [f"cannot be read: {file.path}: {file.reason}" for file in store.bad]
    return PaperTable(
        word, TABLES[number], _lines(published, [group for group in groups if group.label.kind == "paper"]),
        [group for group in groups if group.label.kind == "reduced"],
        [group for group in groups if group.label.kind == "other"], notes,
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _groups(store: Store, top5: bool) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """All that was measured, whichever table it is of, and notes: once for all tables of a page."""
    pairs, notes = measured.of_runs(store, top5=top5)
    weights, more = evaluated.of_evaluations(store)
    sizes = [(one.dataset, one.image_size, one.num_classes) for one in SCHEDULES.values()]
    return tuple(measured.grouped([*pairs, *weights, *measured.of_counts(store, sizes)])), (*notes, *more)


def _of_table(label: Label, number: str, published: Sequence[Published]) -> bool:
    if label.origin == measured.ENSEMBLE:
        # Table 5 is of ImageNet; of CIFAR-10 no ensemble was published, and they stand below its nets.
        return (number, label.dataset) in (("5", "imagenet"), ("6", "cifar10"))
    named = {(one.net, one.dataset) for one in published if one.net is not None}
    metrics = {one.metric for one in published} | (set(ERRORS) if number in TOP_5 else set())
    return (label.net, label.dataset) in named and label.metric in metrics


def beside(published: Published, label: Label) -> bool:
    """Whether what was measured may stand beside a published figure: one net, data, metric and protocol."""
    same = (
        label.kind == "paper"
        and not label.copy
        and (label.net, label.dataset, label.metric) == (published.net, published.dataset, published.metric)
        and label.protocol == published.protocol
        and published.split in ("", SCHEDULES[label.dataset].split)
        and published.bn in (None, label.bn or None)
        and published.epoch != "best"
    )
    # Published weights are compared with any figure of that net; what trained here followed the paper's recipe.
    return same and (label.origin == measured.WEIGHTS or published.is_ours or published.metric not in ERRORS)


def _lines(published: Sequence[Published], groups: Sequence[Group]) -> list[Line]:
    lines: list[Line] = []
    shown: list[Group] = []
    for one in published:
        # The paper does not say which statistics of batch normalization it took: the first kind that there is stands
        # beside its figure, the momentum average before exact ones, and the others on lines of their own. Of exact ones
        # those over the most images come first: those over a few are worse, whichever were taken last.
        fitting = [group for group in groups if beside(one, group.label)]
        fitting.sort(key=lambda group: (group.label.bn != "running", -(group.label.bn_images or 0)))
        trained = next((group for group in fitting if group.label.origin == measured.TRAINED), None)
        # Which of several files the published figure is of nobody recorded: each stands beside it, in order of time.
        files: dict[str, Group] = {}
        for group in fitting:
            if group.label.origin == measured.WEIGHTS:
                files.setdefault(group.label.of, group)
        if trained is not None:
            lacking = [seed for seed in fill.wanted_seeds(one) if seed not in trained.seeds]
            short = len(trained.values) < len(fill.wanted_seeds(one))
            lines.append(Line(one, trained, fill.of_figure(one, trained.seeds) if short and lacking else ""))
        elif not files or one.is_ours:
            lines.append(Line(one, None, fill.of_figure(one)))
        lines += [Line(one, group) for group in files.values()]
        shown += [*([trained] if trained is not None else []), *files.values()]
    for group in groups:
        if any(group is one for one in shown):
            continue
        lines.insert(_place(lines, group.label), Line(None, group))
    return lines


def _place(lines: Sequence[Line], label: Label) -> int:
    """Where a figure goes that nothing comparable was published of: below the first published one of its net."""
    place = next(
        (
            place
            for place, line in enumerate(lines, 1)
            if line.published is not None
            and line.published.net is not None
            and (line.published.net, line.published.metric) == (label.net, label.metric)
        ),
        len(lines),
    )
    while place < len(lines) and lines[place].published is None:
        place += 1
    return place
