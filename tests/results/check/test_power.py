"""Noise and power: what is said to be visible is what checks find, draw by draw."""

import math

import numpy as np
import pytest
from scipy import stats

from results.check.confirm import PAIRS, confirm, confirmed_many
from results.check.noise import LEAST_DEGREES, Noise, estimate
from results.check.power import DRAWS, LARGEST, POWER, least_found, least_pairs_above, visible
from results.check.screen import SOLE, SUSPECT, Rule, p_value, screen, screen_many


def test_noise_is_estimated_from_runs_and_pairs() -> None:
    draw = np.random.default_rng(0)
    truth = Noise(between=0.03, within=0.01, outliers=0.0)
    values = truth.allocations(draw, (4000,)).tolist()
    sets = (1.07 * truth.ratios(draw, (500, PAIRS))).tolist()  # b is 7% apart, which is no noise
    found = estimate(values, sets)
    assert found.between == pytest.approx(0.03, rel=0.05) and found.within == pytest.approx(0.01, rel=0.05)
    assert found.total == pytest.approx(math.hypot(0.03, 0.01), rel=0.05) and found.known_within


def test_runs_differ_as_the_model_says() -> None:
    draw = np.random.default_rng(0)
    quiet = Noise(between=0.03, within=0.04, outliers=0.0)
    assert np.log(quiet.allocations(draw, (100_000,))).std() == pytest.approx(quiet.total, rel=0.02)
    assert quiet.total == pytest.approx(0.05)
    assert np.log(quiet.ratios(draw, (100_000,))).std() == pytest.approx(0.04 * math.sqrt(2), rel=0.02)
    slow = Noise(between=0.0, within=0.0, outliers=0.2, outlier_loss=0.3).allocations(draw, (100_000,))
    assert (slow < 1).mean() == pytest.approx(0.2, rel=0.05) and slow.max() == 1
    assert slow.min() == pytest.approx(0.7, abs=0.01) and slow[slow < 1].mean() == pytest.approx(0.85, abs=0.01)


def test_sets_that_stopped_early_make_the_noise_no_smaller() -> None:
    draw = np.random.default_rng(0)
    truth = Noise(between=0.0, within=0.01, outliers=0.0)
    sets = [one[: confirm((one - 1).tolist()).pairs] for one in truth.ratios(draw, (3000, PAIRS))]
    found = estimate(truth.allocations(draw, (4000,)).tolist(), sets)
    assert 0.01 <= found.within < 0.0125


def test_without_pairs_all_noise_is_taken_as_within() -> None:
    draw = np.random.default_rng(0)
    values = Noise(0.03, 0.0, outliers=0.0).allocations(draw, (4000,)).tolist()
    for sets in ([], [[1.001, 1.002, 1.003]] * 2, [[1.1]] * 20):  # 0, 4 and 0 degrees of freedom
        found = estimate(values, sets)
        assert not found.known_within and found.between == 0 and found.within == pytest.approx(0.03, rel=0.05)
    assert estimate(values, [[1.001] * (LEAST_DEGREES + 1)]).known_within and LEAST_DEGREES == 5


def test_pairs_noisier_than_runs_leave_nothing_between() -> None:
    assert estimate([100, 100.1, 99.9], [[1.1, 0.9, 1.2, 0.8, 1.15, 1.1]]).between == 0.0


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        ([9.0] * 12 + [10.0] * 7 + [40.0], 19),
        ([9.0] * 12 + [10.0] * 7 + [2.0], 19),
        ([9.0] * 12 + [10.0] * 6 + [40.0, 41.0], 20),  # two of twenty are no exception
        ([9.0] * 12 + [10.0] * 7 + [14.0], 20),  # 56% off
        ([9.0] * 12 + [10.0] * 7 + [15.0], 19),  # 67% off
        ([9.0, 9.0, 9.0, 9.0, 40.0, 10.0], 5),
        ([9.0, 9.0, 9.0, 40.0, 10.0], 5),  # too few to tell which is odd
    ],
)
def test_one_broken_run_is_not_taken_for_the_noise_of_whole_numbers(values: list[float], counted: int) -> None:
    near = sorted(values, key=lambda value: abs(value - np.median(values)))[:counted]
    assert estimate(values, whole=True, far=0.6).between == pytest.approx(np.std(np.log(near), ddof=1), rel=1e-9)
    assert estimate(values, whole=True).between == pytest.approx(np.std(np.log(values), ddof=1), rel=1e-9)
    shares = estimate([value / 100 for value in values], whole=True, absolute=True, far=0.0505)
    assert shares.between == pytest.approx(np.std(np.array(near) / 100, ddof=1), rel=1e-9)


def test_whole_numbers_have_at_least_their_ordinary_deviation() -> None:
    epochs = [9.0] * 7 + [10.0, 10.0, 12.0]
    found = estimate(epochs, whole=True)
    assert found.between == pytest.approx(np.std(np.log(epochs), ddof=1)) and estimate(epochs).total == 0
    assert estimate([9.0], whole=True).total == 0  # of one there is none
    assert (found.within, found.outliers) == (0, 0)


def test_noise_of_an_absolute_metric_is_in_its_unit() -> None:
    found = estimate([0.98, 0.99, 1.0], absolute=True)
    assert found.between == pytest.approx(1.4826 * 0.01) and found.within == 0 and found.outliers == 0


@pytest.mark.parametrize("degrees", [0, 3, 5])
def test_draws_have_the_deviation_that_is_asked_for(degrees: int) -> None:
    drawn = Noise(0, 0, degrees=degrees).draw(np.random.default_rng(1), (400_000,), 0.02)
    assert drawn.std() == pytest.approx(0.02, rel=0.1) and abs(drawn.mean()) < 2e-4


def test_slow_allocations_are_as_many_and_as_slow_as_said() -> None:
    rates = Noise(0, 0, outliers=0.05, outlier_loss=0.2).allocations(np.random.default_rng(2), (100_000,))
    assert (rates < 1).mean() == pytest.approx(0.05, rel=0.05)
    assert rates.min() >= 0.8 and rates[rates < 1].mean() == pytest.approx(0.9, rel=0.01)


@pytest.mark.parametrize(("few", "many", "level"), [(3, 20, 0.05), (3, 4, 0.05), (5, 20, 0.05), (3, 10, 0.01)])
def test_the_level_is_reached_with_so_many_pairs(few: int, many: int, level: float) -> None:
    """By laying out values with that many pairs in which a candidate is the larger."""
    count = least_pairs_above(few, many, level)
    for wanted, below in ((count, True), (count - 1, False)):
        above = [min(many, max(0, wanted - many * index)) for index in range(few)]  # of the baseline, below each
        candidates = [value - 0.5 + 0.01 * index for index, value in enumerate(above)]
        assert sum(one > other for one in candidates for other in range(many)) == wanted
        assert (p_value(candidates, list(range(many))) < level) == below


def test_no_number_of_pairs_reaches_a_level_that_cannot_be_reached() -> None:
    assert least_pairs_above(3, 3, 0.05) == 10
    assert np.isinf(least_found(Noise(0.01, 0.01), 3, 3, floor=0.02, rule=SUSPECT, higher=True)).all()
    assert visible(Noise(0.01, 0.01), 3, 3, floor=0.02, rule=SUSPECT, higher=True) is None


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize(("between", "within", "runs"), [(0.02, 0.004, 3), (0.01, 0.02, 5)])
def test_what_is_visible_is_found_by_the_check(between: float, within: float, runs: int, higher: bool) -> None:
    """Other draws, through the screen and the pairs themselves."""
    noise, draw, cells = Noise(between, within), np.random.default_rng(7), 4000
    seen = visible(noise, runs, 20, floor=0.02, rule=SUSPECT, higher=higher)
    assert seen is not None and 0.02 < seen < 0.1
    mine, theirs = noise.allocations(draw, (cells, runs)), noise.allocations(draw, (cells, 20))
    if not higher:
        mine, theirs = 1 / mine, 1 / theirs
    sign = -1 if higher else 1
    ratios = noise.ratios(draw, (cells, PAIRS))
    for worsening, expected in ((seen, 0.95), (0.0, 0.0)):
        flagged = screen_many(sign * mine * (1 + sign * worsening), sign * theirs, floor=0.02)
        confirmed = confirmed_many(sign * (ratios * (1 + sign * worsening) - 1))
        assert (flagged & confirmed).mean() == pytest.approx(expected, abs=0.015)
    least = least_found(noise, runs, 20, floor=0.02, rule=SUSPECT, higher=higher)
    assert (least <= seen).mean() == pytest.approx(0.95, abs=1e-3)


def test_what_is_visible_without_pairs_in_the_metrics_unit() -> None:
    noise, draw = Noise(0.003, 0.0, outliers=0.0), np.random.default_rng(9)
    seen = visible(noise, 3, 20, floor=0.005, rule=SOLE, higher=True, confirmed=False, absolute=True)
    assert seen is not None and 0.005 < seen < 0.03
    hits = 0
    for _ in range(800):
        mine, theirs = 0.95 + 0.003 * draw.normal(size=3) - seen, 0.95 + 0.003 * draw.normal(size=20)
        hits += screen(list(-mine), list(-theirs), floor=0.005, rule=SOLE, absolute=True).flagged
    assert hits / 800 == pytest.approx(0.95, abs=0.025)


def test_more_noise_hides_more() -> None:
    seen = [
        visible(Noise(between, within), 3, 20, floor=0.02, rule=SUSPECT, higher=True)
        for between, within in ((0.0, 0.0), (0.01, 0.004), (0.02, 0.004), (0.02, 0.02), (0.05, 0.02))
    ]
    assert None not in seen and seen == sorted(seen) and seen[0] == pytest.approx(0.02, abs=0.006)  # type: ignore[type-var]
    assert visible(Noise(3.0, 3.0), 3, 20, floor=0.02, rule=SUSPECT, higher=True) is None
    assert LARGEST == 0.9


NOISE = Noise(between=0.02, within=0.008, outliers=0.2, outlier_loss=0.1)
WHOLE = Rule(level=0.05, deviations=3.0, whole=True)


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize(
    ("noise", "runs", "size", "floor", "rule", "confirmed", "absolute"),
    [
        (NOISE, 3, 20, 0.02, SUSPECT, True, False),
        (NOISE, 2, 5, 0.001, SUSPECT, False, False),
        (NOISE, 3, 20, 0.05, SUSPECT, False, False),
        (NOISE, 4, 9, 0.01, WHOLE, False, False),
        (Noise(0.02, 0.0), 3, 12, 0.002, SOLE, False, True),
        (Noise(0.0, 0.0, outliers=0.0), 3, 20, 0.001, SUSPECT, True, False),
    ],
)
def test_each_draw_is_found_from_the_least_worsening_on(
    noise: Noise, runs: int, size: int, floor: float, rule: Rule, confirmed: bool, absolute: bool, higher: bool
) -> None:
    least = least_found(
        noise, runs, size, floor=floor, rule=rule, higher=higher, confirmed=confirmed, absolute=absolute
    )
    assert least.shape == (DRAWS,)
    draw = np.random.default_rng(0)
    sign = -1 if higher else 1
    if absolute:
        mine, theirs = (5 + noise.draw(draw, (DRAWS, count), noise.between) for count in (runs, size))
    else:
        mine, theirs = (noise.allocations(draw, (DRAWS, count)) for count in (runs, size))
    ratios = noise.ratios(draw, (DRAWS, PAIRS))
    if not higher and not absolute:
        mine, theirs = 1 / mine, 1 / theirs

    def found(index: int, worsening: float) -> bool:
        worse = mine[index] + sign * worsening if absolute else mine[index] * (1 + sign * worsening)
        said = screen(list(sign * worse), list(sign * theirs[index]), floor=floor, rule=rule, absolute=absolute)
        changes = sign * (ratios[index] * (1 + sign * worsening) - 1)
        return said.flagged and (not confirmed or confirm(list(changes)).outcome == "worse")

    for index in range(40):
        assert found(index, least[index] + 1e-9) and not found(index, least[index] - 1e-9)


def test_the_visible_worsening_is_the_least_that_is_found_in_so_many_draws() -> None:
    assert (POWER, DRAWS) == (0.95, 2000)
    least = least_found(NOISE, 3, 20, floor=0.02, rule=SUSPECT, higher=True)
    seen = visible(NOISE, 3, 20, floor=0.02, rule=SUSPECT, higher=True)
    assert seen in least and (least <= seen).sum() == 1900


def test_beyond_the_largest_nothing_is_said() -> None:
    def rise(floor: float) -> float | None:
        exact = Noise(0.0, 0.0, outliers=0.0)
        return visible(exact, 3, 20, floor=floor, rule=SUSPECT, higher=False, confirmed=False, absolute=True)

    assert rise(LARGEST) == LARGEST and rise(math.nextafter(LARGEST, 1)) is None


@pytest.mark.parametrize(("floor", "seen"), [(8.9, True), (9.1, False)])
def test_a_rise_is_told_up_to_ten_times(floor: float, seen: bool) -> None:
    exact = Noise(0.0, 0.0, outliers=0.0)
    found = visible(exact, 3, 20, floor=floor, rule=SUSPECT, higher=False, confirmed=False)
    assert found == (pytest.approx(floor) if seen else None)
    assert visible(exact, 3, 20, floor=0.91, rule=SUSPECT, higher=True, confirmed=False) is None


def test_what_noise_is_where_nothing_else_is_said() -> None:
    found = Noise(0.03, 0.04)
    assert (found.outliers, found.outlier_loss, found.degrees, found.known_within) == (0.05, 0.05, 0.0, True)
    assert found.total == pytest.approx(0.05)


def test_a_history_of_one_has_no_noise() -> None:
    found = estimate([9.0], whole=True)
    assert (found.between, found.within) == (0.0, 0.0)
    assert estimate([100.0]).total == 0.0
    assert estimate([90.0, 100.0], whole=True).between == pytest.approx(max(
        1.4826 * math.log(10 / 9) / 2, math.log(10 / 9) / math.sqrt(2)
    ))  # fmt: skip


def test_the_noise_within_is_pooled_over_sets_by_their_degrees() -> None:
    sets = [[1.0, 1.02], [1.05] * 3, [1.01, 1.01, 1.01, 1.05]]
    logs = [np.log(one) for one in sets]
    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in logs)
    values = [90.0, 100.0, 111.0, 95.0]
    found = estimate(values, sets)
    assert found.within == pytest.approx(math.sqrt(squares / 6 / 2)) and found.known_within
    total = estimate(values).within
    assert found.between == pytest.approx(math.sqrt(total**2 - found.within**2)) and found.outliers == 0.05


@pytest.mark.parametrize("degrees", [0, 3, 5])
def test_draws_have_the_tails_that_are_asked_for(degrees: int) -> None:
    drawn = Noise(0, 0, degrees=degrees).draw(np.random.default_rng(1), (400_000,), 0.02)
    beyond = stats.t(degrees, scale=math.sqrt((degrees - 2) / degrees)).sf(3) if degrees else stats.norm.sf(3)
    assert (np.abs(drawn) > 0.06).mean() == pytest.approx(2 * beyond, rel=0.1)
