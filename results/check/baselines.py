"""What runs are held against: events of the table `baselines`, each with its time, kind and reason, and their sum.

Nothing moves by itself, and nothing is overwritten: an event is a row, and what stands follows from all of them.
"""

import getpass
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.identity import new_run_id
from results.store.files import read_table, table_path, write_once
from results.store.schema import CHOICES, Row, clean_row, to_rows, to_table

__all__ = ["Baselines", "Event", "append", "events", "stands_by_id", "standing"]

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """One row of `baselines`."""

    baseline_id: str
    kind: str
    key: str
    run_ids: tuple[str, ...]
    reason: str
    accepted_by: str
    accepted_at: datetime
    reverts: str | None
    change_marks: tuple[str, ...]

    def fault(self, ids: Container[str]) -> str:
        """Return why nothing can be told from it, given the ids of all events; empty where it can."""
        if self.kind not in CHOICES["baselines", "kind"]:
            return f"its kind is {self.kind or 'not said'}, which none is"
        if self.kind == "revert" and self.reverts not in ids:
            return f"it reverts {self.reverts or 'what it does not say'}, which is not there"
        return ""


@dataclass
class Baselines:
    """What stands.

    Attributes:
        accepted: by comparability key, ids of runs in the order in which they were accepted.
        pinned: by comparability key, ids of the runs of the last pin.
    """

    accepted: dict[str, list[str]] = field(default_factory=dict)
    pinned: dict[str, list[str]] = field(default_factory=dict)


def events(root: Path) -> tuple[list[Event], list[str]]:
    """Read all events of a store, the earliest first, and lines about what cannot be read.

    An event from which nothing can be told is among both, until it is reverted.
    """
    table, bad = read_table(root, "baselines")
    faults = list(map(str, bad))
    found = []
    for row in to_rows(table):
        if not row["key"]:
            faults.append(f"{root}: a row of baselines has no key")
            continue
        found.append(_event(row))
    found.sort(key=lambda event: (event.accepted_at, event.baseline_id))
    ids, stands = {event.baseline_id for event in found}, stands_by_id(found)
    odd = {event.baseline_id: why for event in found if (why := event.fault(ids)) and stands(event.baseline_id)}
    return found, faults + [f"{root}: baseline {one} cannot be read: {why}" for one, why in odd.items()]


def _event(row: Row) -> Event:
    return Event(
        baseline_id=row["baseline_id"] or "",
        kind=row["kind"] or ("" if row["baseline_id"] else "accept"),  # rows from before there were kinds have no ids
        key=row["key"],
        run_ids=tuple(run_id for run_id in row["run_ids"] or () if run_id),
        reason=row["reason"] or "",
        accepted_by=row["accepted_by"] or "",
        accepted_at=row["accepted_at"] or EARLIEST,
        reverts=row["reverts"],
        change_marks=tuple(row["change_marks"] or ()),
    )


def standing(history: Sequence[Event], keys: Mapping[str, str] | None = None) -> Baselines:
    """Return what stands after these events, the earliest first.

    A revert undoes all that a command did, another revert too: what that had undone then stands once more.

    Args:
        keys: the comparability key that runs have today, by id, where that is not what it was: events of such runs
            count for it.
    """
    stands = stands_by_id(history)
    state = Baselines()
    for event in history:
        if event.kind == "revert" or not stands(event.baseline_id):
            continue
        by_key: dict[str, list[str]] = {} if event.run_ids else {event.key: []}
        for run_id in event.run_ids:
            by_key.setdefault((keys or {}).get(run_id, event.key), []).append(run_id)
        for key, run_ids in by_key.items():
            if event.kind == "accept":
                runs = state.accepted.setdefault(key, [])
                runs += [run_id for run_id in run_ids if run_id not in runs]
            elif event.kind == "pin":
                state.pinned[key] = run_ids
            elif event.kind == "retire":
                state.accepted.pop(key, None)
                state.pinned.pop(key, None)
    return state


def stands_by_id(history: Sequence[Event]) -> Callable[[str], bool]:
    """Return what says of an id whether what its command did stands: whether no revert of it stands."""
    reverts = {event.baseline_id: event.reverts for event in history if event.kind == "revert" and event.reverts}
    by_reverted: dict[str, list[str]] = {}
    for revert, reverted in reverts.items():
        by_reverted.setdefault(reverted, []).append(revert)

    # By ids, not by times: the clocks of two machines differ.
    def stands(baseline_id: str, asked: frozenset[str] = frozenset()) -> bool:
        after = [revert for revert in by_reverted.get(baseline_id, ()) if revert not in asked]
        return not any(stands(revert, asked | {baseline_id}) for revert in after)

    return stands


def append(
    root: Path,
    kind: str,
    runs: Mapping[str, Iterable[str]],
    *,
    reason: str,
    reverts: str | None = None,
    change_marks: Sequence[str] = (),
) -> str:
    """Write one event for each key, all of one command.

    Args:
        kind: accept, pin, revert or retire.
        runs: by comparability key, ids of runs.
        reason: why.
        reverts: of a revert, the `baseline_id` that it undoes.
        change_marks: known reasons for a change that comes with it.

    Returns:
        The new `baseline_id`.

    Raises:
        ValueError: a value that does not fit its column.
        OSError: it cannot be written.
    """
    now = datetime.now(UTC)
    baseline_id = new_run_id("baseline", kind)
    rows = []
    for key, run_ids in runs.items():
        row: dict[str, Any] = {
            "key": key, "run_ids": list(run_ids), "accepted_by": _who(), "reason": reason,
            "change_marks": list(change_marks), "baseline_id": baseline_id, "kind": kind, "accepted_at": now,
            "reverts": reverts,
        }  # fmt: skip
        rows.append(clean_row("baselines", row))
    write_once(table_path(root, "baselines", f"{now:%Y-%m}", baseline_id, 0), [to_table("baselines", rows)])
    return baseline_id


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return "unknown"
