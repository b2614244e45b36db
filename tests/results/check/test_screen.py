"""The screen against brute force, scipy and arithmetic by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from results.check.screen import (
    SOLE,
    SUSPECT,
    Rule,
    least_baseline,
    least_p,
    mad,
    null_sums,
    p_value,
    screen,
    screen_many,
)

TWENTY = [100 + 0.1 * index for index in range(20)]  # median 100.95, mad 1.4826 * 0.5


def enumerated(candidates: list[float], baseline: list[float]) -> float:
    """P of a rank sum at least that of the candidates, over every choice of as many of all values."""
    ranks = stats.rankdata([*candidates, *baseline])
    observed = sum(ranks[: len(candidates)])
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, len(candidates))]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize(("few", "many"), [(1, 3), (2, 4), (3, 5), (3, 9), (4, 6)])
@pytest.mark.parametrize("values", ["different", "equal", "infinite"])
def test_p_is_the_share_of_all_choices(few: int, many: int, values: str) -> None:
    draw = np.random.default_rng(few * many)
    for _ in range(5):
        pooled = (
            draw.normal(size=few + many) if values == "different" else draw.integers(0, 4, few + many).astype(float)
        )
        if values == "infinite":
            pooled[pooled > 2] = math.inf
        candidates, baseline = pooled[:few].tolist(), pooled[few:].tolist()
        assert p_value(candidates, baseline) == pytest.approx(enumerated(candidates, baseline), rel=1e-12)


def test_the_least_p_is_one_choice_of_all() -> None:
    assert p_value([4, 5, 6], [1, 2, 3]) == pytest.approx(1 / 20) == least_p(3, 3)
    assert p_value([23, 22, 21], list(range(20))) == pytest.approx(1 / 1771) == least_p(3, 20)
    assert p_value([1, 1, 1], [1, 1, 1, 1]) == 1.0
    # Exact also where both sides have many runs, which scipy would take for a normal distribution by itself.
    assert p_value(range(100, 110), range(12)) == pytest.approx(1 / math.comb(22, 10))
    many = np.arange(112.0, 122)[None], np.arange(100.0, 112)[None]
    for level, flagged in ((0.9 / math.comb(22, 10), False), (1.1 / math.comb(22, 10), True)):
        assert screen_many(*many, floor=0.01, rule=Rule(level, 1.0)).tolist() == [flagged]
    # Twice the ranks are 2, 4, 7, 7 and 10: of the ten pairs five have a sum of 12 or more, and two one of 11.
    assert p_value([1, 4], [2, 3, 3]) == 0.5


def test_what_a_level_needs() -> None:
    # 3 against 3 reach 0.05 and not below; 3 against 7 have 1/120 < 0.01, against 6 only 1/84.
    assert [least_baseline(count) for count in (1, 2, 3, 5, 19, 20)] == [20, 5, 4, 2, 2, 1]
    assert least_baseline(3, SOLE) == 7
    assert SUSPECT == Rule(0.05, 1.0, whole=False) and SOLE == Rule(0.01, 3.0, whole=True)
    assert least_baseline(3, Rule(1 / 35, 1.0)) == 5  # 3 against 4 reach 1/35, which is not below it


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_counts_of_sums_are_those_of_all_choices(count: int) -> None:
    ranks = [1, 2, 2, 5, 7]
    counted = null_sums(np.array(ranks), count)
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, count)]
    assert [counted[total] for total in range(18)] == [sums.count(total) for total in range(18)]


def test_mad_estimates_a_deviation() -> None:
    assert mad([1, 2, 3, 4, 100]) == pytest.approx(1.4826)
    assert mad(np.random.default_rng(0).normal(0, 3, 100_000)) == pytest.approx(3, rel=0.02)


def test_both_the_level_and_the_floor_must_be_passed() -> None:
    far, near = (
        screen([104, 105, 106], TWENTY, floor=0.02, rule=SUSPECT),
        screen([102, 102.1, 102.2], TWENTY, floor=0.02, rule=SUSPECT),
    )
    assert far.flagged and far.worsening == pytest.approx(105 / 100.95 - 1) and far.floor == 0.02
    assert near.p == far.p == pytest.approx(1 / 1771) and not near.flagged  # 1.1% is below the floor
    one_bad = screen([100, 100.01, 120], TWENTY, floor=0.0, rule=SUSPECT)
    assert one_bad.p > 0.05 and not one_bad.flagged
    # The median moved beyond the floor while p stays above the level: 2 of 3 only.
    assert not screen([90, 104, 105], TWENTY, floor=0.02, rule=SUSPECT).flagged


def test_the_floor_is_at_least_the_deviation_of_the_baseline() -> None:
    noisy = [100 + 3 * (index - 9.5) for index in range(20)]  # mad 1.4826 * 15 = 22.2
    said = screen([115, 130, 131], noisy, floor=0.02, rule=Rule(0.5, 1.0))
    assert said.floor == pytest.approx(1.4826 * 15 / 100) and said.flagged
    assert not screen([115, 121, 131], noisy, floor=0.02, rule=Rule(0.5, 1.0)).flagged
    assert screen([115, 130, 131], noisy, floor=0.02, rule=Rule(0.5, 2.0)).floor == pytest.approx(2 * said.floor)


def test_direction_is_the_sign_of_the_values() -> None:
    rates = [-value for value in TWENTY]
    assert screen([-95.0, -94.0, -93.0], rates, floor=0.02, rule=SUSPECT).flagged
    assert screen([-95.0, -94.0, -93.0], rates, floor=0.02, rule=SUSPECT).worsening == pytest.approx(6.95 / 100.95)
    assert not screen([-105.0, -106.0, -107.0], rates, floor=0.02, rule=SUSPECT).flagged


def test_a_target_not_reached_is_worse_than_any() -> None:
    said = screen([math.inf, math.inf, 9], [9.0] * 12 + [10.0] * 8, floor=0.2, rule=Rule(0.5, 1.0))
    assert said.worsening == math.inf and said.flagged


def test_absolute_changes_are_differences() -> None:
    said = screen([-0.97] * 3, [-0.99] * 20, floor=0.005, rule=SOLE, absolute=True)
    assert said.worsening == pytest.approx(0.02) and said.floor == 0.005 and said.flagged


def test_whole_numbers_have_the_lesser_deviation() -> None:
    epochs = [9.0, 10, 11, 10, 9, 11, 10, 10, 11, 9]
    assert mad(epochs) == pytest.approx(1.4826) and np.std(epochs, ddof=1) == pytest.approx(0.8165, abs=1e-4)
    assert SOLE.spread(epochs) == pytest.approx(3 * 0.8165, abs=1e-3)
    assert SUSPECT.spread(epochs) == pytest.approx(1.4826)
    assert SOLE.spread([10.0, 10.0, 10.0, 90.0]) == 0  # one that is far off is no deviation of the others


def test_what_is_just_at_the_level_or_the_floor_is_not_flagged() -> None:
    level = 1 / 1771
    beyond = math.nextafter(level, 1)
    for rule, flagged in ((Rule(level, 1.0), False), (Rule(beyond, 1.0), True)):
        assert screen([104, 105, 106], TWENTY, floor=0.02, rule=rule).flagged == flagged
    for floor, flagged in ((2.0, False), (math.nextafter(2.0, 0), True)):
        said = screen([12.0] * 3, [10.0] * 20, floor=floor, rule=SUSPECT, absolute=True)
        assert said.worsening == 2.0 and said.flagged == flagged


def test_infinite_runs_of_a_baseline_do_not_count_for_its_deviation() -> None:
    said = screen([20.0] * 3, [9.0, 10.0, 11.0, 10.0, math.inf], floor=0.01, rule=SUSPECT)
    assert said.floor == pytest.approx(1.4826 * 0.5 / 10)


@pytest.mark.parametrize("rule", [SUSPECT, Rule(0.05, 2.0), Rule(1 / 1771, 1.0)])
def test_many_cells_are_screened_by_the_rule(rule: Rule) -> None:
    draw = np.random.default_rng(4)
    candidates, baselines = draw.normal(104, 1, (50, 3)), draw.normal(100, 1.5, (50, 20))
    many = screen_many(candidates, baselines, floor=0.02, rule=rule)
    alone = [
        screen(one.tolist(), other.tolist(), floor=0.02, rule=rule).flagged
        for one, other in zip(candidates, baselines, strict=True)
    ]
    assert many.tolist() == alone and any(alone) == (rule.level > 1 / 1771)


@pytest.mark.parametrize("sign", [1, -1])
def test_many_cells_are_screened_as_each_alone(sign: int) -> None:
    draw = np.random.default_rng(3)
    candidates, baselines = draw.normal(102 if sign > 0 else 98, 1.5, (200, 3)), draw.normal(100, 1.5, (200, 20))
    many = screen_many(sign * candidates, sign * baselines, floor=0.02)
    alone = [
        screen((sign * one).tolist(), (sign * other).tolist(), floor=0.02, rule=SUSPECT).flagged
        for one, other in zip(candidates, baselines, strict=True)
    ]
    assert many.tolist() == alone and 20 < sum(alone) < 180
