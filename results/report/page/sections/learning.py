"""How nets learn: top-1 over the clock with the target and the spread over seeds, and errors over the steps."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from results.check.runs import Run
from results.listing.settings import is_synthetic
from results.plot.accuracy import target_line
from results.plot.picture import plain
from results.report.page.blocks import Picture, Section, Words
from results.report.page.canvas import COLORS, GREY_INK, INK, drawing, figure, quiet, stem_of
from results.report.page.evidence import Evidence, Group, groups_of, marks_of
from results.report.page.sections.grid import headed
from results.store.files import read_rows
from results.store.schema import Row
from results.words import counted

__all__ = ["Curve", "section"]

MOST_PANELS = 6
MOST_SEEDS = 5
HEIGHT_PX = 260
LABELS = {"none": "plain"}
MARKS = 6  # of a curve
BELOW = 25.0  # points of accuracy below the least final one that are drawn at least
Curve = list[Row]  # epochs of a run, the first first


def section(found: Evidence) -> Section:
    """Draw a panel of each kind for each depth of each group."""
    made = Section("learning", "Learning")
    chosen: list[tuple[Group, int, dict[str, list[Run]]]] = []
    left = 0
    groups = groups_of(found.training)
    for group in groups:
        for depth in sorted({depth for depth, _ in group.cells}):
            nets = {}
            for (own, shortcut), runs in group.cells.items():
                if own == depth and (latest := _of_each_seed(runs)):
                    nets[shortcut] = latest
            if nets and len(chosen) < MOST_PANELS:
                chosen.append((group, depth, nets))
            elif nets:
                left += 1
    if not chosen:
        made.status = "no accuracy"
        made.blocks.append(Words("No completed run has an accuracy."))
        return made
    epochs = _epochs(found, [run for *_, nets in chosen for runs in nets.values() for run in runs])
    made.blocks.append(
        Words(
            f"The latest completed run of each seed, {MOST_SEEDS} seeds at most: thin lines are runs, thick ones the "
            "median of their times and of their errors, epoch by epoch. The clock starts before the first training "
            "data and never pauses: evaluation is inside. Training error is of the images as they were trained on: "
            "augmented, at the weights of each step. The first epochs may lie below or above what is drawn."
        )
    )
    pictures: dict[int, list[Picture]] = defaultdict(list)  # by place of the group
    for draw in (_over_time, _over_steps):
        for group, depth, nets in chosen:
            curves = {
                shortcut: [epochs[run.run_id] for run in runs if epochs.get(run.run_id)]
                for shortcut, runs in nets.items()
            }
            curves = {shortcut: own for shortcut, own in curves.items() if own}
            if curves and (picture := draw(group, depth, nets, curves)) is not None:
                pictures[groups.index(group)].append(picture)
    for place, group in enumerate(groups):
        made.blocks += headed(pictures[place], group)
    if left:
        made.blocks.append(Words(f"{counted(left, 'more depth')} of older settings not drawn: python -m results.plot "
                                 "draws any run; html= takes filters.", "note"))  # fmt: skip
    return made


def _of_each_seed(runs: Iterable[Run]) -> list[Run]:
    """The latest completed run of each seed that has an accuracy, the latest seeds."""
    latest: dict[int | None, Run] = {}
    for run in runs:
        if run.completed and run.row["final_top1"] is not None and not is_synthetic(run.row):
            latest.pop(run.row["seed"], None)
            latest[run.row["seed"]] = run
    key = next((run.key for run in reversed(latest.values())), None)
    return [run for run in latest.values() if run.key == key][-MOST_SEEDS:]


def _epochs(found: Evidence, runs: Sequence[Run]) -> dict[str, Curve]:
    """Epochs by run: of one that was trained twice, the later attempt's; of runs that one went on from, theirs."""
    before: dict[str, list[tuple[str, int]]] = {}
    for run in runs:
        words = (run.row["lineage"] or "").split()
        before[run.run_id] = [
            (one.rpartition(".")[0], int(epoch))
            for one, _, epoch in (word.partition("@") for word in words)
            if epoch.isdecimal() and len(epoch) < 10
        ]
    wanted = {run.run_id for run in runs} | {one for own in before.values() for one, _ in own}
    rows, bad = read_rows(found.root, "epochs", wanted)
    found.faults += [str(one) for one in bad if str(one) not in found.faults]
    by_run: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row["restart"] or 0):
        if row["epoch"] is not None and _finite(row["elapsed_s"]):
            by_run[row["run_id"]][row["epoch"]] = row
    curves = {}
    for run in runs:
        own: dict[int, Row] = {}
        for one, epoch in before[run.run_id]:
            own |= {place: row for place, row in by_run[one].items() if place <= epoch}
        own |= by_run[run.run_id]
        if own:
            curves[run.run_id] = [row for _, row in sorted(own.items())]
    return curves


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _median(curves: Sequence[Curve], x: str, y: str) -> list[tuple[float, float]]:
    """By epoch the medians of two columns, of the runs that came farthest; of an epoch that one lacks there is none."""
    farthest = max((curve[-1]["epoch"] for curve in curves if curve), default=0)
    curves = [curve for curve in curves if curve and curve[-1]["epoch"] == farthest]
    by_epoch: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for curve in curves:
        for row in curve:
            if _finite(row.get(x)) and _finite(row.get(y)):
                by_epoch[row["epoch"]].append((row[x], row[y]))
    return [
        (statistics.median(a), statistics.median(b))
        for _, own in sorted(by_epoch.items())
        if len(own) == len(curves)
        for a, b in [zip(*own, strict=True)]
    ]


def _over_time(group: Group, depth: int, nets: dict[str, list[Run]], curves: dict[str, list[Curve]]) -> Picture | None:
    runs = [run for own in nets.values() for run in own]
    targets = {run.row["target_top1"] for run in runs if _finite(run.row["target_top1"])}
    ends: list[float] = []
    stem, said = stem_of(f"accuracy-{depth}", group.latest), []
    with drawing(stem):
        drawn = figure(HEIGHT_PX)
        axes = drawn.add_subplot()
        for place, ((color, marker), (shortcut, own)) in enumerate(zip(COLORS, curves.items(), strict=False)):
            for curve in own if len(own) > 1 else ():
                points = [(row["elapsed_s"], 100 * row["top1"]) for row in curve if _finite(row.get("top1"))]
                axes.plot(*zip(*points, strict=True), color=color, lw=0.7, alpha=0.6) if points else None
            middle = _median(own, "elapsed_s", "top1")
            if middle:
                label = _label(shortcut)
                times, tops = zip(*middle, strict=True)
                axes.plot(times, [100 * top for top in tops], color=color, lw=2, marker=marker, ms=5,
                          markevery=_staggered(place, len(curves), len(times)),
                          label=f"{label}, {counted(len(own), 'seed')}")  # fmt: skip
                ends.append(100 * tops[-1])
                said.append(f"{label}: {100 * tops[-1]:.2f}% after {times[-1]:,.1f} s")
        if not said:
            said, ends = ["no epoch is there of all seeds, and so no median"], [0.0]
        for target in sorted(targets):
            target_line(axes, 100 * target, f"target {100 * target:g}%", color=INK, above=False, at_end=True)
            said.append(f"target {100 * target:g}%")
        axes.set_xlabel("seconds on the run's clock")
        axes.set_ylabel("top-1, %")
        axes.set_xlim(left=0)
        # The first epochs would take most of the height.
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, min(ends) - BELOW), high)
        quiet(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")
    return _picture(stem, f"Top-1 over time, depth {depth}", "; ".join(said), drawn, runs)


def _label(shortcut: str) -> str:
    return plain(LABELS.get(shortcut, f"shortcut {shortcut}"))


def _staggered(place: int, count: int, points: int) -> tuple[int, int]:
    """Which points of a curve have marks: not those of the others, with which it may coincide."""
    every = max(points // MARKS, count)
    return min(place * every // count, max(points - 1, 0)), every


def _over_steps(group: Group, depth: int, nets: dict[str, list[Run]], curves: dict[str, list[Curve]]) -> Picture | None:
    runs = [run for own in nets.values() for run in own]
    each = {
        row["images_per_epoch"] // row["global_batch"] if row["images_per_epoch"] and row["global_batch"] else None
        for row in (run.row for run in runs)
    }
    steps = each.pop() if len(each) == 1 else None
    errors_in_the_end: list[float] = []
    stem, said = stem_of(f"errors-{depth}", group.latest), []
    with drawing(stem):
        drawn = figure(HEIGHT_PX)
        axes = drawn.add_subplot()
        for place, ((color, marker), (shortcut, own)) in enumerate(zip(COLORS, curves.items(), strict=False)):
            label = _label(shortcut)
            for column, dash, of in (("top1", "-", "test"), ("train_top1", "--", "training")):
                if middle := _median(own, "epoch", column):
                    epochs, tops = zip(*middle, strict=True)
                    errors = [100 * (1 - top) for top in tops]
                    axes.plot([epoch * (steps or 1) for epoch in epochs], errors, color=color, ls=dash,
                              lw=1.8 if dash == "-" else 1.2, label=label if dash == "-" else None,
                              marker=marker if dash == "-" else None, ms=5,
                              markevery=_staggered(place, len(curves), len(epochs)))  # fmt: skip
                    errors_in_the_end.append(errors[-1])
                    said.append(f"{label}, {of} error {errors[-1]:.2f}% in the end")
        if not said:
            return None
        axes.plot([], [], color=GREY_INK, ls="--", lw=1.2, label="dashed: training")
        axes.set_xlabel("optimizer steps" if steps else "epochs")
        axes.set_ylabel("error, %")
        axes.set_xlim(left=0)
        axes.set_ylim(0, min(axes.get_ylim()[1], max(errors_in_the_end) + BELOW))
        quiet(axes)
        axes.legend(loc="upper right")
    return _picture(stem, f"Test and training error, depth {depth}", "; ".join(said), drawn, runs)


def _picture(stem: str, title: str, alt: str, drawn: Figure, runs: Sequence[Run]) -> Picture:
    marks = dict.fromkeys(mark for run in runs for mark in marks_of(run))
    note = f"{', '.join(marks)}." if marks else ""
    return Picture(stem=stem, title=title, alt=alt, figure=drawn, note=note, runs=[run.run_id for run in runs])
