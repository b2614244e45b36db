"""Histories as text for people, and as JSON and CSV with every point."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from results.history.e_divisive import LEAST_SEGMENT, PERMUTATIONS
from results.history.series import History, Segment
from results.words import printable

__all__ = ["csv_text", "json_text", "new_table", "number", "parts"]

ABOUT = (
    f"Change points by E-divisive ({PERMUTATIONS} permutations, segments of {LEAST_SEGMENT} points or more): found by "
    "chance in at most 5% of cells without one, if nights do not depend on one another. They are no verdict; that is "
    "python -m results.check."
)
CSV_COLUMNS = (
    "cell", "kernel", "started", "run_id", "commit", "value", "segment", "segment_n", "segment_median",
    "segment_change", "marks",
)  # fmt: skip


def parts(metric: str, found: Sequence[History]) -> list[RenderableType]:
    """Return what is printed one under the other: of each cell its segments, then its points."""
    shown: list[RenderableType] = []
    for history in found:
        points = history.points
        shown.append(Text(("\n" if shown else "") + _title(metric, history), style="bold"))
        if len(points) == 1:
            point = points[0]
            shown.append(Text(f"  one point: {number(point.value)} in run={point.run.run_id} of {point.when:%F}"))
        shown += [
            Text(f"  {count} without a value: {reason}", style="dim") for reason, count in history.without.items()
        ]
        if len(points) > 1:
            if len(points) < 2 * LEAST_SEGMENT:
                shown.append(Text(f"  too few points for a change: {len(points)} of {2 * LEAST_SEGMENT}"))
            shown.append(_segments(history.segments))
            shown += [
                Text(f"  with segment {place}: {printable('; '.join(one.moved for one in segment.differs))}")
                for place, segment in enumerate(history.segments, 1)
                if segment.differs
            ]
            shown.append(_points(metric, history.segments))
    return [*shown, Text(f"\n{ABOUT}", style="dim")]


def _title(metric: str, history: History) -> str:
    kernel = "" if history.kernel is None else " " + printable(" ".join(history.kernel))
    count = len(history.points)
    changes = len(history.segments) - 1 if history.segments else 0
    said = f"{changes} change{'s' * (changes != 1)}" if changes else "no change"
    return f"{history.label}{kernel}: {metric}, {count} point{'s' * (count != 1)}, {said}"


def new_table(*heads: str) -> Table:
    """Return a table with these heads; a final ">" aligns to the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for head in heads:
        right = head.endswith(">")
        table.add_column(
            Text(head.removesuffix(">")), justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    return table


def _segments(segments: Iterable[Segment]) -> Table:
    table = new_table("segment>", "from", "to", "points>", "median>", "change>", "known reasons")
    for place, segment in enumerate(segments, 1):
        table.add_row(
            str(place),
            f"{segment.points[0].when:%F}",
            f"{segment.points[-1].when:%F}",
            str(len(segment.points)),
            number(segment.median),
            _change(segment),
            Text(printable("; ".join(segment.marks))),
        )
    return table


def _change(segment: Segment) -> str:
    return "" if segment.change is None else f"{100 * segment.change:+.1f}%"


def _points(metric: str, segments: Iterable[Segment]) -> Table:
    table = new_table("segment>", "started", "run", "commit", f"{metric}>", "median of segment>")
    for place, segment in enumerate(segments, 1):
        for point in segment.points:
            table.add_row(
                str(place),
                f"{point.when:%F %H:%M}",
                Text(printable(point.run.run_id)),
                Text(_commit(point.run.commit)),
                number(point.value),
                number(segment.median),
            )
    return table


def _commit(commit: str | None) -> str:
    """Its first digits, a plus where the checkout had changes."""
    return "unknown" if commit is None else commit[:12] + "+" * (commit.endswith("+") and len(commit) > 12)


def number(value: float) -> str:
    """Return a figure with at least four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == 0 else f"{value:.4g}"


def json_text(metric: str, found: Sequence[History], notes: Sequence[str]) -> str:
    """Return all histories as one JSON object."""
    cells = [
        {
            "cell": history.label,
            "kernel": None if history.kernel is None else list(history.kernel),
            "without": history.without,
            "segments": [_json_segment(segment) for segment in history.segments],
        }
        for history in found
    ]
    return json.dumps({"metric": metric, "notes": list(notes), "cells": cells}, indent=2, allow_nan=False)


def _json_segment(segment: Segment) -> dict[str, Any]:
    return {
        "n": len(segment.points),
        "median": segment.median,
        "change": segment.change,
        "differs": [{"part": one.part, "before": one.ours, "after": one.theirs} for one in segment.differs],
        "marks": segment.marks,
        "points": [
            {
                "run_id": point.run.run_id,
                "started": point.when.isoformat(),
                "commit": point.run.commit,
                "value": point.value,
            }
            for point in segment.points
        ],
    }


def csv_text(found: Sequence[History]) -> str:
    """Return all points as CSV, each with its segment."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for history in found:
        kernel = "" if history.kernel is None else " ".join(history.kernel)
        for place, segment in enumerate(history.segments, 1):
            own = (place, len(segment.points), segment.median, segment.change, "; ".join(segment.marks))
            for point in segment.points:
                run = point.run
                at = (point.when.isoformat(), run.run_id, run.commit, point.value)
                writer.writerow((history.label, kernel, *at, *own))
    return text.getvalue().rstrip("\n")
