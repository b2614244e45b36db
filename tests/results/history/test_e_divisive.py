"""Change points: against the paper's formula written out, in series whose changes are known, and in noise."""

import math
import random
import time
from itertools import combinations

import numpy as np
import pytest

from results.history import e_divisive
from results.history.e_divisive import change_points


def energy_of(left: list[float], right: list[float]) -> float:
    """Equations 5 and 6 of the paper with alpha = 1, term by term."""
    m, n = len(left), len(right)
    between = sum(abs(x - y) for x in left for y in right) * 2 / (m * n)
    within_left = sum(abs(x - y) for x, y in combinations(left, 2)) / math.comb(m, 2)
    within_right = sum(abs(x - y) for x, y in combinations(right, 2)) / math.comb(n, 2)
    return m * n / (m + n) * (between - within_left - within_right)


def best_split(series: list[float], least: int) -> tuple[float, int]:
    """Equation 7: over all splits, and all ends of the right side."""
    found = [
        (energy_of(series[:split], series[split:stop]), split)
        for split in range(least, len(series) - least + 1)
        for stop in range(split + least, len(series) + 1)
    ]
    return max(found, default=(-math.inf, 0))


@pytest.mark.parametrize("n", [4, 5, 9, 14])
@pytest.mark.parametrize("least", [2, 3, 4])
def test_the_best_split_is_that_of_the_formula(n: int, least: int) -> None:
    draw = random.Random(n)
    for _ in range(5):
        series = [draw.gauss(100, 3) + 5 * (place > n // 2) for place in range(n)]
        energies, splits = e_divisive._best_splits(np.asarray([series, series[::-1]]), least)
        for one, energy, split in zip([series, series[::-1]], energies, splits, strict=True):
            assert (energy, split) == (pytest.approx(best_split(one, least)[0]), best_split(one, least)[1])


def test_a_test_that_stops_early_answers_as_all_permutations_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the rule written out: p = (1 + as large) / (1 + permutations), all permutations looked at."""
    draw = random.Random(1)
    for shift in (0, 0.5, 1.0, 1.5, 2.0):
        series = [draw.gauss(0, 1) + shift * (place >= 6) for place in range(12)]
        energy = best_split(series, 3)[0]
        as_large = sum(best_split(draw.sample(series, 12), 3)[0] >= energy for _ in range(199))
        p = (1 + as_large) / 200
        found = bool(change_points(series))
        assert found is (p <= 0.05) or 0.03 < p < 0.08, (shift, p)


def test_a_step_is_found_at_its_place() -> None:
    draw = np.random.default_rng(0)
    places = []
    for _ in range(50):
        series = draw.normal(1000, 10, 30)
        series[18:] *= 0.93
        places.append(change_points(series))
    assert all(len(found) >= 1 for found in places)
    assert sum(found == [18] for found in places) >= 40
    assert sum(abs(found[0] - 18) <= 1 for found in places) >= 47


@pytest.mark.slow
def test_noise_has_change_points_at_the_stated_rate() -> None:
    draw = np.random.default_rng(3)
    count = 800
    for level in (0.05, 0.2):
        found = sum(bool(change_points(draw.lognormal(0, 0.02, 24), level=level)) for _ in range(count))
        assert abs(found / count - level) <= 3.5 * math.sqrt(level * (1 - level) / count), (level, found)


def test_two_steps_are_found_also_where_the_second_undoes_the_first() -> None:
    draw = np.random.default_rng(4)
    for heights in ((100, 90, 100), (100, 90, 80), (100, 120, 90)):
        series = np.concatenate([draw.normal(height, 1, 12) for height in heights])
        assert change_points(series) == [12, 24]


def test_equal_points_and_constant_series() -> None:
    assert change_points([5.0] * 40) == []
    assert change_points([1.0, 2.0] * 20) == []
    assert change_points([3.0] * 10 + [4.0] * 10) == [10]


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_series_of_less_than_two_least_segments_has_none(n: int) -> None:
    assert change_points([1.0, 9.0, 1.0, 9.0, 9.0][:n]) == []


def test_no_segment_is_shorter_than_the_least() -> None:
    draw = np.random.default_rng(5)
    series = draw.normal(0, 1, 40)
    series[2:] += 50
    for least in (2, 3, 6):
        bounds = [0, *change_points(series, least_segment=least), 40]
        assert min(np.diff(bounds)) >= least
        assert (bounds[1] == 2) is (least == 2)


def test_the_same_series_has_the_same_change_points_in_any_unit() -> None:
    draw = np.random.default_rng(6)
    series = draw.normal(100, 2, 40)
    series[25:] += 3
    found = change_points(series)
    assert found and found == change_points(list(series)) == change_points(series * 1e9) == change_points(series / 1e6)
    assert found == change_points(series, seed=1)


def test_a_thousand_series_take_seconds() -> None:
    draw = np.random.default_rng(7)
    started = time.process_time()
    for _ in range(100):
        change_points(draw.normal(1, 0.02, 30))
    assert time.process_time() - started < 1.5  # 0.15 s where it was written


@pytest.mark.parametrize(
    ("series", "options", "said"),
    [
        ([1.0, math.nan], {}, "number 2 of 2 is nan"),
        ([math.inf, 1.0], {}, "number 1 of 2 is inf"),
        ([[1.0], [2.0]], {}, "one dimension, got 2"),
        ([1.0], {"level": 5}, "level=5"),
        ([1.0], {"permutations": 18}, "permutations=18: 19 or more"),
        ([1.0], {"least_segment": 1}, "least_segment=1"),
    ],
)
def test_what_is_refused(series: list[float], options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        change_points(series, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("level", "permutations"), [(0.05, 199), (0.05, 19), (0.1, 99), (0.01, 199), (0.3, 9)])
def test_a_level_is_reached_by_as_many_permutations_as_it_allows(
    monkeypatch: pytest.MonkeyPatch, level: float, permutations: int
) -> None:
    allowed = sum((exceeded + 1) / (permutations + 1) <= level + 1e-12 for exceeded in range(permutations)) - 1
    values, bounds = np.arange(10.0), [0, 4, 10]
    for exceeded in (0, allowed, allowed + 1, permutations):
        rows: dict[int, list[np.ndarray]] = {4: [], 6: []}

        def best(shuffled: np.ndarray, least: int, rows=rows, exceeded=exceeded):  # type: ignore[no-untyped-def]
            count, n = shuffled.shape
            done = sum(map(len, rows[n]))
            rows[n].append(shuffled)
            # As large as the statistic, but for its last digits, in so many permutations; of one segment alone.
            large = (np.arange(done, done + count) < exceeded) & (n == 6)
            return np.where(large, 5 * (1 - 1e-12), -1.0), np.ones(count, np.intp)

        monkeypatch.setattr(e_divisive, "_best_splits", best)
        draw = np.random.default_rng(0)
        found = e_divisive._significant(values, bounds, 5.0, level, permutations, 2, draw)
        assert found is (exceeded <= allowed)
        for n, segment in ((4, values[:4]), (6, values[4:])):
            shuffled = np.concatenate(rows[n])
            assert len(shuffled) == permutations if found else len(shuffled) <= permutations
            assert (np.sort(shuffled, axis=1) == segment).all() and (shuffled != segment).any()


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.1])
def test_a_level_is_between_0_and_1(level: float) -> None:
    with pytest.raises(ValueError, match=f"^level={level}: expected a fraction between 0 and 1"):
        change_points([1.0] * 6, level=level)


def test_the_fewest_permutations_of_a_level_are_enough() -> None:
    for level, least in ((0.05, 19), (0.1, 9), (0.3, 3)):
        assert change_points([1.0] * 6, level=level, permutations=least) == []
        with pytest.raises(ValueError, match=f"^permutations={least - 1}: {least} or more reach level={level}"):
            change_points([1.0] * 6, level=level, permutations=least - 1)
