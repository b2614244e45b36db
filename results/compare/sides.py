"""One side of a comparison: the runs that its words name, with their systems and kernels, and what is left out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import expanduser
from pathlib import Path

from results.check.runs import Kernel, Run, load, load_kernels
from results.compare.figures import FIGURES
from results.selection import select
from results.store.files import read_rows, read_table, table_files
from results.store.schema import Row
from results.words import ConfigError

__all__ = ["Side", "read", "shared_notes"]

MORE = ("kernels_choices", "system_id", *FIGURES)


@dataclass
class Side:
    """Runs by id, in the order of time.

    Attributes:
        name: as it was typed.
        systems: by run, the row of `system` of its last attempt.
        kernels: by run, what its kernels took.
        notes: lines about what is left out, and why.
    """

    name: str
    runs: dict[str, Run] = field(default_factory=dict)
    systems: dict[str, Row] = field(default_factory=dict)
    kernels: dict[str, Mapping[Kernel, Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(key: str, typed: str, root: Path) -> Side:
    """Read one side.

    Args:
        key: A or B, for messages.
        typed: words with commas between them; see `results.selection.SELECTS`.
        root: of the store that is meant where a word is no folder.

    Raises:
        ConfigError: a word names no run, or none of the runs can be used; one line.
    """
    side = Side(typed)
    words = [word.strip() for word in typed.split(",") if word.strip()]
    if not words:
        raise ConfigError(f"{key}={typed}: names no run; nearest is a folder of results, such as {root}")
    try:
        selections = select(key, words, root)
    except ConfigError as error:
        raise ConfigError(f"{error}{_unreadable([root, *map(Path, map(expanduser, words))])}") from None
    for selection in selections:
        loaded = load(selection.root, selection.run_ids, MORE)
        faults = list(loaded.faults)
        if selection.whole:  # a file that cannot be read may be of them
            named = {
                path.name.removesuffix(".parquet").rpartition(".")[0] for path in table_files(selection.root, "runs")
            }
            unread = read_table(selection.root, "runs", named - set(selection.run_ids))[1]
            faults += [f"{file.path}: {file.reason}" for file in unread]
        for run_id in loaded.by_id:
            if run_id in side.runs:
                side.notes.append(
                    f"{key}: run={run_id} is in {selection.root} and another of its folders; it counts once"
                )
        side.runs = {**loaded.by_id, **side.runs}
        systems, bad = read_rows(selection.root, "system", selection.run_ids)
        for row in sorted(systems, key=lambda row: row["restart"] or 0):
            if row["run_id"] in loaded.by_id:
                side.systems[row["run_id"]] = row
        micro = [run_id for run_id, run in loaded.by_id.items() if run.parts["benchmark"] == "micro"]
        if micro:
            kernels, more = load_kernels(selection.root, micro)
            side.kernels = {**kernels, **side.kernels}
            faults += more
        faults += [f"{file.path}: {file.reason}" for file in bad]
        side.notes += [f"{key}: {fault}" for fault in faults]
    if not side.runs:
        why = f"; {side.notes[0]}" if side.notes else ""
        raise ConfigError(f"{key}={typed}: none of its runs can be used{why}")
    side.runs = dict(sorted(side.runs.items(), key=lambda item: (item[1].started, item[0])))
    return side


def _unreadable(roots: list[Path]) -> str:
    """What may be the reason that there are no runs, for the end of a line."""
    for root in roots:
        if bad := read_table(root, "runs")[1] if os.path.isdir(root / "runs") else []:
            return f"; {len(bad)} files cannot be read, the first is {bad[0].path}: {bad[0].reason}"
    return ""


def shared_notes(a: Side, b: Side) -> list[str]:
    """Lines about runs that are on both sides: what differs between them cannot be seen."""
    shared = sorted(a.runs.keys() & b.runs.keys())
    if not shared:
        return []
    if a.runs.keys() == b.runs.keys():
        return [f"A and B are the same {_count(len(shared), 'run')}: nothing can differ"]
    return [f"{_count(len(shared), 'run')} on both sides, such as {shared[0]}: without an interval where it counts"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
