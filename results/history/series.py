"""The history of a figure, cell by cell: its points in time, its segments, and what is known of each change."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from results.check.baselines import Event
from results.check.labels import labels
from results.check.runs import Kernel, Run
from results.history.e_divisive import LEAST_SEGMENT, change_points
from results.identity import Difference, canonical, flat_parts
from results.store.schema import FIGURES, INT, REAL, SCHEMAS, Row
from results.words import printable

__all__ = ["KERNEL_METRIC", "METRICS", "History", "Point", "Segment", "histories"]

KERNEL_METRIC = "p50"
METRICS = (*(name for name in FIGURES if SCHEMAS["runs"].field(name).type in (INT, REAL)), KERNEL_METRIC)
MOST_POINTS = 1000  # of a history that change points are looked for in, the latest
# Parts that may change in the course of a history: they are shown where they do.
CHANGING = ("version", "software", "kernels")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Point:
    """A run of a cell."""

    run: Run
    value: float

    @property
    def when(self) -> datetime:
        return self.run.started


@dataclass
class Segment:
    """Points between two changes.

    Attributes:
        points: in the order of time.
        change: of the median against the segment before, as a fraction of that; None for the first, or against 0.
        differs: parts of comparability that are not those of the point before.
        marks: known reasons for a change, from `baselines`, that fall into the time from the segment before to its end.
    """

    points: list[Point]
    change: float | None = None
    differs: list[Difference] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return float(statistics.median(point.value for point in self.points))


@dataclass
class History:
    """A figure of one cell.

    Attributes:
        label: in words; synthetic images are said in capitals.
        kernel: of a micro run, which.
        segments: in the order of time; without points there are none.
        without: why other runs have no point, by reason the number of runs.
    """

    label: str
    kernel: Kernel | None
    segments: list[Segment]
    without: dict[str, int]

    @property
    def points(self) -> list[Point]:
        return [point for segment in self.segments for point in segment.points]


def histories(
    runs: Iterable[Run], metric: str, kernels: Mapping[str, Mapping[Kernel, Row]], events: Sequence[Event],
    most_points: int | None = None,
) -> list[History]:  # fmt: skip
    """Return the history of each cell: of one configuration (but for the seed), benchmark, data and processors.

    Args:
        runs: with the column of the metric.
        metric: one of `METRICS`.
        kernels: by run, what its kernels took; needed for `KERNEL_METRIC`.
        events: of `baselines`, for their change marks.
        most_points: of a history that change points are looked for in, the latest; `MOST_POINTS` for None. The time
            goes with its square.
    """
    cells: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.started, run.run_id)):
        fixed = {name: value for name, value in run.parts.items() if name not in CHANGING}
        cells.setdefault(canonical(fixed), []).append(run)
    words = labels(cells, _fixed)
    found = []
    for key, members in cells.items():
        if metric != KERNEL_METRIC:
            found.append(
                _history(
                    words[key], None, members, [_value(metric, run, run.row) for run in members], events, most_points
                )
            )
            continue
        for kernel in sorted({kernel for run in members for kernel in kernels.get(run.run_id, {})}):
            values = [_value(metric, run, kernels.get(run.run_id, {}).get(kernel)) for run in members]
            found.append(_history(words[key], kernel, members, values, events, most_points))
    return found


def _fixed(run: Run) -> dict[str, str]:
    flat = flat_parts({name: value for name, value in run.parts.items() if name not in CHANGING})
    return {name: value if isinstance(value, str) else canonical(value) for name, value in flat.items()}


def _value(metric: str, run: Run, row: Mapping[str, Any] | None) -> float | str:
    """A run's value, or why it has none."""
    if not run.completed:
        return f"{run.row['status']} ({run.row['failure_kind'] or 'unknown'})"
    if row is None:
        return "not timed"
    if metric == KERNEL_METRIC and row["status"] not in (None, "ok"):
        return printable(row["status"])
    value = row[metric]
    if value is None:
        return printable((row.get("null_reasons") or {}).get(metric) or "no value, and no reason")
    return float(value) if math.isfinite(value) else f"{metric} is {value:g}"


def _history(
    label: str, kernel: Kernel | None, runs: Sequence[Run], values: Sequence[float | str], events: Sequence[Event],
    most_points: int | None,
) -> History:  # fmt: skip
    points, without = [], dict[str, int]()
    for run, value in zip(runs, values, strict=True):
        if isinstance(value, str):
            without[value] = without.get(value, 0) + 1
        else:
            points.append(Point(run, value))
    # The test compares all pairs of points: years of nights are looked at from their end.
    skipped = max(0, len(points) - (most_points or MOST_POINTS))
    changes = change_points([point.value for point in points[skipped:]], least_segment=LEAST_SEGMENT)
    starts = [0, *(skipped + change for change in changes)]
    segments = [Segment(points[start:stop]) for start, stop in zip(starts, [*starts[1:], len(points)], strict=True)]
    for before, after in zip(segments, segments[1:], strict=False):
        after.change = after.median / before.median - 1 if before.median else None
        after.differs = _changed(before.points[-1].run, after.points[0].run)
    history = History(label, kernel, segments if points else [], without)
    _mark(history, events)
    return history


def _changed(before: Run, after: Run) -> list[Difference]:
    """What is not the same in the software of two runs, and the commit."""
    ours, theirs = (
        flat_parts({"commit": run.commit and run.commit[:12], **{name: run.parts[name] for name in CHANGING}})
        for run in (before, after)
    )
    names = dict.fromkeys((*ours, *theirs))
    return [Difference(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]


def _mark(history: History, events: Sequence[Event]) -> None:
    """Lay each change mark of the cell's keys beside the segment into whose time it falls."""
    if not history.segments:
        return
    keys = {point.run.key for point in history.points}
    for event in events:
        if event.key not in keys:
            continue
        for mark in event.change_marks:
            day = _day(mark, event)
            ends = (segment for segment in history.segments if segment.points[-1].when.date() >= day)
            segment = next(ends, history.segments[-1])
            if mark not in segment.marks:
                segment.marks.append(mark)


def _day(mark: str, event: Event) -> date:
    """The day that a mark begins with, else that of its baseline."""
    if dated := _DATED.match(mark):
        try:
            return date.fromisoformat(dated[0])
        except ValueError:  # such as 2026-02-30
            pass
    return event.accepted_at.date()
