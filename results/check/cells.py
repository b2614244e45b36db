"""Cells: runs that may be compared with one another, and a metric's values in them, one for each allocation."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from results.check.labels import labels
from results.check.metrics import KERNEL, Metric, Value, of_benchmark, value_of
from results.check.runs import Kernel, PairSet, Run
from results.check.screen import LEAST_RUNS
from results.identity import Difference, canonical, first_difference, flat_parts
from results.store.schema import Row
from results.words import counted

__all__ = ["Cell", "Evidence", "Samples", "by_commit", "cells_of", "nearest_baseline", "same_cell", "samples"]


@dataclass(frozen=True)
class Cell:
    """What is compared with what.

    Attributes:
        key: of comparability.
        label: in words.
        benchmark: training, step or micro.
        kernel: which, of a micro run.
        before: ids of the runs that began before the night, and count with the night's of their commit.
    """

    key: str
    label: str = field(compare=False)
    benchmark: str = field(compare=False)
    kernel: Kernel | None = None
    before: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (KERNEL,) if self.kernel is not None else of_benchmark(self.benchmark)


@dataclass
class Evidence:
    """All that a check knows.

    Attributes:
        root: of the store with the baselines.
        candidates: runs to judge, whatever became of them.
        whole: whether they are all that was to be measured, so that a cell without one is missing.
        baselines: "accepted" and "pinned": by comparability key, the runs to hold them against.
        runs: by id, every run that pairs may name.
        pair_sets: the latest last.
        kernels: by run, what its kernels took.
        faults: lines about what is left out, and why.
        unusable: of runs that were named as candidates, or may be some, why they cannot be judged, by id.
        spoilt: of runs that cannot be read or judged, and would else be candidates, a line by id.
        unsure: by comparability key, why it is no pass whatever its figures: a baseline lost runs.
        unread: lines about baselines, pairs and months that cannot be read, without which no verdict is sound.
        measured: comparability keys of which tonight's runs are accepted already.
        before: ids of the candidates that began before the night, and are of a cell and commit of it.
        same: whether all runs of the baseline are candidates.
    """

    root: Path
    candidates: list[Run]
    whole: bool
    baselines: Mapping[str, Mapping[str, list[Run]]]
    runs: dict[str, Run]
    pair_sets: Sequence[PairSet] = ()
    kernels: Mapping[str, Mapping[Kernel, Row]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    spoilt: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    measured: set[str] = field(default_factory=set)
    before: frozenset[str] = frozenset()
    same: bool = False

    def value(self, run: Run, metric: Metric, kernel: Kernel | None) -> Value:
        """Return a metric of a run."""
        if kernel is None:
            return value_of(metric, run.row)
        row = self.kernels.get(run.run_id, {}).get(kernel)
        if row is None:
            return Value(None, "not timed by this run")
        if row["status"] not in (None, "ok"):
            return Value(None, str(row["status"]))
        return value_of(metric, row)


@dataclass
class Samples:
    """A metric's values, one for each allocation.

    Attributes:
        values: in the order in which the runs came; several runs of one allocation are one value, their median.
        runs: ids of those that have one.
        numbers: of every run that has one, by id, of those too that do not count.
        without: reasons of those that have none, by id.
    """

    values: list[float] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)

    @property
    def finite(self) -> list[float]:
        return [value for value in self.values if math.isfinite(value)]


def samples(
    evidence: Evidence, metric: Metric, runs: Iterable[Run], kernel: Kernel | None = None, last: int | None = None
) -> Samples:
    """Collect a metric's values.

    Args:
        runs: in order.
        kernel: of a micro run.
        last: how many allocations count, the last ones; None for all.
    """
    by_allocation: dict[str, list[str]] = {}
    found = Samples()
    for run in runs:
        value = evidence.value(run, metric, kernel)
        if value.number is None:
            found.without[run.run_id] = value.reason
        else:
            found.numbers[run.run_id] = value.number
            by_allocation.setdefault(run.allocation, []).append(run.run_id)
    counted = list(by_allocation.values())[-last if last else None :]
    found.values = [statistics.median(found.numbers[run_id] for run_id in one) for one in counted]
    found.runs = [run_id for one in counted for run_id in one]
    return found


def cells_of(evidence: Evidence, runs: Iterable[Run]) -> dict[Cell, list[Run]]:
    """Group completed runs by cell; a micro run is in the cell of each kernel that it timed."""
    by_key: dict[str, list[Run]] = {}
    for run in runs:
        by_key.setdefault(run.key, []).append(run)
    words = labels(by_key, lambda run: {name: canonical(value) for name, value in flat_parts(run.parts).items()})
    cells: dict[Cell, list[Run]] = {}
    for key, found in by_key.items():
        label, benchmark = words[key], str(found[0].parts["benchmark"])
        if benchmark != "micro":
            cells[Cell(key, label, benchmark, before=evidence.before)] = found
            continue
        for kernel in dict.fromkeys(kernel for run in found for kernel in evidence.kernels.get(run.run_id, {})):
            cells[Cell(key, label, benchmark, kernel, evidence.before)] = found
    return cells


def by_commit(cell: Cell, runs: Iterable[Run]) -> list[tuple[Cell, list[Run]]]:
    """Split the runs of a cell by what they were made of, each with the cell's name, and the commit where it tells.

    Where some began before the night, the night's stand by themselves too, if they are enough: neither hides the other.
    """
    found: dict[str | None, list[Run]] = {}
    for run in runs:
        found.setdefault(run.commit, []).append(run)
    split: list[tuple[Cell, list[Run]]] = []
    for own in found.values():
        named = cell if len(found) == 1 else replace(cell, label=f"{cell.label} at {own[0].commit_label}")
        tonight = [run for run in own if run.run_id not in cell.before]
        if len(tonight) == len(own):
            split.append((named, own))
            continue
        if len({run.allocation for run in tonight}) >= LEAST_RUNS:
            split.append((named, tonight))
        words = f"{named.label} with {counted(len(own) - len(tonight), 'run')} of before"
        split.append((replace(named, label=words), own))
    return split


def same_cell(one: Run, other: Run) -> bool:
    """Return whether two runs may be of one cell: one that did not end may not have come to say on what it ran."""
    on = [run.parts["processors"] for run in (one, other)]
    silent = any(run.parts["processors"] is None and not run.completed for run in (one, other))
    return one.shape == other.shape and (silent or on[0] == on[1])


def nearest_baseline(run: Run, baselines: Iterable[Run]) -> tuple[Run, Difference] | None:
    """Return the run of a baseline that differs in the fewest parts, and the first part in which it does."""
    ours = flat_parts(run.parts)
    best: tuple[bool, int, Run, Difference] | None = None
    for other in baselines:
        difference = first_difference(run.parts, other.parts)
        if difference is None:
            continue
        theirs = flat_parts(other.parts)
        rank = (other.shape != run.shape, sum(ours.get(name) != theirs.get(name) for name in {*ours, *theirs}))
        if best is None or rank < best[:2]:
            best = (*rank, other, difference)
    return None if best is None else best[2:]
