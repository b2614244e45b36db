"""Sweeps that were submitted to Slurm: what was planned, what is done, and what has no figure yet."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.report.page.blocks import Column, Commands, Section, Table, Words
from results.report.page.evidence import Evidence
from results.store import journal
from results.store.files import read_rows
from results.store.load import stem
from results.store.schema import Row
from results.words import counted, parse_json, printable

__all__ = ["section", "so_far"]

MANIFESTS = "jobs/*/manifest.json"  # as launch/slurm.py writes them
VERSION = 1
MOST_SWEEPS = 6
MOST_ROWS = 200
COMPLETED, UNDER_WAY = "completed", "running, or died"


@dataclass(frozen=True)
class _Cell:
    """A cell of a sweep: how it stands, and how far its run came."""

    label: str
    state: str
    told: str
    job: str
    run_id: str


def section(found: Evidence) -> Section | None:
    """Say how the newest sweeps stand, those that are not done first; None where nothing was submitted."""
    try:
        files = sorted(found.root.glob(MANIFESTS), key=lambda file: file.parent.name, reverse=True)
    except OSError as error:
        found.faults.append(f"{found.root / 'jobs'}: {error.strerror or error}")
        return None
    sweeps: list[tuple[str, str, list[_Cell]]] = []
    for file in files[:MOST_SWEEPS]:
        try:
            sweeps.append(_read(found, file))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            found.faults.append(f"{file}: no manifest of a sweep, or a damaged one ({printable(why)[:200]})")
    if not sweeps:
        return None
    made = Section("sweeps", "Sweeps")
    # The sort is stable: those that are alike stay the newest first.
    sweeps.sort(key=lambda sweep: all(cell.state == COMPLETED for cell in sweep[2]))
    every = [cell for *_, cells in sweeps for cell in cells]
    done = sum(cell.state == COMPLETED for cell in every)
    made.status = f"{done} of {counted(len(every), 'cell')} done"
    for sweep_id, words, cells in sweeps:
        counts = Counter(cell.state for cell in cells)
        said = ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "none of them planned"
        kind = "note" if counts[COMPLETED] == len(cells) else "lead"
        made.blocks.append(Words(f"{printable(sweep_id)} ({printable(words)}): {counted(len(cells), 'cell')}, {said}.",
                                 "note" if kind == "note" else "lead"))  # fmt: skip
        if rest := [cell for cell in cells if cell.state != COMPLETED]:
            rows = [
                (cell.label, cell.state, cell.told, cell.job, found.short([cell.run_id]) if cell.run_id else "-")
                for cell in rest[:MOST_ROWS]
            ]
            heads = ("cell", "state", "so far", "job", "run")
            columns = [Column(head, code=head in ("job", "run"), wide=head in ("cell", "so far")) for head in heads]
            more = f"{len(rest) - MOST_ROWS} more" if len(rest) > MOST_ROWS else ""
            made.blocks.append(Table(f"Not done in {printable(sweep_id)}", columns, rows, note=more))
            where = shlex.quote(str(found.root))
            made.blocks.append(
                Commands("What Slurm says of them, on the cluster:",
                         [f"python launch/slurm.py status {shlex.quote(sweep_id)} results={where}"])
            )  # fmt: skip
    notes = [f"{counted(len(files) - MOST_SWEEPS, 'older sweep')} not shown"] if len(files) > MOST_SWEEPS else []
    notes += ["Filters of the page do not choose among sweeps"] if found.filtered else []
    if notes:
        made.blocks.append(Words(". ".join(notes) + ".", "note"))
    return made


def _read(found: Evidence, file: Path) -> tuple[str, str, list[_Cell]]:
    """A sweep's id, the words that were typed for it, and its cells."""
    stored = parse_json(file.read_text())
    if stored["version"] != VERSION:
        raise ValueError(f"version {stored['version']}, expected {VERSION}")
    ids = [one["run_id"] for cell in stored["cells"] for one in cell["submissions"]]
    names = ["run_id", "restart_count", "status", "failure_kind", "failure_message"]
    read, bad = read_rows(found.root, "runs", ids, columns=names)
    found.faults += [str(one) for one in bad if str(one) not in found.faults]
    rows: dict[str, Row] = {}
    for row in sorted(read, key=lambda row: row["restart_count"] or 0):
        rows[row["run_id"]] = row
    lost = {stem(one.path.name)[0] for one in bad} - set(rows)
    last = [_decisive(cell["submissions"], rows) for cell in stored["cells"]]
    journals = {attempt.rpartition(".")[0]: path for path in found.running for attempt in [path.stem]}
    cells = []
    for cell, one in zip(stored["cells"], last, strict=True):
        state, told = _state(found, one, rows, journals)
        if one is not None and one["run_id"] in lost:
            state, told = "its rows cannot be read", "see below: Failed and missing"
        job, run_id = (str(one["job_id"]), str(one["run_id"])) if one is not None else ("-", "")
        cells.append(_Cell(printable(str(cell["label"])), state, told, printable(job), run_id))
    return str(stored["sweep_id"]), " ".join(map(str, stored["words"])), cells


def _decisive(submissions: Sequence[Mapping[str, Any]], rows: Mapping[str, Row]) -> Mapping[str, Any] | None:
    """The submission that says how a cell stands: one that completed, whatever came after it, else the last."""
    done = [one for one in submissions if one["run_id"] in rows and rows[one["run_id"]]["status"] == COMPLETED]
    return (done or submissions)[-1] if submissions else None


def _state(
    found: Evidence, submission: Mapping[str, Any] | None, rows: Mapping[str, Row], journals: Mapping[str, Path]
) -> tuple[str, str]:
    if submission is None:
        return "not submitted", ""
    run_id = submission["run_id"]
    row = rows.get(run_id)
    if row is not None and row["status"] == COMPLETED:
        return COMPLETED, ""
    if run_id in journals:  # where it has a row as well, it was begun again
        return UNDER_WAY, so_far(journals[run_id], found)
    if row is None:
        return "no word of it yet", printable(f"submitted {submission['submitted']}")
    why = ": ".join(str(row[name]) for name in ("failure_kind", "failure_message") if row[name])
    return str(row["status"]), printable(why)[:300]


def so_far(path: Path, found: Evidence) -> str:
    """Return how far a run came that has no row yet, by its journal, and when it last wrote there."""
    try:
        with journal.open_journal(path) as file:
            contents = journal.read(file, path.name)
    except (OSError, ValueError) as error:
        return f"its journal cannot be read: {printable(str(error))}"
    planned = contents.row.get("epochs")
    done = contents.epochs[-1] if contents.epochs else {}
    words = [f"epoch {done.get('epoch', 0)}" + (f" of {planned}" if planned else "")]
    if (top1 := done.get("top1")) is not None and math.isfinite(top1):
        words.append(f"top-1 {100 * top1:.2f}%")
    age_s = max(0.0, (found.made - contents.last_at).total_seconds())
    words.append(f"last word {_age(age_s)} before this page")
    return ", ".join(words)


def _age(seconds: float) -> str:
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"
