"""What runs are held against: events of the table `baselines`, each with its time, kind and reason, and their sum.

Nothing moves by itself, and nothing is overwritten: an event is a row, and what stands follows from all of them.
"""

import getpass
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from results.identity import new_run_id
from results.store.files import read_table, table_path, write_once
from results.store.schema import CHOICES, SCHEMAS, Row, clean_row, to_rows, to_table

__all__ = ["Baselines", "Event", "append", "events", "faults_of", "stands_by_id", "standing"]

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = timedelta(hours=1)  # that a clock of another machine may be before ours
TICK = timedelta(microseconds=1)  # the unit of `accepted_at`


@dataclass(frozen=True)
class Event:
    """One row of `baselines`.

    Attributes:
        lacking: columns that the row does not have, or not whole: null, or a list with a null or an empty text in it.
    """

    baseline_id: str
    kind: str
    key: str
    run_ids: tuple[str, ...]
    reason: str
    accepted_by: str
    accepted_at: datetime
    reverts: str | None
    change_marks: tuple[str, ...]
    lacking: tuple[str, ...] = ()

    def fault(self, ids: Container[str], now: datetime) -> str:
        """Return why nothing can be told from it; empty where it can.

        Args:
            ids: of all events.
            now: the time.
        """
        if self.kind not in CHOICES["baselines", "kind"]:
            return f"its kind is {self.kind or 'not said'}, which none is"
        if self.kind == "revert" and self.reverts not in ids:
            return f"it reverts {self.reverts or 'what it does not say'}, which is not there"
        if self.kind != "revert" and self.reverts is not None:
            return f"it reverts {self.reverts}, which only a revert does"
        if self.kind != "revert" and not self.run_ids:
            return "it names no run"
        if self.lacking:
            return f"its {', '.join(self.lacking)} cannot be told"
        if self.accepted_at > now + AHEAD:
            return f"it is of {self.accepted_at:%F %H:%M} UTC, which is yet to come"
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
    found = sorted(map(_event, to_rows(table)), key=lambda event: (event.accepted_at, event.baseline_id))
    stands = stands_by_id(found)
    faults = list(map(str, bad))
    for event, why in faults_of(found).items():
        name = event.baseline_id or f"without an id, of {event.key or 'no key'},"
        if stands(event.baseline_id):
            faults.append(f"{root}: baseline {name} cannot be read: {why}")
    return found, list(dict.fromkeys(faults))


def _event(row: Row) -> Event:
    # Rows from before there were kinds have nothing but a key, runs and a reason.
    old = not any(row[name] for name in ("baseline_id", "kind", "accepted_at", "reverts"))
    needed = ("key", "run_ids") if old else tuple(name for name in SCHEMAS["baselines"].names if name != "reverts")
    # A revert undoes a command whatever its keys were, even none.
    lacking = tuple(
        name for name in needed if not _whole(row, name) and not (name == "key" and row["kind"] == "revert")
    )
    return Event(
        baseline_id=row["baseline_id"] or "",
        kind=row["kind"] or ("accept" if old else ""),
        key=row["key"] or "",
        run_ids=tuple(run_id for run_id in row["run_ids"] or () if run_id),
        reason=row["reason"] or "",
        accepted_by=row["accepted_by"] or "",
        accepted_at=row["accepted_at"] or EARLIEST,
        reverts=row["reverts"],
        change_marks=tuple(mark for mark in row["change_marks"] or () if mark),
        lacking=lacking,
    )


def _whole(row: Row, name: str) -> bool:
    value = row[name]
    if isinstance(value, list):
        return all(value)
    return value is not None and (value != "" or name not in ("key", "baseline_id", "kind"))


def faults_of(history: Sequence[Event], now: datetime | None = None) -> dict[Event, str]:
    """Return why nothing can be told from events, of each of which that is so.

    What a command wrote is one: where nothing can be told from a row of it, none of its rows counts.

    Args:
        now: the time; None for that of the clock.
    """
    now = now or datetime.now(UTC)
    ids = {event.baseline_id for event in history if event.baseline_id}
    whole: dict[str, Event] = {}
    faults: dict[Event, str] = {}
    for event in history:
        why, first = event.fault(ids, now), whole.setdefault(event.baseline_id, event)
        if not why and event.baseline_id and (event.kind, event.reverts) != (first.kind, first.reverts):
            why = f"its rows are of two kinds, {first.kind} and {event.kind}"
        if why:
            faults[event] = why
    by_id = {event.baseline_id: why for event, why in reversed(faults.items()) if event.baseline_id}
    return {event: why for event in history if (why := by_id.get(event.baseline_id) or faults.get(event, ""))}


def standing(history: Sequence[Event], keys: Mapping[str, str] | None = None) -> Baselines:
    """Return what stands after these events, the earliest first.

    A revert undoes all that a command did, another revert too: what that had undone then stands once more. An event
    from which nothing can be told changes nothing.

    Args:
        keys: the comparability key that runs have today, by id, where that is not what it was: events of such runs
            count for it.
    """
    stands, odd = stands_by_id(history), faults_of(history)
    state = Baselines()
    for event in history:
        if event.kind == "revert" or event in odd or not stands(event.baseline_id):
            continue
        by_key: dict[str, list[str]] = {}
        for run_id in dict.fromkeys(event.run_ids):
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
    odd = faults_of(history)
    sound = [event for event in history if event.kind == "revert" and event not in odd]
    reverts = {event.baseline_id: event.reverts for event in sound if event.reverts}
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
    """Write one event for each key, all of one command, later than all events that are there.

    Its time is the clock's, or just after that of the newest event where another machine's clock is ahead.

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
    now = _after_all(root)
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


def _after_all(root: Path) -> datetime:
    """The time of a new event: who wrote it knew of those before, whatever their clocks said."""
    now = datetime.now(UTC)
    table, _ = read_table(root, "baselines", columns=["accepted_at"])
    # One that is yet to come is a fault until it is reverted, and nothing can be later than it.
    known = [at for at in table["accepted_at"].to_pylist() if at and at <= now + AHEAD - TICK]
    return max([now, *(at + TICK for at in known)])


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return "unknown"
