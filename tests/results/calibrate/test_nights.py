"""Calibration at a reduced size: what the full one shows in minutes, here in seconds and with wider bounds."""

import numpy as np
import pytest

from results.calibrate.command import SCENARIOS, main
from results.calibrate.nights import (
    Night,
    convergence,
    creep,
    nights,
    power_agreement,
    summarize,
)
from results.calibrate.rules import RULES
from results.check.screen import MOST_RUNS

# Nights are simulated.
pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "runs", "five", "three"),
    [("between-1", 3, 0.99, 0.8), ("between-2", 3, 0.92, 0.53), ("between-2", 5, 0.96, 0.63)],
)
def test_what_the_check_finds_and_how_often_it_is_wrong(scenario: str, runs: int, five: float, three: float) -> None:
    said = summarize(SCENARIOS[scenario], 60, 45, runs, 0, (0.05, 0.03))
    assert said.confirmed <= 0.02 and 0 < said.screened < 2.5 and said.inconclusive <= 0.15
    assert said.found[0.05] >= five and said.found[0.03] >= three


@pytest.mark.slow
@pytest.mark.parametrize("runs", [3, 5])
def test_the_power_that_is_said_is_what_is_found(runs: int) -> None:
    said, found = power_agreement(SCENARIOS["between-2"], 250, runs, 2)
    assert found == pytest.approx(0.95, abs=0.05) and 0.03 < said < 0.07


@pytest.mark.slow
def test_creep_is_found_within_four_weeks() -> None:
    assert creep(SCENARIOS["between-2"], 4, 90, 3, 1) >= 0.9
    assert creep(SCENARIOS["between-2"], 4, 90, 3, 1, weekly=0.0) <= 0.05


def test_convergence_is_rarely_wrong_mostly_found_and_its_power_no_less_than_said() -> None:
    one = convergence(300, 3, 0)
    assert one.epochs <= 0.005 and one.accuracy <= 0.005 and one.found >= 0.9
    assert one.left <= 0.01
    assert one.visible_found >= 0.9 and 0.2 < one.visible < 0.6


def test_a_night_keeps_what_passed() -> None:
    before = None
    for night in nights(SCENARIOS["between-1"], 3, 7, 4, 0):
        assert night.accepted.shape == (7, MOST_RUNS) and night.runs.shape == (7, 4) and night.alone.shape == (7, 8)
        if before is not None:
            assert np.array_equal(night.accepted[:, -4:], before)
            assert np.array_equal(night.series[:, -4:], before)
        before = night.runs


def test_variation_is_what_the_scenario_says() -> None:
    for name, expected in (("between-1", 0.0108), ("between-2", 0.0204), ("within-2", 0.0283), ("memory", 0.0204)):
        logs = np.log(np.concatenate([night.runs for night in nights(SCENARIOS[name], 400, 9, 3, 0)]).ravel())
        assert np.median(np.abs(logs - np.median(logs))) * 1.4826 == pytest.approx(expected, rel=0.08)


def test_the_rules_of_others() -> None:
    steady = 1 + 0.01 * np.sin(np.arange(40.0))
    series = np.stack([steady, steady])
    runs = np.array([[1.0, 1.001, 0.999], [0.9, 0.901, 0.899]])
    night = Night(series[:, -20:], series, runs, np.ones((2, 8)))
    for name, (rule, _) in RULES.items():
        assert rule(night, 0.0).tolist() == [False, True], name
        assert rule(night, 0.2).tolist() == [True, True], name


@pytest.mark.slow
def test_the_command_says_that_it_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nights=2", "cells=5", "runs=3", "scenario=between-1"]) == 0
    said = capsys.readouterr().out
    assert "SIMULATED: 2 nights of 5 cells" in said and "E-divisive" in said and "1% between" in said
    assert main(["runs=2"]) == 2 and "at least 3" in capsys.readouterr().err
    assert main(["scenario=betwen-1"]) == 2 and "nearest: scenario=between-1" in capsys.readouterr().err


def test_what_a_night_leaves_open_is_what_the_check_would() -> None:
    steady = 1 + 0.01 * np.sin(np.arange(20.0))
    good, broken, slow = [1.02, 1.021, 1.019], [1.02, 0.7, 0.71], [0.93, 0.931, 0.929]
    runs = np.array([good, broken, slow, slow, slow])
    same, worse, torn = np.array([1.001, 0.999] * 4), np.full(8, 0.93), np.array([0.9, 1.01, *[1.0] * 6])
    night = Night(np.stack([steady] * 5), np.stack([steady] * 5), runs, np.stack([same, same, same, worse, torn]))
    assert night.screened().tolist() == [False, False, True, True, True]
    assert night.open.tolist() == [False, True, False, False, True]
    assert night.confirmed().tolist() == [False, False, False, True, False]


def test_a_night_leaves_open_what_has_too_many_far_worse_runs() -> None:
    steady = 1 + 0.01 * np.sin(np.arange(20.0))
    usual = np.where(np.arange(20) < 5, 0.6, steady)
    runs = np.array([[1.02, 1.021, 0.6], [1.02, 1.021, 0.8], [1.02, 1.021, 0.6], [1.02, 1.021, 1.6]])
    accepted = np.stack([steady, steady, usual, steady])
    night = Night(accepted, accepted, runs, np.ones((4, 8)))
    assert night.torn.tolist() == night.open.tolist() == [True, False, False, False]
    more = Night(accepted[:2], accepted[:2], np.array([[1.0] * 4 + [0.6], [1.0] * 3 + [0.6] * 2]), np.ones((2, 8)))
    assert more.open.tolist() == [False, True]


def test_what_is_left_open_is_not_accepted() -> None:
    found = 0
    before = None
    for night in nights(SCENARIOS["within-2"], 40, 45, 3, 0):
        if before is not None:
            passed = ~((before.screened() & before.confirmed()) | before.open)
            assert np.array_equal((night.accepted[:, -3:] == before.runs).all(axis=1), passed)
            found += int(before.open.sum())
        before = night
    assert found > 5
