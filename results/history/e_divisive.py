"""Change points of a series by E-divisive (Matteson and James 2014), for its history alone and never for a verdict.

Matteson and James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data", JASA 109 (2014),
with alpha = 1 and one value a point. A series is bisected where the energy statistic of the two sides is largest, then
the segments in turn, until a permutation test within the segments does not find the next point significant.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SEGMENT", "PERMUTATIONS", "change_points"]

PERMUTATIONS = 199
LEAST_SEGMENT = 3  # points: the runs of one night of the check
ENOUGH = 2_000_000  # numbers of a batch of permutations: 16 MB an array

Values = NDArray[np.float64]


def change_points(
    series: Sequence[float] | Values,
    *,
    level: float = 0.05,
    permutations: int = PERMUTATIONS,
    least_segment: int = LEAST_SEGMENT,
    seed: int = 0,
) -> list[int]:
    """Find where the distribution of a series changes.

    Args:
        series: [n] points in the order of time; fewer than two least segments have no change points.
        level: chance at most of finding any in a series that does not change, its points being exchangeable.
        permutations: of each test; at least 1 / level - 1.
        least_segment: points, at least 2.
        seed: of the permutations: the same series has the same change points.

    Returns:
        Index of the first point after each change, sorted.

    Raises:
        ValueError: a point is not finite, or an argument out of range.
    """
    values = np.asarray(series, np.float64)
    if values.ndim != 1:
        raise ValueError(f"series: expected one dimension, got {values.ndim}")
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"series: number {first + 1} of {len(values)} is {values[first]}, not a finite number")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: expected a fraction between 0 and 1")
    if permutations < 1 / level - 1 - 1e-9:
        raise ValueError(f"permutations={permutations}: {math.ceil(1 / level - 1 - 1e-9)} or more reach level={level}")
    if least_segment < 2:
        raise ValueError(f"least_segment={least_segment}: expected 2 or more")
    draw = np.random.default_rng(seed)
    bounds = [0, len(values)]
    while True:
        splits = [_best_splits(values[None, start:stop], least_segment) for start, stop in pairwise(bounds)]
        energies = [float(energy[0]) for energy, _ in splits]
        best = int(np.argmax(energies))
        if not energies[best] > 0 or not _significant(
            values, bounds, energies[best], level, permutations, least_segment, draw
        ):
            return bounds[1:-1]
        bounds = sorted([*bounds, bounds[best] + int(splits[best][1][0])])


def _best_splits(series: Values, least: int) -> tuple[Values, NDArray[np.intp]]:
    """Return the largest energy statistic of each series, and after how many points its split is.

    Args:
        series: [count, n]. Its left side is all points before the split, its right side those up to another point, the
            best too: what comes after a second change would hide the first.

    Returns:
        [count] each; -inf and 0 where n is less than two least segments.
    """
    count, n = series.shape
    if n < 2 * least:
        return np.full(count, -np.inf), np.zeros(count, np.intp)
    # Sums of distances over leading rows and columns give those within and between any two neighbouring segments.
    sums = np.abs(series[:, :, None] - series[:, None, :]).cumsum(axis=1).cumsum(axis=2)
    split, stop = np.triu_indices(n, k=least)
    keep = split >= least - 1  # indices of the last points of either side
    split, stop = split[keep], stop[keep]
    left, right = split + 1.0, stop - split + 0.0  # points
    before, both, upto = sums[:, split, split], sums[:, split, stop], sums[:, stop, stop]
    between = (both - before) * (2 / (left * right))
    within = before / (left * (left - 1)) + (upto - 2 * both + before) / (right * (right - 1))
    energy = (between - within) * (left * right / (left + right))
    best = energy.argmax(axis=1)
    return energy[np.arange(count), best], split[best] + 1


def _significant(
    values: Values,
    bounds: list[int],
    energy: float,
    level: float,
    permutations: int,
    least: int,
    draw: np.random.Generator,
) -> bool:
    """Whether permuting the points within their segments seldom gives so large a statistic.

    Stops once as many have given it as settle that it is not significant: the same answer as from all of them.
    """
    allowed = math.floor(level * (permutations + 1) + 1e-9) - 1  # p = (exceeded + 1) / (permutations + 1)
    longest = max(stop - start for start, stop in pairwise(bounds))
    batch = max(1, min(2 * allowed + 2, ENOUGH // longest**2))
    done = exceeded = 0
    while done < permutations:
        count = min(batch, permutations - done)
        largest = np.full(count, -np.inf)
        for start, stop in pairwise(bounds):
            shuffled = draw.permuted(np.broadcast_to(values[start:stop], (count, stop - start)), axis=1)
            np.maximum(largest, _best_splits(shuffled, least)[0], out=largest)
        # Sums in another order differ in their last digits.
        exceeded += int((largest >= energy * (1 - 1e-9)).sum())
        done += count
        if exceeded > allowed:
            return False
    return True
