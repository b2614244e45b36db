"""The history of throughput, cell by cell, with the points at which it changed and what changed with them."""

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from results.history.e_divisive import LEAST_SEGMENT
from results.history.series import History, Segment
from results.listing.terminal import rate_text
from results.plot.picture import BLUE, VERMILION
from results.report.page.blocks import Column, Picture, Section, Table, Words
from results.report.page.canvas import INK, drawing, figure, quiet, shortened, stem_of
from results.report.page.evidence import MOST_POINTS, Evidence, marks_of
from results.words import counted, printable

__all__ = ["section"]

MOST_PANELS = 6
MOST_DRAWN = 90  # runs of a cell, the latest
MOST_ROWS = 60
HEIGHT_PX = 230


def section(found: Evidence) -> Section:
    """Draw the histories that changed, then the longest of those that did not."""
    made = Section("history", "History")
    long = [one for one in found.histories if len(one.points) >= 2 * LEAST_SEGMENT]
    if not long:
        made.status = "too short"
        made.blocks.append(
            Words(f"No cell has {2 * LEAST_SEGMENT} runs yet, the fewest in which a change can be found.")
        )
        return made
    changed = [one for one in long if len(one.segments) > 1]
    made.status = counted(len(changed), "changed cell")
    made.blocks.append(
        Words(
            f"images/s of {counted(len(long), 'cell')} with {2 * LEAST_SEGMENT} runs or more: {len(changed)} changed. "
            f"Change points are E-divisive's, looked for in the last {MOST_POINTS} runs of each. They help to find "
            "when a figure changed, and decide nothing: up to 5% of steady cells show one by chance."
        )
    )
    ordered = sorted(long, key=lambda one: (-_latest(one), -len(one.points)))
    made.blocks += [_picture(one) for one in ordered[:MOST_PANELS]]
    if rows := _rows(changed, found):
        heads = ("since", "cell", "images/s before", "after", "change", "what else changed", "first run")
        columns = [
            Column(head, right=head in ("images/s before", "after", "change"), code=head == "first run",
                   wide=head == "cell")
            for head in heads
        ]  # fmt: skip
        note = f"{len(rows) - MOST_ROWS} more: python -m results.history" if len(rows) > MOST_ROWS else ""
        made.blocks.append(Table("Changes of the median, the latest first", columns, rows[:MOST_ROWS], note=note))
    if left := len(ordered) - MOST_PANELS:
        if left > 0:
            made.blocks.append(Words(f"{counted(left, 'more cell')} not drawn: python -m results.history", "note"))
    return made


def _latest(one: History) -> float:
    """When the last change began; 0 without one."""
    return one.segments[-1].points[0].when.timestamp() if len(one.segments) > 1 else 0.0


def _shown(one: History) -> list[Segment]:
    """Segments as far as they are drawn: the last runs, or enough of those before the last change to see it."""
    last = len(one.segments[-1].points) if len(one.segments) > 1 else 0
    left = max(len(one.points) - max(MOST_DRAWN, 2 * last), 0)
    shown = []
    for segment in one.segments:
        if len(segment.points) > left:
            shown.append(replace(segment, points=segment.points[left:]))
        left = max(left - len(segment.points), 0)
    return shown


def _picture(one: History) -> Picture:
    segments = _shown(one)
    points = [point for segment in segments for point in segment.points]
    stem = stem_of("history", points[-1].run.run_id)
    said = []
    with drawing(stem):
        drawn = figure(HEIGHT_PX)
        axes = drawn.add_subplot()
        for place, segment in enumerate(segments):
            times, values = zip(*((point.when, point.value) for point in segment.points), strict=True)
            axes.plot(times, values, ls="", marker=".", ms=4, color=BLUE, label="runs" if not place else None)
            axes.plot(
                [times[0], times[-1]], [segment.median] * 2, color=INK, lw=2, label="median" if not place else None
            )
            if place:
                axes.axvline(
                    times[0],
                    color=VERMILION,
                    lw=1.5,
                    ls="--",
                    label=f"change {times[0]:%Y-%m-%d}" if place == 1 else None,
                )
            said.append(f"from {times[0]:%Y-%m-%d} {counted(len(values), 'run')}, median {rate_text(segment.median)}"
                        + (f" ({segment.change:+.1%})" if segment.change is not None else ""))  # fmt: skip
        locator = AutoDateLocator(minticks=2, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.set_ylabel("images/s")
        axes.margins(y=0.2)
        quiet(axes)
        drawn.legend(loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1)
    marks = dict.fromkeys(mark for point in points for mark in marks_of(point.run))
    left = len(one.points) - len(points)
    words = [f"{', '.join(marks)}."] if marks else []
    words += [f"The last {len(points)} of {len(one.points):,} runs."] if left else []
    return Picture(stem=stem, title=shortened(f"images/s: {one.label}"), of=one.label, alt="; ".join(said),
                   figure=drawn, note=" ".join(words), runs=[point.run.run_id for point in points])  # fmt: skip


def _rows(changed: Sequence[History], found: Evidence) -> list[tuple[str, ...]]:
    rows = []
    for one in changed:
        for before, after in zip(one.segments, one.segments[1:], strict=False):
            change = "-" if after.change is None else f"{after.change:+.1%}"
            first = after.points[0]
            rows.append((f"{first.when:%Y-%m-%d}", one.label, rate_text(before.median), rate_text(after.median),
                         change, _why(after), found.short([first.run.run_id])))  # fmt: skip
    return sorted(rows, reverse=True)


def _why(after: Segment) -> str:
    """What is not the same since: known reasons first."""
    said = [*after.marks, *(one.moved for one in after.differs)]
    return printable("; ".join(said)) or "nothing that is recorded"
