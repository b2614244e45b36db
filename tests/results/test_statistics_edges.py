"""The edges of intervals: levels that are just reached, zeros, and counts worked out by hand."""

import math

import pytest

from results import statistics
from results.statistics import ratio_interval, u_tails


def test_the_tails_of_u_worked_out_by_hand() -> None:
    assert u_tails(1, 1) == [1 / 2]
    assert u_tails(2, 2) == pytest.approx([1 / 6, 2 / 6, 4 / 6])
    assert u_tails(1, 4) == u_tails(4, 1) == pytest.approx([1 / 5, 2 / 5, 3 / 5])
    assert u_tails(2, 3) == pytest.approx([1 / 10, 2 / 10, 4 / 10, 6 / 10])
    assert [len(u_tails(m, n)) for m, n in ((3, 5), (4, 6), (20, 3))] == [8, 13, 31]


@pytest.mark.parametrize(("m", "n"), [(3, 20), (5, 5), (7, 4)])
def test_a_level_that_can_just_be_reached_is_that_of_the_interval(m: int, n: int) -> None:
    a, b = [1 + 0.01 * index for index in range(m)], [2 + 0.03 * index**1.5 for index in range(n)]
    ratios = sorted(y / x for x in a for y in b)
    for inwards, tail in enumerate(u_tails(m, n)):
        if tail < 0.4:
            found = ratio_interval(a, b, level=1 - 2 * tail)
            assert found.level == pytest.approx(1 - 2 * tail)
            assert (found.low, found.high) == (ratios[inwards], ratios[-1 - inwards])


def test_few_samples_of_a_normal_u_have_the_widest_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "EXACT_STEPS", 0)
    found = ratio_interval([10.0, 11.0, 12.0], [20.0, 22.0, 24.0], level=0.99)
    assert (found.low, found.high) == (20 / 12, 2.4) and found.level is not None and 0.9 < found.level < 0.95


@pytest.mark.parametrize(("beyond", "exact"), [(0, True), (1, False)])
def test_the_exact_tails_are_used_as_long_as_they_are_quick(
    monkeypatch: pytest.MonkeyPatch, beyond: int, exact: bool
) -> None:
    monkeypatch.setattr(statistics, "EXACT_STEPS", 4 * 4 * 6 - beyond)
    found = ratio_interval([1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3, 2.4, 2.5])
    assert (found.level == 1 - 2 * u_tails(4, 6)[2]) is exact


def test_a_ratio_may_be_of_zeros_above_and_none_below() -> None:
    found = ratio_interval([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    assert (found.ratio, found.low, found.high) == (0.0, 0.0, 0.0)
    for a, least in (([1.0, -1.0], "a: number 2 of 2 is -1.0; a ratio needs above 0"),
                     ([2.0, 0.0], "a: number 2 of 2 is 0.0; a ratio needs above 0")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{least}$"):
            ratio_interval(a, [1.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 0, 1, -0.5, math.nan])
def test_a_level_is_between_0_and_1(level: float) -> None:
    with pytest.raises(ValueError, match=f"level={level}: expected a fraction between 0 and 1"):
        ratio_interval([1.0, 2.0], [1.0, 2.0], level)


def test_what_is_taken_to_be_quick() -> None:
    assert statistics.EXACT_STEPS == statistics.MOST_PAIRS == 4_000_000
