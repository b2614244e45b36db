"""Which runs of two sides are held against one another: those of one configuration, benchmark and data."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.check.labels import labels
from results.check.runs import Run
from results.compare.differences import Difference, choices, settings, systems, unlike, value_text
from results.compare.figures import Figure, figures, kernel_figures
from results.compare.sides import Side, shared_notes
from results.identity import flat_parts
from results.words import ConfigError, nearest

__all__ = ["Cell", "Comparison", "OneSided", "compare"]

MATCHED = ("benchmark", "configuration", "data")
REST = ("processors", "software", "threads", "kernels")  # in which the runs of a cell may differ between the sides


@dataclass
class Cell:
    """Runs of one configuration, benchmark and data on both sides.

    Attributes:
        label: in words; synthetic images are said in capitals.
        a, b: all runs, whatever became of them.
        differs: other parts of comparability that are not the same on both sides.
        choices: layers for which another kernel was chosen.
        figures: of the completed runs.
        notes: lines about runs that do not count, and allocations that are shared.
    """

    label: str
    a: list[Run]
    b: list[Run]
    differs: list[Difference] = field(default_factory=list)
    choices: list[Difference] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OneSided:
    """A cell that one side alone has."""

    side: str
    label: str
    runs: list[Run]


@dataclass
class Comparison:
    """Two sides, with all that is said of them.

    Attributes:
        a, b: the sides.
        systems: in what their systems differ; machine names are left out.
        settings: commits and parts of comparability in which they differ, over all runs.
        cells: those that both have.
        one_sided: those that one has.
        notes: lines about what is left out, and runs that are on both sides.
    """

    a: Side
    b: Side
    systems: list[Difference]
    settings: list[Difference]
    cells: list[Cell]
    one_sided: list[OneSided]
    notes: list[str]


def compare(a: Side, b: Side, without: Sequence[str] = ()) -> Comparison:
    """Compare two sides.

    Args:
        without: keys of the configuration, or `data`, that may differ within a cell.

    Raises:
        ConfigError: no such key, or nothing can be compared; one line.
    """
    _check_without(without, (*a.runs.values(), *b.runs.values()))
    ours, theirs = _by_cell(a.runs.values(), without), _by_cell(b.runs.values(), without)
    words = labels({**theirs, **ours}, lambda run: _matched(run, without))
    cells = [_cell(words[key], ours[key], theirs[key], a, b) for key in ours if key in theirs]
    for cell in cells:
        if without and cell.b[0].label != cell.a[0].label:
            cell.label += f" against {cell.b[0].label}"
    if not cells:
        raise ConfigError(_nothing_shared(a, b))
    if not any(figure.a.values and figure.b.values for cell in cells for figure in cell.figures):
        why = [note for cell in cells for note in (*cell.notes, *(figure.note for figure in cell.figures)) if note]
        raise ConfigError(f"nothing can be compared: no figure has a value on both sides; {why[0] if why else ''}")
    one_sided = [OneSided("A", words[key], runs) for key, runs in ours.items() if key not in theirs]
    one_sided += [OneSided("B", words[key], runs) for key, runs in theirs.items() if key not in ours]
    notes = [*shared_notes(a, b), *a.notes, *b.notes]
    return Comparison(a, b, systems(a, b), settings(a, b), cells, one_sided, notes)


def _matched(run: Run, without: Sequence[str]) -> dict[str, str]:
    """The parts that a cell's runs share, by name."""
    flat = flat_parts({name: run.parts[name] for name in MATCHED})
    return {name: value_text(value) for name, value in flat.items() if not _left_out(name, without)}


def _left_out(name: str, without: Sequence[str]) -> bool:
    own = name.removeprefix("configuration.")
    return any(own == one or own.startswith(f"{one}.") for one in without)


def _check_without(without: Sequence[str], runs: Iterable[Run]) -> None:
    known = dict.fromkeys(
        name.removeprefix("configuration.")
        for run in runs
        for name in flat_parts({"configuration": run.parts["configuration"], "data": run.parts["data"]})
    )
    for word in without:
        if not any(_left_out(name, [word]) for name in known):
            near = nearest(word, {name.partition(".")[0] for name in known})
            raise ConfigError(f"without={word}: no such key of these configurations; nearest is without={near}")


def _by_cell(runs: Iterable[Run], without: Sequence[str]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(repr(sorted(_matched(run, without).items())), []).append(run)
    return found


def _cell(label: str, a: list[Run], b: list[Run], side_a: Side, side_b: Side) -> Cell:
    def rest(run: Run) -> dict[str, Any]:
        return flat_parts({name: run.parts[name] for name in REST})

    def left_out(run: Run) -> dict[str, Any]:
        return flat_parts({name: run.parts[name] for name in MATCHED})

    cell = Cell(label, a, b)
    cell.differs = unlike(map(left_out, a), map(left_out, b)) + unlike(map(rest, a), map(rest, b))
    ours, theirs = ([run for run in runs if run.completed] for runs in (a, b))
    cell.choices = choices(ours, theirs)
    if a[0].parts["benchmark"] == "micro":
        cell.figures = kernel_figures(ours, theirs, {**side_a.kernels, **side_b.kernels})
    else:
        cell.figures = figures(ours, theirs)
    for name, runs in (("A", a), ("B", b)):
        cell.notes += _notes(name, runs)
    return cell


def _notes(side: str, runs: Sequence[Run]) -> list[str]:
    notes = []
    for run in runs:
        if not run.completed:
            message = " ".join((run.row["failure_message"] or "no message").split())
            kind = run.row["failure_kind"] or "unknown"
            notes.append(f"{side}: run={run.run_id} does not count: {run.row['status']} ({kind}): {message}")
    done = [run for run in runs if run.completed]
    if len(allocations := {run.allocation for run in done}) < len(done):
        notes.append(
            f"{side}: {len(done)} runs in {len(allocations)} allocation{'s' * (len(allocations) > 1)}: an interval "
            "leaves out some of what differs from one allocation to another"
        )
    return notes


def _nothing_shared(a: Side, b: Side) -> str:
    """Why no cell is on both sides, by the two runs that differ in the fewest parts."""
    firsts = [[runs[0] for runs in _by_cell(side.runs.values(), ()).values()] for side in (a, b)]
    parts = {run.run_id: _matched(run, ()) for runs in firsts for run in runs}

    def distance(pair: tuple[Run, ...]) -> int:
        ours, theirs = (parts[run.run_id] for run in pair)
        return sum(ours.get(name) != theirs.get(name) for name in {*ours, *theirs})

    ours, theirs = min(itertools.product(*firsts), key=distance)
    found = unlike([parts[ours.run_id]], [parts[theirs.run_id]])
    shown = ", ".join(str(one).removeprefix("configuration.") for one in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    near = f"the nearest, {ours.label} and {theirs.label}, differ in {shown}{more}"
    line = f"nothing can be compared: A and B share no cell; {near}"
    keys = dict.fromkeys(one.name.removeprefix("configuration.").partition(".")[0] for one in found)
    if "benchmark" in keys:
        return f"{line}; figures of different benchmarks are never compared"
    return f"{line}; to compare them all the same: without={','.join(keys)}"
