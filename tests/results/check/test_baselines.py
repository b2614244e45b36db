"""What stands after accepting, pinning, reverting and retiring."""

import dataclasses
import getpass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.check.baselines import EARLIEST, append, events, faults_of, standing
from results.store.files import table_path, write_once
from results.store.schema import to_table


def test_accepted_runs_add_up_and_a_pin_stays(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"k": ["1", "2"], "other": ["9"]}, reason="first")
    append(tmp_path, "pin", {"k": ["1"]}, reason="release")
    append(tmp_path, "accept", {"k": ["2", "3"]}, reason="nightly pass", change_marks=["driver 580"])
    history, faults = events(tmp_path)
    state = standing(history)
    assert state.accepted == {"k": ["1", "2", "3"], "other": ["9"]} and state.pinned == {"k": ["1"]}
    assert not faults and [event.reason for event in history] == ["first", "first", "release", "nightly pass"]
    assert history[-1].change_marks == ("driver 580",)
    assert abs((history[-1].accepted_at - datetime.now(UTC)).total_seconds()) < 60
    append(tmp_path, "pin", {"k": ["2", "3"]}, reason="release 2")
    assert standing(events(tmp_path)[0]).pinned == {"k": ["2", "3"]}


def test_reverting_undoes_all_of_one_command_and_can_be_undone(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"k": ["1"]}, reason="")
    wrong = append(tmp_path, "accept", {"k": ["2"], "other": ["9"]}, reason="")
    append(tmp_path, "accept", {"k": ["3"]}, reason="")
    revert = append(tmp_path, "revert", {"k": [], "other": []}, reason="was slow", reverts=wrong)
    assert standing(events(tmp_path)[0]).accepted == {"k": ["1", "3"]}
    append(tmp_path, "revert", {"k": []}, reason="was not", reverts=revert)
    assert standing(events(tmp_path)[0]).accepted == {"k": ["1", "2", "3"], "other": ["9"]}


def test_reverts_are_followed_by_their_ids_whatever_the_clocks_said(tmp_path: Path) -> None:
    accepted = append(tmp_path, "accept", {"k": ["1"]}, reason="")
    revert = append(tmp_path, "revert", {"k": []}, reason="", reverts=accepted)
    append(tmp_path, "revert", {"k": []}, reason="", reverts=revert)
    history = events(tmp_path)[0]
    assert standing(history).accepted == standing(history[::-1]).accepted == {"k": ["1"]}
    assert standing(history[:2]).accepted == standing(history[1::-1]).accepted == {}
    # Of rows that somebody wrote by hand: two reverts of one another, one of them under the id of the accepted runs.
    ring = [
        dataclasses.replace(history[1], baseline_id=accepted, reverts=history[2].baseline_id),
        dataclasses.replace(history[2], reverts=accepted),
    ]
    assert standing([history[0], *ring]).accepted == {}


def test_events_count_for_the_key_that_their_runs_have_today(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"old": ["1", "2"]}, reason="")
    append(tmp_path, "pin", {"old": ["1"]}, reason="")
    append(tmp_path, "accept", {"new": ["3"]}, reason="")
    append(tmp_path, "pin", {"new": ["3"]}, reason="")
    history = events(tmp_path)[0]
    today = dict.fromkeys("123", "new")
    assert standing(history, today).accepted == {"new": ["1", "2", "3"]} and standing(history, today).pinned == {
        "new": ["3"]
    }
    append(tmp_path, "retire", {"new": ["1"]}, reason="")
    assert standing(events(tmp_path)[0], today).accepted == {}


def test_retiring_ends_a_key_until_it_is_accepted_again(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"k": ["1"], "other": ["9"]}, reason="")
    append(tmp_path, "pin", {"k": ["1"]}, reason="")
    append(tmp_path, "retire", {"k": ["1"]}, reason="measured no more")
    state = standing(events(tmp_path)[0])
    assert state.accepted == {"other": ["9"]} and state.pinned == {}
    append(tmp_path, "accept", {"k": ["4"]}, reason="again")
    assert standing(events(tmp_path)[0]).accepted["k"] == ["4"]


def test_rows_from_before_there_were_kinds_are_accepted_first(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"k": ["2"]}, reason="")
    old = to_table("baselines", [{"key": "k", "run_ids": ["1"], "reason": "old"}])
    names = [name for name in old.column_names if name not in ("kind", "accepted_at", "baseline_id", "reverts")]
    write_once(table_path(tmp_path, "baselines", "2026-01", "old", 0), [old.select(names)])
    history, faults = events(tmp_path)
    assert not faults and (history[0].kind, history[0].accepted_at) == ("accept", EARLIEST)
    assert (EARLIEST.year, EARLIEST.month, EARLIEST.day) == (1970, 1, 1)
    assert standing(history).accepted == {"k": ["1", "2"]}


def test_a_spoilt_file_is_said(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"k": ["2"]}, reason="")
    table_path(tmp_path, "baselines", "2026-01", "cut", 0).parent.mkdir()
    table_path(tmp_path, "baselines", "2026-01", "cut", 0).write_bytes(b"PAR1")
    history, faults = events(tmp_path)
    assert len(history) == 1 and len(faults) == 1 and "cut.0.parquet" in faults[0]


LATE = datetime(2026, 10, 1, tzinfo=UTC)
WHOLE = {
    "key": "k", "run_ids": ["9"], "accepted_by": "me", "reason": "r", "change_marks": [], "baseline_id": "odd",
    "kind": "pin", "accepted_at": LATE, "reverts": None,
}  # fmt: skip
OLD = dict.fromkeys(("baseline_id", "kind", "accepted_at", "reverts", "accepted_by", "change_marks"))


def write(root: Path, *rows: dict[str, Any]) -> None:
    write_once(table_path(root, "baselines", "2026-01", "odd", 0), [to_table("baselines", list(rows))])


@pytest.mark.parametrize("kind", ["accept", "pin", "retire"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"key": None}, "baseline odd cannot be read: its key cannot be told"),
        ({"key": ""}, "baseline odd cannot be read: its key cannot be told"),
        ({"run_ids": None}, "it names no run"),
        ({"run_ids": []}, "it names no run"),
        ({"run_ids": [None]}, "it names no run"),
        ({"run_ids": ["9", None]}, "its run_ids cannot be told"),
        ({"run_ids": ["", "9"]}, "its run_ids cannot be told"),
        ({"accepted_by": None}, "its accepted_by cannot be told"),
        ({"reason": None, "change_marks": None}, "its reason, change_marks cannot be told"),
        ({"change_marks": ["driver", None]}, "its change_marks cannot be told"),
        ({"baseline_id": None}, "baseline without an id, of k, cannot be read: its baseline_id cannot be told"),
        ({"accepted_at": None}, "its accepted_at cannot be told"),
        ({"accepted_at": datetime(2226, 1, 1, tzinfo=UTC)}, "it is of 2226-01-01 00:00 UTC, which is yet to come"),
        ({"reverts": "nobody"}, "it reverts nobody, which only a revert does"),
        ({**OLD, "run_ids": None}, "baseline without an id, of k, cannot be read: it names no run"),
        ({**OLD, "key": None}, "baseline without an id, of no key, cannot be read: its key cannot be told"),
    ],
)
def test_an_event_that_lacks_anything_is_one_line_and_changes_nothing(
    tmp_path: Path, kind: str, columns: dict[str, Any], words: str
) -> None:
    append(tmp_path, "accept", {"k": ["1", "2"]}, reason="")
    append(tmp_path, "pin", {"k": ["1"]}, reason="")
    before = standing(events(tmp_path)[0])
    write(tmp_path, {**WHOLE, "kind": kind, **columns})
    history, faults = events(tmp_path)
    (line,) = faults
    assert line.startswith(f"{tmp_path}: baseline ") and line.endswith(words) and len(history) == 3
    assert standing(history) == before
    if "without an id" not in words:
        append(tmp_path, "revert", {"k": []}, reason="", reverts="odd")
        assert events(tmp_path)[1] == [] and standing(events(tmp_path)[0]) == before


def test_what_is_whole_is_no_fault_and_counts(tmp_path: Path) -> None:
    write(tmp_path, WHOLE, {**WHOLE, "key": "other", "run_ids": ["8", "8"]})
    history, faults = events(tmp_path)
    assert not faults and standing(history).pinned == {"k": ["9"], "other": ["8"]}
    soon = datetime.now(UTC) + timedelta(minutes=50)  # the clock of another machine
    assert faults_of([dataclasses.replace(history[0], accepted_at=soon)]) == {}
    late = dataclasses.replace(history[0], accepted_at=soon + timedelta(minutes=20))
    assert list(faults_of([late])) == [late] and faults_of([late], now=late.accepted_at) == {}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"run_ids": None}, "it names no run"),
        ({"kind": "retire"}, "its rows are of two kinds, pin and retire"),
        ({"kind": "revert", "reverts": "odd"}, "its rows are of two kinds, pin and revert"),
    ],
)
def test_of_a_command_with_one_row_that_cannot_be_read_none_counts(
    tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    append(tmp_path, "accept", {"k": ["1"], "other": ["2"]}, reason="")
    before = standing(events(tmp_path)[0])
    write(tmp_path, WHOLE, {**WHOLE, "key": "other", **other})
    history, faults = events(tmp_path)
    assert faults == [f"{tmp_path}: baseline odd cannot be read: {words}"] and standing(history) == before


@pytest.mark.parametrize("columns", [{"accepted_at": None}, {"accepted_by": None}, {"baseline_id": None}])
def test_a_revert_that_lacks_anything_undoes_nothing(tmp_path: Path, columns: dict[str, Any]) -> None:
    first = append(tmp_path, "accept", {"k": ["1"]}, reason="")
    write(tmp_path, {**WHOLE, "run_ids": [], "kind": "revert", "reverts": first, **columns})
    history, faults = events(tmp_path)
    assert standing(history).accepted == {"k": ["1"]} and len(faults) == 1 and "cannot be told" in faults[0]


def test_events_of_one_moment_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for name in ("b", "a", "c"):
        row = {**WHOLE, "run_ids": [name], "baseline_id": name, "accepted_at": moment}
        write_once(table_path(tmp_path, "baselines", "2026-01", name, 0), [to_table("baselines", [row])])
    history = events(tmp_path)[0]
    assert [event.baseline_id for event in history] == ["a", "b", "c"] and standing(history).pinned == {"k": ["c"]}


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_who_accepted_is_written_where_the_machine_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", lambda: "me")
    append(tmp_path, "accept", {"k": ["1"]}, reason="")
    monkeypatch.setattr(getpass, "getuser", unknown)
    append(tmp_path, "accept", {"k": ["2"]}, reason="")
    assert [event.accepted_by for event in events(tmp_path)[0]] == ["me", "unknown"]
