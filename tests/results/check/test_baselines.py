"""What stands after accepting, pinning, reverting and retiring."""

import dataclasses
import getpass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from results.check.baselines import EARLIEST, Event, append, events, standing
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
    append(tmp_path, "retire", {"k": []}, reason="measured no more")
    state = standing(events(tmp_path)[0])
    assert state.accepted == {"other": ["9"]} and state.pinned == {}
    append(tmp_path, "accept", {"k": ["4"]}, reason="again")
    assert standing(events(tmp_path)[0]).accepted["k"] == ["4"]


def test_only_a_revert_undoes_what_it_names(tmp_path: Path) -> None:
    accepted = append(tmp_path, "accept", {"k": ["1"]}, reason="")
    append(tmp_path, "accept", {"k": ["2"]}, reason="", reverts=accepted)
    assert standing(events(tmp_path)[0]).accepted == {"k": ["1", "2"]}


def test_rows_from_before_there_were_kinds_are_accepted_first(tmp_path: Path) -> None:
    append(tmp_path, "accept", {"k": ["2"]}, reason="")
    old = to_table("baselines", [{"key": "k", "run_ids": ["1"], "reason": "old"}])
    names = [name for name in old.column_names if name not in ("kind", "accepted_at", "baseline_id", "reverts")]
    write_once(table_path(tmp_path, "baselines", "2026-01", "old", 0), [old.select(names)])
    history, faults = events(tmp_path)
    assert not faults and (history[0].kind, history[0].accepted_at) == ("accept", EARLIEST)
    assert standing(history).accepted == {"k": ["1", "2"]}


@pytest.mark.parametrize("key", [None, ""])
def test_a_row_without_a_key_and_a_spoilt_file_are_said(tmp_path: Path, key: str | None) -> None:
    append(tmp_path, "accept", {"k": ["2"]}, reason="")
    nobody = to_table("baselines", [{"key": key, "run_ids": ["1"]}])
    write_once(table_path(tmp_path, "baselines", "2026-01", "nobody", 0), [nobody])
    table_path(tmp_path, "baselines", "2026-01", "cut", 0).write_bytes(b"PAR1")
    history, faults = events(tmp_path)
    assert len(history) == 1 and len(faults) == 2
    assert any("cut.0.parquet" in line for line in faults) and any("no key" in line for line in faults)


def test_a_row_of_which_only_the_key_is_known_is_an_event_of_nothing(tmp_path: Path) -> None:
    write_once(table_path(tmp_path, "baselines", "2026-01", "bare", 0), [to_table("baselines", [{"key": "k"}])])
    (event,) = events(tmp_path)[0]
    assert event == Event("", "accept", "k", (), "", "", EARLIEST, None, ())
    assert (EARLIEST.year, EARLIEST.month, EARLIEST.day) == (1970, 1, 1)


def test_events_of_one_moment_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for name in ("b", "a", "c"):
        row = {"key": "k", "kind": "pin", "run_ids": [name, None], "baseline_id": name, "accepted_at": moment}
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
