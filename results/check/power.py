"""What a check could have seen: the least worsening that screen and pairs together find with a given probability."""

import bisect
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from results.check.confirm import LEAST_MEDIAN, PAIRS
from results.check.metrics import Metric
from results.check.noise import Noise
from results.check.screen import MAD_TO_SIGMA, Rule
from results.statistics import u_tails

__all__ = ["LARGEST", "POWER", "least_found", "least_pairs_above", "statement", "visible"]

POWER = 0.95
DRAWS = 2000  # at 95% a share of them has a standard error of 0.5%
LARGEST = 0.9  # drop, beyond which there is no point in a figure; as a rise it is one to ten times as much


def least_found(
    noise: Noise, candidates: int, baseline: int, *, floor: float, rule: Rule, higher: bool,
    confirmed: bool = True, absolute: bool = False,
) -> NDArray[np.float64]:  # fmt: skip
    """Simulate checks in which nothing has changed, and return of each which true worsening it would just have found.

    Each condition of the check holds from some worsening on, since that only moves the candidates: the check finds it
    from the largest of these on.

    Args:
        noise: of the metric.
        candidates, baseline: how many runs of each.
        floor: of the metric.
        rule: of the screen.
        higher: whether higher values are better.
        confirmed: whether pairs confirm what the screen flags.
        absolute: whether changes are differences in the metric's unit, of which `noise.between` is one.

    Returns:
        [DRAWS], fractions, or in the metric's unit; inf where no worsening would do. The draws are always the same.
    """
    draw = np.random.default_rng(0)
    sign = -1 if higher else 1
    if absolute:
        mine = noise.draw(draw, (DRAWS, candidates), noise.between)
        theirs = noise.draw(draw, (DRAWS, baseline), noise.between)
    else:
        mine, theirs = (noise.allocations(draw, (DRAWS, count)) for count in (candidates, baseline))
        if not higher:  # a slow allocation has a lower rate or a higher time
            mine, theirs = 1 / mine, 1 / theirs
    middle = np.median(theirs, axis=1)
    spread = MAD_TO_SIGMA * np.median(np.abs(theirs - middle[:, None]), axis=1)
    if rule.whole:
        spread = np.minimum(spread, np.std(theirs, axis=1, ddof=1))
    limit = np.maximum(floor * (1.0 if absolute else middle), rule.deviations * spread)

    def needed(reach: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The worsening that moves `values` to `reach`."""
        return sign * (reach - values if absolute else reach / values - 1)

    # The screen's floor, and its level: so many pairs of a candidate and a run of the baseline must be the worse.
    least = needed(middle + sign * limit, np.median(mine, axis=1))
    count = least_pairs_above(candidates, baseline, rule.level)
    if count > candidates * baseline:
        return np.full(DRAWS, math.inf)
    each = needed(theirs[:, None, :], mine[:, :, None]).reshape(DRAWS, -1)
    least = np.maximum(least, np.partition(each, count - 1, axis=1)[:, count - 1])
    if confirmed:
        ratios = noise.ratios(draw, (DRAWS, PAIRS))
        least = np.maximum(least, needed(np.ones(()), ratios).max(axis=1))
        least = np.maximum(least, needed(1 + sign * np.full((), LEAST_MEDIAN), np.median(ratios, axis=1)))
    return least


def least_pairs_above(candidates: int, baseline: int, level: float) -> int:
    """Return how many of the pairs of a candidate and a run of the baseline must be worse for p to be below a level.

    One more than there are pairs where no number will do.
    """
    rejected = bisect.bisect_left(u_tails(candidates, baseline), level)  # U of so many values has p below the level
    return candidates * baseline + 1 - rejected


@lru_cache(maxsize=4096)
def visible(
    noise: Noise, candidates: int, baseline: int, *, floor: float, rule: Rule, higher: bool,
    confirmed: bool = True, absolute: bool = False,
) -> float | None:  # fmt: skip
    """Return the least worsening that is found with probability `POWER`; see `least_found` for the arguments.

    Returns:
        A fraction, or in the metric's unit where that is absolute; None where not even `LARGEST` is found, or a rise to
        1 / (1 - `LARGEST`).
    """
    least = least_found(
        noise, candidates, baseline, floor=floor, rule=rule, higher=higher, confirmed=confirmed, absolute=absolute
    )
    found = float(np.sort(least)[math.ceil(POWER * DRAWS) - 1])
    return found if found <= (LARGEST if absolute or higher else 1 / (1 - LARGEST) - 1) else None


def statement(seen: float | None, faster: float | None, metric: Metric, noise: Noise, count: int, size: int) -> str:
    """Return in words what would have been found, and on what that rests.

    Args:
        seen: the least worsening that would have been found, None where none would.
        faster: of a metric of which a drop is a fault as well, the least that would have been found.
    """
    word = "drop" if metric.better == "higher" else "rise"
    runs = f"{count} against {size} runs"
    if seen is None:
        return f"could have seen no {word}, however large: {runs} differ too much"
    if metric.absolute:
        return f"could have seen a {word} of {seen:.3f} or more with {POWER:.0%} ({runs}, deviation {noise.total:.4f})"
    spread = f"{noise.between:.1%} between allocations, {noise.within:.1%} within"
    if not metric.timed:
        spread = f"deviation {noise.total:.1%}"
    elif not noise.known_within:
        spread = f"{noise.total:.1%} between allocations, within unknown and taken as large"
    found = f"a {word} of {seen:.1%} or more"
    if metric.better == "same" and faster is not None:
        found += f", or a drop of {faster:.1%} or more,"
    found += f" with {POWER:.0%}"
    if metric.better == "same" and faster is None:
        found += ", and no drop, however large"
    return f"could have seen {found} ({runs}, {spread})"
