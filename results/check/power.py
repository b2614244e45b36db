"""What a check could have seen: the least worsening that screen and pairs together find with a given probability."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from results.check.confirm import PAIRS, confirmed_many
from results.check.noise import Noise
from results.check.screen import MAD_TO_SIGMA, Rule, null_sums

__all__ = ["POWER", "Check", "found", "visible"]

POWER = 0.95
DRAWS = 4000  # at 95% a share of them has a standard error of 0.3%
FINEST = 0.0005  # of a worsening, a fraction; the figure is shown to a tenth of a percent
LARGEST = 0.9


class Check:
    """Simulated checks of one metric of one cell, always of the same draws, so that more noise is never less.

    Args:
        noise: of the metric.
        candidates, baseline: how many runs of each.
        floor: of the metric.
        rule: of the screen.
        higher: whether higher values are better.
        confirmed: whether pairs confirm what the screen flags.
        absolute: whether changes are differences in the metric's unit, of which `noise.between` is one.
    """

    def __init__(
        self, noise: Noise, candidates: int, baseline: int, *, floor: float, rule: Rule, higher: bool,
        confirmed: bool = True, absolute: bool = False,
    ) -> None:  # fmt: skip
        draw = np.random.default_rng(0)
        self.higher, self.absolute, self.confirmed = higher, absolute, confirmed
        if absolute:
            self.candidates = noise.draw(draw, (DRAWS, candidates), noise.between)
            reference = noise.draw(draw, (DRAWS, baseline), noise.between)
        else:
            # A slow allocation is slow whichever way the metric counts: a higher time or a lower rate.
            self.candidates = noise.allocations(draw, (DRAWS, candidates))
            reference = noise.allocations(draw, (DRAWS, baseline))
            if not higher:
                self.candidates, reference = 1 / self.candidates, 1 / reference
            self.pairs = noise.ratios(draw, (DRAWS, PAIRS))
        self.reference = reference
        self.middle = np.median(reference, axis=1)
        spread = MAD_TO_SIGMA * np.median(np.abs(reference - self.middle[:, None]), axis=1)
        scale = 1.0 if absolute else self.middle
        self.scale = scale
        self.limit = np.maximum(floor, rule.deviations * spread / scale)
        self.least_above = least_pairs_above(candidates, baseline, rule.level)

    def found(self, worsening: float) -> NDArray[np.bool_]:
        """Return in which of the draws a true worsening is found.

        Args:
            worsening: a fraction, or in the metric's unit where that is absolute.
        """
        sign = -1 if self.higher else 1
        moved = self.candidates + sign * worsening if self.absolute else self.candidates * (1 + sign * worsening)
        median = sign * (np.median(moved, axis=1) - self.middle) / self.scale
        above = (sign * moved[:, :, None] > sign * self.reference[:, None, :]).sum(axis=(1, 2))
        flagged = (above >= self.least_above) & (median > self.limit)
        if not self.confirmed:
            return flagged
        return flagged & confirmed_many(sign * (self.pairs * (1 + sign * worsening) - 1))


@lru_cache(maxsize=256)
def least_pairs_above(candidates: int, baseline: int, level: float) -> int:
    """Return how many of the pairs of a candidate and a run of the baseline must be worse for p to be below a level.

    One more than there are pairs where no number will do.
    """
    ways = null_sums(np.arange(1, candidates + baseline + 1), candidates)
    tail = np.cumsum(ways[::-1])[::-1] / ways.sum()  # P(sum of ranks >= s)
    reached = np.flatnonzero(tail < level)
    lowest = candidates * (candidates + 1) // 2
    return int(reached[0]) - lowest if len(reached) else candidates * baseline + 1


def found(check: Check, worsening: float) -> float:
    """Return the share of checks that find a true worsening."""
    return float(check.found(worsening).mean())


@lru_cache(maxsize=4096)
def visible(
    noise: Noise, candidates: int, baseline: int, *, floor: float, rule: Rule, higher: bool,
    confirmed: bool = True, absolute: bool = False,
) -> float | None:  # fmt: skip
    """Return the least worsening that is found with probability `POWER`; see `Check` for the arguments.

    Returns:
        A fraction, or in the metric's unit where that is absolute, to within `FINEST`; None where not even
        `LARGEST` is found.
    """
    check = Check(
        noise, candidates, baseline, floor=floor, rule=rule, higher=higher, confirmed=confirmed, absolute=absolute
    )
    low, high = 0.0, LARGEST
    if found(check, high) < POWER:
        return None
    while high - low > FINEST:
        middle = (low + high) / 2
        low, high = (low, middle) if found(check, middle) >= POWER else (middle, high)
    return high
