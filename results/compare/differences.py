"""In what two groups of runs differ: systems, software, settings, commits, and what `auto` chose for a layer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.check.runs import Run
from results.compare.sides import Side
from results.identity import canonical, flat_parts
from results.store.schema import SCHEMAS
from results.words import parse_json, printable

__all__ = ["Counts", "Difference", "choices", "settings", "systems", "unlike", "value_text", "values_text"]

# Which machine it was, not what it is; `hardware` is made of the others.
NAMES_OF_A_MACHINE = ("system_id", "run_id", "restart", "hostname", "gpu_uuids", "hardware")
SYSTEM_COLUMNS = tuple(name for name in SCHEMAS["system"].names if name not in NAMES_OF_A_MACHINE)
UNKNOWN = "unknown"
Counts = dict[str, int]  # how many runs have a value, by its text


@dataclass(frozen=True)
class Difference:
    """A thing whose values are not the same on both sides.

    Attributes:
        name: such as "driver", "versions.numpy" or "configuration.lr".
        a, b: by value, how many runs have it.
    """

    name: str
    a: Counts
    b: Counts

    def __str__(self) -> str:
        return f"{self.name} {values_text(self.a)} against {values_text(self.b)}"


def values_text(counts: Counts) -> str:
    """Values in words; how many runs have each, where there are several."""
    if len(counts) <= 1:
        return next(iter(counts), UNKNOWN)
    return ", ".join(f"{value} ({count})" for value, count in counts.items())


def unlike(a: Iterable[Mapping[str, Any]], b: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """Return the names whose sets of values differ, in the order in which they come.

    Args:
        a, b: for each run its values by name; one that a run lacks is unknown.
    """
    a, b = list(a), list(b)
    names = dict.fromkeys(name for row in (*a, *b) for name in row)
    found = []
    for name in names:
        ours, theirs = _counts(name, a), _counts(name, b)
        if ours.keys() != theirs.keys():
            found.append(Difference(name, ours, theirs))
    return found


def _counts(name: str, rows: Sequence[Mapping[str, Any]]) -> Counts:
    found: Counts = {}
    for row in rows:
        text = value_text(row.get(name))
        found[text] = found.get(text, 0) + 1
    return dict(sorted(found.items()))


def value_text(value: Any) -> str:
    """One value in words."""
    if value is None:
        return UNKNOWN
    return printable(value) if isinstance(value, str) else canonical(value)


def systems(a: Side, b: Side) -> list[Difference]:
    """Return in what the systems of two sides differ, machine names and serial numbers left out.

    Runs without a row of `system` do not count here; see `settings` for what their own rows say.
    """

    def rows(side: Side) -> list[dict[str, Any]]:
        found = []
        for run_id in side.runs:
            if (row := side.systems.get(run_id)) is not None:
                flat = {name: row.get(name) for name in SYSTEM_COLUMNS if name != "versions"}
                found.append(flat | {f"versions.{name}": text for name, text in (row.get("versions") or {}).items()})
        return found

    ours, theirs = rows(a), rows(b)
    return unlike(ours, theirs) if ours and theirs else []


def settings(a: Side, b: Side) -> list[Difference]:
    """Return in which commits and parts of comparability two sides differ, over all their runs.

    Processors and software are left to `systems` where every run has a row of `system`.
    """
    told = all(run_id in side.systems for side in (a, b) for run_id in side.runs)

    def row(run: Run) -> dict[str, Any]:
        commit = run.commit
        parts = {name: value for name, value in flat_parts(run.parts).items() if name != "version"}
        if told:
            parts = {
                name: value for name, value in parts.items() if name.partition(".")[0] not in ("processors", "software")
            }
        return {"git_commit": commit and commit[:12] + "+" * commit.endswith("+"), **parts}

    return unlike(map(row, a.runs.values()), map(row, b.runs.values()))


def choices(a: Iterable[Run], b: Iterable[Run]) -> list[Difference]:
    """Return the layers for which another kernel was chosen, of runs of one cell.

    Runs that chose nothing, or whose row has a sentence in place of JSON, say nothing of layers.
    """
    ours, theirs = _layers(a), _layers(b)
    return unlike(ours, theirs) if ours and theirs else []


def _layers(runs: Iterable[Run]) -> list[dict[str, str]]:
    found = []
    for run in runs:
        try:
            layers = parse_json(run.row["kernels_choices"] or "null")
        except ValueError:
            continue
        if isinstance(layers, dict):
            found.append({name: _choice_text(layer) for name, layer in layers.items()})
    return found


def _choice_text(layer: Any) -> str:
    """Such as "forward triton 128x64x64/w4/s3, dgrad torch, inference torch"."""
    if not isinstance(layer, dict):
        return canonical(layer)
    tiles = layer.get("config")
    tiles = tiles if isinstance(tiles, dict) else {}
    words = [f"{name} {how} {tiles.get(name) or ''}".strip() for name, how in layer.items() if name != "config"]
    return ", ".join(words)
