"""The screen: whether some runs look worse than those of a baseline, a run the unit.

An exact one-sided Mann-Whitney test and an effect floor, both. Steps within a run are no sample of anything: they share
what their run had (see `docs/results.md`).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "LEAST_RUNS", "LEVEL", "MAD_TO_SIGMA", "Rule", "SOLE", "SUSPECT", "Screen", "least_baseline",
    "disagree", "mad", "null_sums", "p_value", "screen", "screen_many",
]  # fmt: skip

LEAST_RUNS = 3  # candidates, in separate allocations
MOST_RUNS = 20  # of a side, the last; more would only make a test of what differs by next to nothing
LEVEL = 0.05
MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Rule:
    """What it takes to say that runs are worse.

    Attributes:
        level: p must be below it.
        deviations: standard deviations of the baseline, by `mad`, that the median must have moved by.
        whole: whether values may be whole numbers, of which `mad` says little (0, or one and a half): the deviation is
            then no more than the ordinary one.
    """

    level: float
    deviations: float
    whole: bool = False

    def spread(self, values: Sequence[float]) -> float:
        """Return by how much a median must have moved from these, in their unit."""
        deviation = mad(values)
        return self.deviations * (min(deviation, float(np.std(values, ddof=1))) if self.whole else deviation)


SUSPECT = Rule(level=LEVEL, deviations=1.0)  # pairs confirm it or not
SOLE = Rule(level=0.01, deviations=3.0, whole=True)  # nothing confirms it afterwards


@dataclass(frozen=True)
class Screen:
    """What the screen says of one metric of one cell.

    Attributes:
        p: that runs like the baseline's would look at least as bad.
        worsening: of the median, as a fraction of the baseline's (or in its unit).
        floor: that `worsening` must be above.
        flagged: whether both say so.
    """

    p: float
    worsening: float
    floor: float
    flagged: bool


def least_p(candidates: int, baseline: int) -> float:
    """Return the least p that so many runs can reach: that of all candidates being worse than all of the baseline."""
    return 1 / math.comb(candidates + baseline, candidates)


def least_baseline(candidates: int, rule: Rule = SUSPECT) -> int:
    """Return how many runs a baseline needs for so many candidates (at least 1) to reach a level."""
    count = 1
    while least_p(candidates, count) >= rule.level:
        count += 1
    return count


def mad(values: NDArray[np.float64] | Sequence[float]) -> float:
    """Return the median absolute deviation from the median, times `MAD_TO_SIGMA`."""
    numbers = np.asarray(values)
    return float(MAD_TO_SIGMA * np.median(np.abs(numbers - np.median(numbers))))


def p_value(candidates: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the exact one-sided p of Mann-Whitney's test that candidates are larger.

    Args:
        candidates, baseline: finite or inf; where some are equal the distribution is that of these very values.
    """
    # Ranks, so that an infinite value is no more than the largest.
    ranks = stats.rankdata(np.concatenate([candidates, baseline]).astype(float))
    count = len(candidates)
    if len(np.unique(ranks)) == len(ranks):
        return float(stats.mannwhitneyu(ranks[:count], ranks[count:], alternative="greater", method="exact").pvalue)
    # scipy enumerates the choices where values are equal, which takes half a second for 5 among 25; to count how many
    # have which sum takes a millisecond. Twice the ranks, since that of equal values may be a half.
    doubled = np.rint(2 * ranks).astype(int)
    ways = null_sums(doubled, count)
    return float(ways[doubled[:count].sum() :].sum() / ways.sum())


def null_sums(ranks: NDArray[np.int_], count: int) -> NDArray[np.float64]:
    """Return how many choices of `count` of these ranks, whole and positive, have each sum; index is the sum."""
    ways = np.zeros((count + 1, int(ranks.sum()) + 1))  # [chosen, sum]
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    return ways[count]


def screen(
    candidates: Sequence[float], baseline: Sequence[float], *, floor: float, rule: Rule, absolute: bool = False
) -> Screen:
    """Compare runs with a baseline; larger values are worse.

    Args:
        candidates, baseline: a value a run, finite or inf; the baseline has two that are finite or more, and its
            median is.
        floor: least worsening that counts, a fraction or, where `absolute`, in the unit of the values.
        rule: level, and deviations of the baseline that count.
    """
    middle = statistics.median(baseline)
    moved = statistics.median(candidates) - middle
    spread = rule.spread([value for value in baseline if math.isfinite(value)])
    scale = 1.0 if absolute else abs(middle)
    limit = max(floor, spread / scale)
    p = p_value(candidates, baseline)
    return Screen(p=p, worsening=moved / scale, floor=limit, flagged=p < rule.level and moved / scale > limit)


def disagree(said: Screen, visible: float | None, rule: Rule) -> bool:
    """Return whether a median is worse by more than would have been found with near certainty, and yet p is high.

    That happens where some runs are far worse and the others are not: too few to be sure of, too many to pass.

    Args:
        said: by the screen.
        visible: the least worsening that would have been found, see `results.check.power`; None where none would: what
            is beyond the screen's own floor is then as much as can be said.
        rule: of the screen.
    """
    return said.worsening > (said.floor if visible is None else visible) and said.p >= rule.level


def screen_many(
    candidates: NDArray[np.float64], baselines: NDArray[np.float64], *, floor: float, rule: Rule = SUSPECT
) -> NDArray[np.bool_]:
    """Return which of many cells the screen flags; `screen` is the call for one.

    Args:
        candidates: [cells, runs], larger is worse, all positive or all negative, without equal values.
        baselines: [cells, runs].
        floor: least worsening that counts, a fraction.
    """
    middle = np.median(baselines, axis=1)
    spread = MAD_TO_SIGMA * np.median(np.abs(baselines - middle[:, None]), axis=1)
    worse = (np.median(candidates, axis=1) - middle) / np.abs(middle)
    p = stats.mannwhitneyu(candidates, baselines, alternative="greater", method="exact", axis=1).pvalue
    return (p < rule.level) & (worse > np.maximum(floor, rule.deviations * spread / np.abs(middle)))
