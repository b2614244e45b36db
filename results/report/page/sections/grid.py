"""Depth against shortcut: throughput, accuracy and time to the target, one map for each set of other settings."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.patches import Rectangle

from results.check.runs import Run
from results.check.verdict import Verdict
from results.listing.settings import is_synthetic
from results.listing.terminal import rate_text
from results.report.page.blocks import Block, Column, Heading, Picture, Section, Table, Words
from results.report.page.canvas import GREY_INK, INK, RULE, drawing, figure, stem_of
from results.report.page.evidence import RECENT, Evidence, Group, groups_of, marks_of, recent
from results.report.page.sections.verdict import suspected
from results.words import counted

__all__ = ["Map", "cell_of", "headed", "section"]

MOST_GROUPS = 12
ROW_PX, HEAD_PX = 34, 64
WORSE, SUSPECTED, STALE = "\N{BLACK DOWN-POINTING TRIANGLE}", "\N{WHITE DOWN-POINTING TRIANGLE}", "*"
SPOKEN = {WORSE: "regression", SUSPECTED: "suspected regression", STALE: "an old figure"}
SHORTCUTS = ("none", "A", "B", "C")
# Light to dark, by lightness alone, which everybody sees; its ends leave words legible.
COLORS = matplotlib.colormaps["cividis"]


@dataclass(frozen=True)
class Map:
    """A figure over depth and shortcut.

    Attributes:
        metric: the column.
        log: whether colours go by ratio.
        shown: a value in a cell of the map.
        least: whether less is better, and so lighter.
    """

    metric: str
    title: str
    log: bool
    shown: Callable[[float], str]
    least: bool = False


MAPS = (
    Map("images_per_s", "images/s", True, rate_text),
    Map("final_top1", "final top-1, %", False, lambda value: f"{100 * value:.2f}"),
    Map(
        "tta_s",
        "seconds to the target",
        True,
        lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}",
        least=True,
    ),
)


def section(found: Evidence) -> Section:
    """Draw the maps of each group of cells."""
    made = Section("cells", "Depth and shortcut")
    groups = groups_of(found.training)
    if not groups:
        made.status = "no runs"
        made.blocks.append(
            Words("No training run is here: python launch/local.py depth=20 shortcut=A,B,C dataset=digits")
        )
        return made
    marked = {
        (one.key, one.metric): WORSE if one.verdict is Verdict.REGRESSION else SUSPECTED
        for one in found.findings
        if one.verdict is Verdict.REGRESSION or suspected(one)
    }
    marked |= {(one.key, ""): STALE for one in found.findings if one.verdict is Verdict.MISSING}
    made.status = counted(sum(len(group.cells) for group in groups), "cell")
    made.blocks.append(
        Words(
            f"Each number is the median of the last {RECENT} completed runs of its cell, or of as many as there are; "
            f"lighter is better. {WORSE} a regression, {SUSPECTED} a suspected one; {STALE} an old figure: the newest "
            "run of the cell failed, or the newest night has none. never: fewer than half reached its target. Rows "
            "of two machines, or of other settings, are in maps of their own."
        )
    )
    if best := _fastest(found, groups):
        made.blocks.append(Words(best, "lead"))
    alone = []
    for group in groups[:MOST_GROUPS]:
        if len(group.cells) == 1:
            alone += _alone(found, group, marked)
            continue
        pictures = [one for map_ in MAPS if (one := _picture(found, group, map_, marked)) is not None]
        made.blocks += headed(pictures, group)
    if alone:
        heads = ("net", "settings", *(map_.title for map_ in MAPS), "runs")
        columns = [
            Column(head, right=2 <= place < 2 + len(MAPS), code=head == "runs", wide=head == "settings")
            for place, head in enumerate(heads)
        ]
        made.blocks.append(Table("Nets that are the only one of their settings", columns, alone))
    if left := groups[MOST_GROUPS:]:
        runs = sum(len(group.runs) for group in left)
        made.blocks.append(
            Words(f"{counted(len(left), 'older set')} of settings, {counted(runs, 'run')}, not drawn: "
                  "python -m results.report lists them; html= takes filters.", "note")
        )  # fmt: skip
    return made


def _alone(found: Evidence, group: Group, marked: Mapping[tuple[str, str], str]) -> list[tuple[str, ...]]:
    """The line of a cell that no other is beside."""
    (((depth, shortcut), runs),) = group.cells.items()
    texts, of = [], []
    for map_ in MAPS:
        value, own = cell_of(runs, map_.metric)
        target = runs[-1].row["target_top1"]
        goal = f" (top-1 {target:g})" if map_.metric == "tta_s" and target is not None else ""
        mark = _mark(runs, map_.metric, marked) if value is not None else ""
        texts.append(f"{_text(group, (depth, shortcut), value, map_)}{goal} {mark}".strip())
        of += own
    marks = dict.fromkeys(mark for run in of for mark in marks_of(run))
    label = ", ".join([group.label, *marks])
    return [(_net(group, depth, shortcut), label, *texts, found.short(dict.fromkeys(run.run_id for run in of)))]


def headed(pictures: Sequence[Picture], group: Group) -> list[Block]:
    """Return the pictures of a group below a heading that says what they are of."""
    return [Heading(group.label), *(replace(one, of=group.label) for one in pictures)] if pictures else []


def cell_of(runs: Sequence[Run], metric: str) -> tuple[float | None, list[Run]]:
    """Return the figure of a cell and the runs that it is the median of; None where there is none.

    A run that did not reach its target took for ever: half of them must have, or the cell has no time to it.
    """
    key = next((run.key for run in reversed(runs) if run.completed), None)
    of = [run for run in recent([run for run in runs if run.key == key]) if _number(run, metric) is not None]
    values = [value for run in of if (value := _number(run, metric)) is not None]
    middle = statistics.median(values) if values else math.inf
    return (middle, of) if math.isfinite(middle) else (None, [])


def _number(run: Run, metric: str) -> float | None:
    value = run.row[metric]
    if metric == "tta_s" and value is None and run.row["target_top1"] is not None and not is_synthetic(run.row):
        return math.inf
    if value is None or not math.isfinite(value) or (metric != "images_per_s" and is_synthetic(run.row)):
        return None
    return float(value)


def _fastest(found: Evidence, groups: Sequence[Group]) -> str:
    """Which net reached its target first, of the newest group that has several that did."""
    for group in groups:
        times = {}
        for cell, runs in group.cells.items():
            value, of = cell_of(runs, "tta_s")
            if value is not None and runs[-1].completed:
                times[cell] = (value, of)
        if len(times) > 1:
            (depth, shortcut), (value, of) = min(times.items(), key=lambda item: item[1][0])
            target = of[-1].row["target_top1"]
            goal = f"top-1 {target:g}" if target is not None else "its target"
            behind = f"{counted(len(of), 'run')}: {found.short(run.run_id for run in of)}"
            return (
                f"Fastest to {goal}: {_net(group, depth, shortcut)}, {value:,.1f} s (median of {behind}), of "
                f"{counted(len(times), 'net')} that reached it ({group.label})."
            )
    return ""


def _net(group: Group, depth: int, shortcut: str) -> str:
    return f"plain-{depth}" if shortcut == "none" else f"ResNet-{depth} with shortcut {shortcut}"


def _picture(found: Evidence, group: Group, map_: Map, marked: Mapping[tuple[str, str], str]) -> Picture | None:
    values = {cell: cell_of(runs, map_.metric) for cell, runs in group.cells.items()}
    known = {cell: value for cell, (value, _) in values.items() if value is not None}
    if not known:
        return None
    depths = sorted({depth for depth, _ in group.cells})
    shortcuts = [one for one in SHORTCUTS if any(shortcut == one for _, shortcut in group.cells)]
    stem = stem_of(f"cells-{map_.metric.replace('_', '-')}", group.latest)
    low, high = min(known.values()), max(known.values())
    norm = LogNorm(low, high) if map_.log and 0 < low < high else Normalize(low, high if high > low else low + 1)
    target = {run.row["target_top1"] for runs in group.cells.values() for run in runs[-1:]} - {None}
    goal = f" (top-1 {', '.join(f'{one:g}' for one in sorted(target))})" if map_.metric == "tta_s" and target else ""
    said = []
    with drawing(stem):
        drawn = figure(HEAD_PX + ROW_PX * len(depths))
        axes = drawn.add_subplot()
        for row, depth in enumerate(depths):
            for column, shortcut in enumerate(shortcuts):
                cell = (depth, shortcut)
                mark = _mark(group.cells.get(cell, ()), map_.metric, marked)
                text = f"{_text(group, cell, known.get(cell), map_)} {mark if cell in known else ''}".strip()
                spoken = f" ({SPOKEN[mark]})" if mark and cell in known else ""
                said.append(f"{_net(group, depth, shortcut)} {text.removesuffix(mark).strip()}{spoken}")
                if cell in known:
                    place = float(norm(known[cell]))
                    color = COLORS(0.15 + 0.85 * (1 - place if map_.least else place))
                    axes.add_patch(Rectangle((column, row), 1, 1, fc=color, ec="white", lw=1))
                    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=_readable(to_hex(color)))
                else:
                    axes.add_patch(Rectangle((column, row), 1, 1, fc="none", ec=RULE, hatch="///", lw=1))
                    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=INK)
        axes.set(xlim=(0, len(shortcuts)), ylim=(len(depths), 0))
        axes.set_xticks(
            [place + 0.5 for place in range(len(shortcuts))], [one.replace("none", "plain") for one in shortcuts]
        )
        axes.set_yticks([place + 0.5 for place in range(len(depths))], [str(depth) for depth in depths])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.set_ylabel("depth", color=GREY_INK)
        axes.set_xlabel("shortcut", color=GREY_INK)
        axes.xaxis.set_label_position("top")
        axes.spines[:].set_visible(False)
    of = [run for _, own in values.values() for run in own]
    marks = dict.fromkeys(mark for run in of for mark in marks_of(run))
    return Picture(
        stem=stem, title=f"{map_.title}{goal}", alt=f"{map_.title} by net: {'; '.join(said)}", figure=drawn,
        note=f"{', '.join(marks)}." if marks else "", runs=[run.run_id for run in of],
    )  # fmt: skip


def _mark(runs: Sequence[Run], metric: str, marked: Mapping[tuple[str, str], str]) -> str:
    if not runs:
        return ""
    key = runs[-1].key
    stale = STALE if not runs[-1].completed else marked.get((key, ""), "")
    return marked.get((key, metric), "") or stale


def _text(group: Group, cell: tuple[int, str], value: float | None, map_: Map) -> str:
    if value is not None:
        return map_.shown(value)
    runs = group.cells.get(cell, ())
    if not runs:
        return "missing"
    if runs[-1].completed:
        aimed = runs[-1].row["target_top1"] is not None and not is_synthetic(runs[-1].row)
        return "never" if map_.metric == "tta_s" and aimed else "none"
    return str(runs[-1].row["status"] or "unknown")


def _readable(color: str) -> str:
    """Black or white, whichever stands out more from a colour (WCAG 2, relative luminance)."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#010101" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fefefe"
