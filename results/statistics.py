"""What is said of samples: median, quartiles, percentiles, means over repeats, paired and unpaired ratios.

Needs numpy at most, so that it serves the benchmarks of a bare GPU machine too. `import statistics` is the standard
library's, here and everywhere: this folder is never on `sys.path`.
"""

import bisect
import functools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 4000
EXACT_STEPS = 4_000_000  # of whole numbers, half a second: beyond, the distribution of U is taken to be normal
MOST_PAIRS = 4_000_000  # that are laid out in memory


def _check(samples: Sequence[float], name: str = "samples") -> None:
    """Raise where there is no sample, or one that every figure made of it would silently carry on."""
    if not len(samples):
        raise ValueError(f"{name}: there are none; at least one is needed")
    for index, sample in enumerate(samples):
        if not math.isfinite(sample):
            raise ValueError(f"{name}: number {index + 1} of {len(samples)} is {sample}, not a finite number")


def percentile(samples: Sequence[float], fraction: float) -> float:
    """The `fraction` quantile, by linear interpolation between the closest ranks (numpy's default, type 7 of R).

    Args:
        fraction: from 0 (the least sample) to 1 (the largest).

    Raises:
        ValueError: no samples, one that is not finite, or a fraction outside 0 to 1.
    """
    _check(samples)
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction}: expected 0 to 1")
    import numpy as np

    return float(np.quantile(samples, fraction))


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two middle ones.

    Raises:
        ValueError: no samples, or one that is not finite.
    """
    _check(samples)
    return float(statistics.median(samples))


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; see `percentile`."""
    return percentile(samples, 0.25), median(samples), percentile(samples, 0.75)


def spread(samples: Sequence[float], digits: int = 2) -> str:
    """Text of the form "median (lower quartile-upper quartile)".

    Args:
        digits: after the decimal point.
    """
    low, middle, high = quartiles(samples)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


@dataclass(frozen=True)
class Mean:
    """An average with its sample standard deviation.

    Attributes:
        deviation: with n - 1; None of a single sample.
        count: samples that are averaged.
    """

    mean: float
    deviation: float | None
    count: int


def mean_of(samples: Sequence[float]) -> Mean:
    """The mean of all samples.

    Raises:
        ValueError: no samples, or one that is not finite.
    """
    _check(samples)
    deviation = statistics.stdev(samples) if len(samples) > 1 else None
    return Mean(statistics.fmean(samples), deviation, len(samples))


LEAST_RUNS = 5  # from which on the fastest and the slowest are dropped
MOST_NOT_CONVERGED = 5  # one run in so many


@dataclass(frozen=True)
class RunSummary:
    """Times to accuracy of repeats of one configuration, summarised as MLPerf Training does.

    Attributes:
        time: mean over the runs that are averaged; None where there is none.
        averaged: indices of those runs among the times, the fastest first.
        dropped: runs left out for being the fastest or the slowest; those that did not converge count as slowest.
        why: the reason why there is no mean, one line; empty where there is one.
    """

    time: Mean | None
    averaged: tuple[int, ...]
    dropped: int
    why: str


def summary_of_runs(seconds: Sequence[float], not_converged: int = 0) -> RunSummary:
    """Summarise times to accuracy by the rule of MLPerf Training.

    Of five or more runs the fastest and the slowest are dropped and the others averaged; a run that did not converge
    is the slowest. More than one in five of those, of any number of runs, and there is no mean. Where ten runs or more
    have several of them, all are dropped, and as many of the fastest. Fewer than five runs are all averaged.

    https://github.com/mlcommons/training_policies/blob/master/training_rules.adoc

    Args:
        seconds: of the runs that converged.
        not_converged: how many others there were.

    Raises:
        ValueError: a time that is not finite, or a negative number of runs.
    """
    if not_converged < 0:
        raise ValueError(f"not_converged={not_converged}: expected 0 or more")
    runs = len(seconds) + not_converged
    if MOST_NOT_CONVERGED * not_converged > runs:
        return RunSummary(None, (), 0, f"{not_converged} of {runs} runs did not converge, more than one in five")
    if not runs:
        return RunSummary(None, (), 0, "no run with a target has ended")
    _check(seconds, "seconds")
    ends = max(1, not_converged) if runs >= LEAST_RUNS else 0
    order = sorted(range(len(seconds)), key=lambda index: seconds[index])
    averaged = tuple(order[ends : len(order) - (ends - not_converged)])
    return RunSummary(mean_of([seconds[index] for index in averaged]), averaged, runs - len(averaged), "")


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios with a 95% interval (percentile bootstrap over the pairs)."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _check_pairs(numerators: Sequence[float], denominators: Sequence[float]) -> None:
    if len(numerators) != len(denominators):
        raise ValueError(f"pairs: {len(numerators)} numerators for {len(denominators)} denominators")
    _check(numerators, "pairs")
    _check(denominators, "pairs")
    if 0 in denominators:
        raise ValueError(f"pairs: denominator {list(denominators).index(0) + 1} of {len(denominators)} is 0")


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Ratio of two things that were measured in turn, round by round.

    scipy has this bootstrap, but a bare GPU machine has no scipy: a test compares the two.

    Raises:
        ValueError: no rounds, not as many of the one as of the other, a value that is not finite, or a zero to divide
            by.
    """
    _check_pairs(numerators, denominators)
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    # Always the same draws: the same samples give the same figures, whenever and wherever they are read.
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return Ratio(statistics.median(ratios), medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES) - 1])


@dataclass(frozen=True)
class Interval:
    """Ratio of two groups of unpaired samples, with the interval that their numbers allow.

    Attributes:
        ratio: the Hodges-Lehmann estimate, the median of the ratios of all pairs.
        low, high: None where there can be no interval.
        level: how often such an interval holds the true ratio: what was asked for or a little more, or less where there
            are too few samples for that. None where there is no interval.
    """

    ratio: float
    low: float | None
    high: float | None
    level: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None or self.level is None:
            return f"{self.ratio:.3f} (one against one: no interval)"
        # Rounded down: no more is claimed than there is.
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] {math.floor(1e3 * self.level + 1e-9) / 10:g}%"


def median_interval(numerators: Sequence[float], denominators: Sequence[float], level: float = 0.95) -> Interval:
    """Median of paired ratios, with the interval that their number allows.

    It lies between two of the ordered ratios (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3.6).
    The least and the largest of n hold the true median with 1 - 2^(1 - n): six are needed for 95%, and one has none.

    Args:
        numerators, denominators: of the pairs, in one order.
        level: that is wanted, between 0 and 1.

    Raises:
        ValueError: as `paired_ratio`.
    """
    _check_pairs(numerators, denominators)
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    count, inwards, tail = len(ratios), 0, 0.5 ** len(ratios)
    while tail + (step := math.comb(count, inwards + 1) * 0.5**count) <= (1 - level) / 2 + 1e-12:
        inwards, tail = inwards + 1, tail + step
    if count == 1:
        return Interval(ratios[0], None, None, None)
    return Interval(statistics.median(ratios), ratios[inwards], ratios[-1 - inwards], 1 - 2 * tail)


def ratio_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Ratio b / a of two groups that were not measured in turn, by the order of their samples alone.

    The interval lies between two of the ordered ratios of all pairs, and holds just those ratios that a two-sided exact
    Mann-Whitney test does not reject (Moses; Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 4.3, on
    logarithms). Three against three reach 90% at most, four against four 97.1%; one against one have no interval.

    Args:
        a, b: unpaired samples, in any order and number.
        level: that is wanted, between 0 and 1.

    Raises:
        ValueError: no samples, one that is not finite or is negative, one of `a` that is 0, or a level out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}: expected a fraction between 0 and 1")
    for name, samples in (("a", a), ("b", b)):
        _check(samples, name)
        for index, sample in enumerate(samples):
            if sample < 0 or (sample == 0 and name == "a"):
                least = "above 0" if name == "a" else "at least 0"
                raise ValueError(f"{name}: number {index + 1} of {len(samples)} is {sample}; a ratio needs {least}")
    pairs = len(a) * len(b)
    inwards, reached = _bounds(len(a), len(b), level)
    low, before, after, high = _ordered_ratios(a, b, [inwards, (pairs - 1) // 2, pairs // 2, pairs - 1 - inwards])
    if reached <= 0:
        return Interval((before + after) / 2, None, None, None)
    return Interval((before + after) / 2, low, high, reached)


def _bounds(m: int, n: int, level: float) -> tuple[int, float]:
    """Return at which of the ordered ratios, from either end, an interval ends, and its level."""
    if min(m, n) * m * n <= EXACT_STEPS:
        tails = u_tails(m, n)
        # The outermost ratios bound the widest interval; each step inwards costs what U has there.
        inwards = max(0, bisect.bisect_right(tails, (1 - level) / 2 + 1e-12) - 1)
        return inwards, 1 - 2 * tails[inwards]
    normal = statistics.NormalDist(m * n / 2, math.sqrt(m * n * (m + n + 1) / 12))
    inwards = max(0, math.floor(normal.inv_cdf((1 - level) / 2) - 0.5))
    return inwards, 1 - 2 * normal.cdf(inwards + 0.5)


@functools.lru_cache(maxsize=1000)
def u_tails(m: int, n: int) -> list[float]:
    """Return the chance of U <= u, where nothing differs, for u = 0 to m * n // 2, where the lower half ends.

    U, of Mann and Whitney, is the number of pairs of m and n samples in which that of the first group is the larger.
    Its counts are the coefficients of the Gaussian binomial, prod (1 - q^(n+i)) / (1 - q^i) for i = 1 to m.

    Args:
        m, n: samples of the two groups, at least 1 each.
    """
    few, many = sorted((m, n))
    half = few * many // 2
    counts = [1] + [0] * half
    for i in range(1, few + 1):
        for u in range(half, many + i - 1, -1):
            counts[u] -= counts[u - many - i]
        for u in range(i, half + 1):
            counts[u] += counts[u - i]
    arrangements, below, tails = math.comb(few + many, few), 0, []
    for count in counts:
        below += count
        tails.append(below / arrangements)
    return tails


def _ordered_ratios(a: Sequence[float], b: Sequence[float], ranks: Sequence[int]) -> list[float]:
    """Return the ratios of all pairs, b / a, at these ranks (0 is the least)."""
    import numpy as np

    below, above = np.sort(np.asarray(a, np.float64)), np.sort(np.asarray(b, np.float64))
    if below.size * above.size <= MOST_PAIRS:
        ratios = np.divide.outer(above, below).ravel()
        ratios.partition(sorted(set(ranks)))
        return [float(ratios[rank]) for rank in ranks]
    return [_bisect_ratio(below, above, rank) for rank in ranks]


def _bisect_ratio(below: "NDArray[np.float64]", above: "NDArray[np.float64]", rank: int) -> float:
    """Return one of the ordered ratios without laying out all of them; `below` and `above` are sorted."""
    low, high = float(above[0] / below[-1]), float(above[-1] / below[0])
    while low < (middle := (low + high) / 2) < high and high - low > 1e-15 * high:
        if above.searchsorted(middle * below, side="right").sum() > rank:
            high = middle
        else:
            low = middle
    return high
