"""Shows the whole history of a figure, cell by cell in time, with the points at which it changed.

    python -m results.history [COLUMN=VALUE ...] [metric=images_per_s] [results=PATH] [format=table|json|csv]
    python -m results.history depth=20 dataset=digits 'run_start=>=2026-11-01' metric=tta_s

A cell is one configuration (but for the seed), benchmark, data and kind of processors; software may change in its
course and is shown where it does. Completed runs are points of their own, in the order in which they began. Known
reasons are the change marks that were given to `results.baseline`. metric=p50 is the time of each kernel of micro runs.

Change points are for the history alone, never for a verdict; that is `results.check`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.check.baselines import events, faults_of, stands_by_id
from results.check.runs import load, load_kernels, load_pairs, named_as_of_pairs
from results.history.render import csv_text, json_text, number, parts
from results.history.series import KERNEL_METRIC, METRICS, History, histories
from results.listing.filters import FILTERS, filter_options, matching
from results.listing.filters import find as find_runs
from results.listing.terminal import show
from results.store.schema import SCHEMAS
from results.words import ConfigError, counted, printable, root_from

FORMATS = ("table", "json", "csv")


@dataclass(frozen=True)
class Found:
    """What the command is to show."""

    metric: str
    histories: list[History]
    notes: list[str]
    format: str


def find(root: Path, metric: str, filters: Mapping[str, Sequence[Any]], form: str = "table") -> Found:
    """Read a store and find the history of each cell.

    Args:
        root: of the store.
        metric: one of `METRICS`.
        filters: by column, the values and ranges that a run may have.

    Raises:
        ValueError: there is no history: no runs, none with a value, or one point alone; one line.
    """
    loaded = load(root, more=(*filters, *(() if metric == KERNEL_METRIC else (metric,))))
    notes = list(loaded.faults)
    pairs = load_pairs(root)
    notes += pairs.unread
    # Two commits in turn, in one allocation: no points of a history.
    paired = pairs.run_ids | set(filter(named_as_of_pairs, loaded.by_id))
    runs = [run for run in loaded.by_id.values() if run.run_id not in paired]
    if left := len(loaded.by_id) - len(runs):
        notes.append(f"{counted(left, 'run')} of interleaved pairs left out")
    for column, wanted in filters.items():
        values = pa.chunked_array([[run.row[column] for run in runs]], SCHEMAS["runs"].field(column).type)
        runs = [run for run, suits in zip(runs, matching(values, wanted).to_pylist(), strict=True) if suits]
    if not runs:
        find_runs(root, (), filters)  # says what there is, where there are none
        raise ConfigError(f"no runs that can be used in {root}; {notes[0]}")
    kernels, faults = load_kernels(root, [run.run_id for run in runs]) if metric == KERNEL_METRIC else ({}, [])
    known, more = events(root)
    stands, odd = stands_by_id(known), faults_of(known)
    # A mark goes with what it came with.
    known = [event for event in known if stands(event.baseline_id) and event not in odd]
    notes += [*faults, *more]
    found = histories(runs, metric, kernels, known)
    counts = [len(history.points) for history in found]
    if sum(counts) == 0:
        reasons = sorted({reason for history in found for reason in history.without}) or ["no kernel was timed"]
        raise ConfigError(f"metric={metric}: none of {counted(len(runs), 'run')} has a value: {reasons[0]}")
    if max(counts) == 1:
        history = next(history for history in found if history.points)
        point = history.points[0]
        shown = f"{number(point.value)} in run={point.run.run_id} of {point.when:%Y-%m-%d}"
        raise ConfigError(f"metric={metric}: one point in each cell, such as {shown} ({history.label}): no history yet")
    return Found(metric, found, notes, form)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import key, values

    options: dict[str, tuple[type, Any]] = {
        "metric": (str, key("whose history", "images_per_s", choices=METRICS, one=True)),
        "results": (str, key("the store", "results/v1 of the checkout", path=True, one=True)),
        "format": (str, key("of what is printed", "table", choices=FORMATS, one=True)),
    }
    options |= filter_options(key)
    keys = make_dataclass("Keys", [(name, kind | None, option) for name, (kind, option) in options.items()])

    def read(typed: list[str]) -> Found:
        given = values(typed, keys)
        filters = {column: wanted for column, wanted in given.items() if column in FILTERS}
        metric, form = (
            given.get(name, [usual])[0] for name, usual in (("metric", "images_per_s"), ("format", "table"))
        )
        return find(root_from(given), metric, filters, form)

    def do(found: Found) -> int:
        if found.format == "json":
            print(json_text(found.metric, found.histories, found.notes))
            return 0
        for note in found.notes:
            print(f"results.history: {printable(note)}", file=sys.stderr)
        if found.format == "csv":
            print(csv_text(found.histories))
            return 0
        show(*parts(found.metric, found.histories))
        return 0

    return command.run("results.history", __doc__, keys, read, do, words)
