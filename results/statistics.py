"""What is said of samples: median, quartiles, percentiles, means over repeats and paired ratios.

Needs numpy at most, so that it serves the benchmarks of a bare GPU machine too. `import statistics` is the standard
library's, here and everywhere: this folder is never on `sys.path`.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 4000


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


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Ratio of two things that were measured in turn, round by round.

    scipy has this bootstrap, but a bare GPU machine has no scipy: a test compares the two.

    Raises:
        ValueError: no rounds, not as many of the one as of the other, a value that is not finite, or a zero to divide
            by.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"pairs: {len(numerators)} numerators for {len(denominators)} denominators")
    _check(numerators, "pairs")
    _check(denominators, "pairs")
    if 0 in denominators:
        raise ValueError(f"pairs: denominator {list(denominators).index(0) + 1} of {len(denominators)} is 0")
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    # Always the same draws: the same samples give the same figures, whenever and wherever they are read.
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return Ratio(statistics.median(ratios), medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES) - 1])
