"""Runs that spoil a figure: which of them are far off, and which lie beside which."""

import math

import pytest
from judging import baseline
from made_up import NEW, OLD, Memory

from results.check.cells import Samples
from results.check.gather import gather
from results.check.metrics import METRICS
from results.check.screen import SOLE, SUSPECT
from results.check.spoilt import any_far, beside, far_limit

BY_NAME = {metric.name: metric for metric in METRICS}
RATE = BY_NAME["images_per_s"]
TEN = [99.0, 100.0, 101.0, 98.0, 102.0] * 2


def of(*values: float) -> Samples:
    return Samples(values=list(values), numbers={str(place): value for place, value in enumerate(values)})


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ([100.0], TEN, False),
        ([74.0], TEN, True),
        ([100.0, 74.0, 101.0], TEN, True),  # one of them is enough
        ([76.0, 77.0], TEN, False),
        ([900.0], TEN, False),
        ([], TEN, False),
        ([74.0], [], False),  # there is nothing to be far from
    ],
)
def test_one_run_that_is_far_off_is_enough(mine: list[float], theirs: list[float], expected: bool) -> None:
    assert any_far(RATE, of(*mine), of(*theirs), SUSPECT) is expected


def test_nothing_is_far_from_a_target_that_is_not_reached_as_a_rule() -> None:
    metric = BY_NAME["epochs_to_target"]
    assert any_far(metric, of(math.inf), of(9.0, 9.0, 10.0), SOLE) is True
    assert any_far(metric, of(9.0, math.inf), of(9.0, math.inf, math.inf), SOLE) is False


def test_a_target_that_one_run_missed_does_not_widen_the_limit() -> None:
    metric = BY_NAME["tta_s"]
    reached = [10.0, 10.1, 9.9, 10.2]
    assert far_limit(metric, [*reached, math.inf], SUSPECT) == far_limit(metric, reached, SUSPECT) == metric.far
    wide = [8.0, 10.0, 12.0, 9.0, 14.0]
    assert far_limit(metric, wide, SUSPECT) == pytest.approx(5 * 1.4826 * 2 / 10)
    assert far_limit(metric, [*wide, math.inf], SUSPECT) == pytest.approx(5 * 1.4826 * 2 / 11)


def test_beside_a_run_are_those_of_its_cell_and_commit(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(git_commit=NEW), memory.run(git_commit=NEW, status="failed")]
    other = [memory.run(git_commit=OLD), memory.run(git_commit=NEW, config={"depth": 32}, depth=32)]
    evidence = gather(memory.root, [*ids, *other], now=memory.now)
    for run in evidence.candidates:
        found = [one.run_id for one in beside(evidence, run)]
        assert found == (ids if run.run_id in ids else [run.run_id])
