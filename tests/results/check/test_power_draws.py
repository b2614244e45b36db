"""Each draw of the power by the check itself: it finds what is worse by more than was said, and nothing less."""

import math

import numpy as np
import pytest
from scipy import stats

from results.check.confirm import PAIRS, confirm
from results.check.noise import Noise, estimate
from results.check.power import DRAWS, LARGEST, POWER, least_found, visible
from results.check.screen import SOLE, SUSPECT, Rule, screen

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
    sets = [[0.0, 0.02], [0.05] * 3, [0.01, 0.01, 0.01, 0.05]]
    logs = [np.log1p(one) for one in sets]
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
