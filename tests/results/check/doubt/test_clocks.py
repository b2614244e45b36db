"""Events of baselines by machines whose clocks differ: what was said later counts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from results.check import baselines
from results.check.baselines import AHEAD, append, events, faults_of, standing


def set_clock(monkeypatch: pytest.MonkeyPatch, off: timedelta) -> None:
    at = datetime.now(UTC) + off

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return at

    monkeypatch.setattr(baselines, "datetime", Clock)


@pytest.mark.parametrize("ahead", [timedelta(minutes=50), timedelta(0), AHEAD - timedelta(seconds=1)])
@pytest.mark.parametrize("later", ["retire", "pin", "accept"])
def test_what_was_said_later_counts_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: timedelta, later: str
) -> None:
    set_clock(monkeypatch, timedelta(0))
    right = baselines.datetime
    set_clock(monkeypatch, ahead)
    for kind in ("accept", "pin"):
        append(tmp_path, kind, {"k": ["a"], "other": ["o"]}, reason="")
    monkeypatch.setattr(baselines, "datetime", right)
    last = append(tmp_path, later, {"k": ["b"]}, reason="")
    history, faults = events(tmp_path)
    assert not faults and history[-1].baseline_id == last
    state = standing(history)
    assert (state.accepted.get("k"), state.pinned.get("k")) == {
        "retire": (None, None), "pin": (["a"], ["b"]), "accept": (["a", "b"], ["a"]),
    }[later]  # fmt: skip
    assert (state.accepted["other"], state.pinned["other"]) == (["o"], ["o"])
    assert len({event.accepted_at for event in history}) == 3


def test_an_event_that_is_yet_to_come_draws_none_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = baselines.datetime
    for off in (2 * AHEAD, AHEAD):  # the second may stand, and nothing later may
        set_clock(monkeypatch, off)
        append(tmp_path, "accept", {"k": ["a"]}, reason="")
    monkeypatch.setattr(baselines, "datetime", real)
    append(tmp_path, "accept", {"k": ["b"]}, reason="")
    history, _ = events(tmp_path)
    (mine,) = [event for event in history if event.run_ids == ("b",)]
    assert mine not in faults_of(history) and mine.accepted_at <= datetime.now(UTC) + AHEAD
