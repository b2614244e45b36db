"""The edges of intervals: levels that are just reached, zeros, and counts worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from results import statistics
from results.statistics import Interval, median_interval, ratio_interval, u_tails


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


@pytest.mark.parametrize(
    ("count", "inwards", "level"),
    [
        (2, 0, 0.5),
        (3, 0, 0.75),
        (5, 0, 0.9375),
        (6, 0, 0.96875),
        (8, 0, 0.9921875),
        (9, 1, 0.9609375),
        (12, 2, 0.9614258),
    ],
)
def test_the_interval_of_a_median_of_pairs_says_the_level_that_it_has(count: int, inwards: int, level: float) -> None:
    ratios = [1.0 + 0.01 * ((5 * index) % count if count % 5 else index) for index in range(count)]
    found = median_interval([2.0 * ratio for ratio in ratios], [2.0] * count)
    assert (found.low, found.high) == pytest.approx((sorted(ratios)[inwards], sorted(ratios)[-1 - inwards]))
    assert found.ratio == pytest.approx(1 + 0.005 * (count - 1)) and found.level == pytest.approx(level, abs=1e-7)


def test_one_pair_has_no_interval_and_a_lower_level_is_narrower() -> None:
    assert median_interval([3.0], [2.0]) == Interval(1.5, None, None, None)
    assert str(median_interval([7.0, 4.0], [10.0, 4.0])) == "0.850 [0.700, 1.000] 50%"
    narrow = median_interval([1.0, 2.0, 3.0, 4.0], [1.0] * 4, level=0.3)
    assert (narrow.low, narrow.high, narrow.level) == (2.0, 3.0, 0.375)
    with pytest.raises(ValueError, match="1 numerators for 2 denominators"):
        median_interval([1.0], [1.0, 2.0])


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    for count in (2, 4, 8, 9):
        sets = [median_interval(list(one), [1.0] * count) for one in draw.lognormal(0, 0.1, (3000, count))]
        held = np.mean([(one.low or 0.0) <= 1 <= (one.high or 0.0) for one in sets])
        assert held == pytest.approx(sets[0].level, abs=0.025)


def test_the_interval_of_a_hundred_ratios_counts_all_of_both_tails() -> None:
    found = median_interval([float(number) for number in range(1, 101)], [1.0] * 100)
    tail = stats.binom.cdf(39, 100, 0.5)  # of fewer than 40 on one side of the true median; 40 would be too many
    assert tail < 0.025 < stats.binom.cdf(40, 100, 0.5)
    assert (found.ratio, found.low, found.high) == (50.5, 40.0, 61.0)
    assert found.level == pytest.approx(1 - 2 * float(tail))


def test_the_interval_of_reciprocal_ratios_is_that_of_the_ratios() -> None:
    # The same draws in the opposite order: as many medians are left out above as below.
    draw = np.random.default_rng(5)
    a, b = draw.uniform(1, 2, 41), draw.uniform(1, 2, 41)
    found, turned = statistics.paired_ratio(a, b), statistics.paired_ratio(b, a)
    assert (turned.low, turned.median, turned.high) == pytest.approx(
        (1 / found.high, 1 / found.median, 1 / found.low), rel=1e-12
    )


def test_the_interval_of_a_median_has_a_level_that_it_just_reaches() -> None:
    ratios = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    for inwards, level in ((0, 1 - 2 / 64), (1, 1 - 14 / 64)):
        found = median_interval(ratios, [1.0] * 6, level)
        assert (found.low, found.high, found.level) == (ratios[inwards], ratios[-1 - inwards], level)


def test_pairs_are_laid_out_as_long_as_there_is_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = [1.0, 1.3, 1.7], [2.0, 2.9, 3.1, 4.7]
    every = sorted(y / x for x in a for y in b)
    searched = []
    bisect = statistics._bisect_ratio

    def note(below: np.ndarray, above: np.ndarray, rank: int) -> float:
        searched.append(rank)
        return bisect(below, above, rank)

    monkeypatch.setattr(statistics, "_bisect_ratio", note)
    monkeypatch.setattr(statistics, "MOST_PAIRS", 12)
    assert statistics._ordered_ratios(b=b, a=a, ranks=list(range(12))) == every and not searched
    monkeypatch.setattr(statistics, "MOST_PAIRS", 11)
    # Both ends too: neither is a bound that the search starts from and never reaches.
    assert statistics._ordered_ratios(b=b, a=a, ranks=list(range(12))) == pytest.approx(every, rel=1e-14)
    assert searched == list(range(12))


def test_a_normal_u_ends_its_intervals_where_the_exact_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(m, n) for m in range(15, 60, 4) for n in range(m, 60, 5)]
    exact = np.array([statistics._bounds(m, n, 0.95)[0] for m, n in sizes])
    monkeypatch.setattr(statistics, "EXACT_STEPS", 0)
    normal = np.array([statistics._bounds(m, n, 0.95)[0] for m, n in sizes])
    # It is the wider of the two, by a rank in every second case.
    assert set(exact - normal) == {0, 1} and np.mean(exact - normal) < 0.6


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: statistics.median([]), "samples"),
        (lambda: statistics.summary_of_runs([math.inf]), "seconds"),
        (lambda: statistics.paired_ratio([], []), "pairs"),
        (lambda: statistics.paired_ratio([1.0], [math.nan]), "pairs"),
    ],
)
def test_what_is_wrong_is_named_first(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
