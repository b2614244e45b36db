"""A comparison as text for people, and as JSON and CSV with the ids of the runs behind each number."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from results.check.runs import Run
from results.compare.cells import Cell, Comparison
from results.compare.differences import Difference, values_text
from results.compare.figures import NOT_REACHED, Figure, Samples
from results.history.render import new_table, number

__all__ = ["csv_text", "json_text", "parts"]

CSV_COLUMNS = (
    "kind", "cell", "name", "a", "a_n", "b", "b_n", "ratio", "low", "high", "level", "note", "a_runs", "b_runs",
)  # fmt: skip


def parts(found: Comparison) -> list[RenderableType]:
    """Return what is printed one under the other: systems, choices, settings, then figures cell by cell."""
    shown: list[RenderableType] = [Text(f"{name}: {_side(side.name, list(side.runs.values()))}") for name, side in
                                   (("A", found.a), ("B", found.b))]  # fmt: skip
    shown += [Text(note, style="yellow") for note in found.notes]
    shown += [Text(), *_systems(found)]
    for cell in found.cells:
        if cell.choices:
            shown += [Text(f"\nWhat auto chose differs in {len(cell.choices)} layers of {cell.label}")]
            shown += [_differences(cell.choices)]
    if found.settings:
        shown += [Text("\nCommits and settings that differ"), _differences(found.settings)]
    for cell in found.cells:
        shown += _cell(cell)
    for one in found.one_sided:
        ids = f"{one.runs[0].run_id}{', ...' * (len(one.runs) > 1)}"
        shown.append(Text(f"\nonly in {one.side}: {one.label}, {_runs(len(one.runs))}: {ids}"))
    return shown


def _side(name: str, runs: Sequence[Run]) -> str:
    first, last = runs[0].started, runs[-1].started
    when = f"{first:%Y-%m-%d}" + (f" to {last:%Y-%m-%d}" if first.date() != last.date() else "")
    return f"{name}, {_runs(len(runs))} of {when}"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _systems(found: Comparison) -> list[RenderableType]:
    lacking = [
        f"{name}: {count} of {len(side.runs)} runs have no row of their system"
        for name, side in (("A", found.a), ("B", found.b))
        if (count := len(side.runs.keys() - side.systems.keys()))
    ]
    notes: list[RenderableType] = [Text(line, style="yellow") for line in lacking]
    if found.systems:
        return [Text("Systems differ"), _differences(found.systems), *notes]
    known = found.a.systems and found.b.systems
    return [Text("Systems are equal" if known else "Systems are unknown"), *notes]


def _differences(differences: Iterable[Difference]) -> Table:
    table = new_table("what", "A", "B")
    for one in differences:
        table.add_row(Text(one.name), Text(values_text(one.a)), Text(values_text(one.b)))
    return table


def _cell(cell: Cell) -> list[RenderableType]:
    shown: list[RenderableType] = [Text(f"\n{cell.label}", style="bold")]
    shown += [Text(f"  {one}") for one in cell.differs]
    shown += [Text(f"  {note}", style="yellow") for note in cell.notes]
    table = new_table("figure", "A>", "n>", "B>", "n>", "B / A>", "interval>", "level>", "")
    for figure in cell.figures:
        table.add_row(
            Text(_name(figure)),
            *(text for samples in (figure.a, figure.b) for text in (_median(samples), str(len(samples.values)))),
            *_ratio(figure),
            Text(figure.note, style="dim"),
        )
    return [*shown, table]


def _name(figure: Figure) -> str:
    return figure.name if figure.kernel is None else "p50 (us) " + " ".join(figure.kernel)


def _median(samples: Samples) -> str:
    middle = samples.median
    return "-" if middle is None else NOT_REACHED if math.isinf(middle) else number(middle)


def _ratio(figure: Figure) -> tuple[str, str, str]:
    ratio = figure.ratio
    if ratio is None:
        return "-", "", ""
    if ratio.low is None or ratio.high is None or ratio.level is None:
        return f"{ratio.ratio:.3f}", "", ""
    # Rounded down: no more is claimed than there is.
    level = f"{math.floor(1e3 * ratio.level + 1e-9) / 10:g}%"
    return f"{ratio.ratio:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", level


def json_text(found: Comparison) -> str:
    """Return all of a comparison as one JSON object."""
    value = {
        "a": _json_side(found.a.name, found.a.runs),
        "b": _json_side(found.b.name, found.b.runs),
        "notes": found.notes,
        "systems": [_json_difference(one) for one in found.systems],
        "runs_without_system": {
            name: sorted(side.runs.keys() - side.systems.keys()) for name, side in (("a", found.a), ("b", found.b))
        },
        "settings": [_json_difference(one) for one in found.settings],
        "cells": [_json_cell(cell) for cell in found.cells],
        "one_sided": [{"side": one.side, "cell": one.label, "runs": _ids(one.runs)} for one in found.one_sided],
    }
    return json.dumps(value, indent=2, allow_nan=False)


def _json_side(name: str, runs: Iterable[str]) -> dict[str, Any]:
    return {"name": name, "runs": list(runs)}


def _json_difference(one: Difference) -> dict[str, Any]:
    return {"name": one.name, "a": one.a, "b": one.b}


def _ids(runs: Iterable[Run]) -> list[str]:
    return [run.run_id for run in runs]


def _json_cell(cell: Cell) -> dict[str, Any]:
    return {
        "cell": cell.label,
        "a_runs": _ids(cell.a),
        "b_runs": _ids(cell.b),
        "notes": cell.notes,
        "differs": [_json_difference(one) for one in cell.differs],
        "choices": [_json_difference(one) for one in cell.choices],
        "figures": [_json_figure(figure) for figure in cell.figures],
    }


def _json_figure(figure: Figure) -> dict[str, Any]:
    kernel = None if figure.kernel is None else list(figure.kernel)
    return {
        "name": figure.name,
        "kernel": kernel,
        "a": _json_samples(figure.a),
        "b": _json_samples(figure.b),
        **_json_ratio(figure),
        "note": figure.note,
    }


def _json_samples(samples: Samples) -> dict[str, Any]:
    return {
        "median": _finite(samples.median),
        "n": len(samples.values),
        "values": [_finite(value) for value in samples.values],
        "runs": samples.run_ids,
        "not_reached": samples.not_reached,
        "without": samples.reasons,
    }


def _json_ratio(figure: Figure) -> dict[str, float | None]:
    ratio = figure.ratio
    return {name: None if ratio is None else getattr(ratio, name) for name in ("ratio", "low", "high", "level")}


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def csv_text(found: Comparison) -> str:
    """Return a comparison as CSV: differences, figures and one-sided cells, each kind with its own word."""
    rows: list[dict[str, Any]] = []

    def differences(kind: str, cell: str, differences: Iterable[Difference]) -> None:
        rows.extend(
            {"kind": kind, "cell": cell, "name": one.name, "a": values_text(one.a), "b": values_text(one.b)}
            for one in differences
        )

    differences("system", "", found.systems)
    differences("setting", "", found.settings)
    for cell in found.cells:
        differences("choice", cell.label, cell.choices)
        differences("differs", cell.label, cell.differs)
    for cell in found.cells:
        rows += [_csv_figure(cell, figure) for figure in cell.figures]
        rows += [{"kind": "note", "cell": cell.label, "note": note} for note in cell.notes]
    for one in found.one_sided:
        runs = f"{one.side.lower()}_runs"
        rows.append({"kind": "one_sided", "cell": one.label, "name": one.side, runs: " ".join(_ids(one.runs))})
    rows += [{"kind": "note", "note": note} for note in found.notes]
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _csv_figure(cell: Cell, figure: Figure) -> dict[str, Any]:
    kernel = "" if figure.kernel is None else " ".join(("", *figure.kernel))
    return {
        "kind": "figure",
        "cell": cell.label,
        "name": figure.name + kernel,
        "a": _finite(figure.a.median),
        "a_n": len(figure.a.values),
        "b": _finite(figure.b.median),
        "b_n": len(figure.b.values),
        **_json_ratio(figure),
        "note": figure.note,
        "a_runs": " ".join(figure.a.run_ids),
        "b_runs": " ".join(figure.b.run_ids),
    }
