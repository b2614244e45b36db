"""Statistics of paired measurements."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 4000


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

    Raises:
        ValueError: no rounds, or not as many of the one as of the other.
    """
    if not numerators or len(numerators) != len(denominators):
        raise ValueError(f"pairs: {len(numerators)} numerators for {len(denominators)} denominators")
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return Ratio(statistics.median(ratios), medians[round(0.025 * RESAMPLES)], medians[round(0.975 * RESAMPLES) - 1])
