"""How much runs of one configuration differ: from allocation to allocation, and within one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.check.screen import mad

__all__ = ["LEAST_DEGREES", "Noise", "estimate"]

LEAST_DEGREES = 5  # of freedom, that of pairs: below it their spread says too little
LEAST_ORDINARY = 6  # values, of which one may be broken


@dataclass(frozen=True)
class Noise:
    """A model of how runs differ: log-normal between allocations and within one, and some slow allocations.

    Attributes:
        between: standard deviation of the logarithm from allocation to allocation, what is within one left out.
        within: likewise from run to run of one allocation.
        outliers: share of allocations that are slow, such as those with one throttled GPU.
        outlier_loss: by how much those are slower at most, a fraction; as likely by any less.
        degrees: of freedom of Student's t in place of the normal distribution; 0 for the normal one. The standard
            deviations are those given either way.
        known_within: whether `within` was measured; else it is an upper bound.
    """

    between: float
    within: float
    outliers: float = 0.05
    outlier_loss: float = 0.05
    degrees: float = 0.0
    known_within: bool = True

    @property
    def total(self) -> float:
        """Standard deviation of the logarithm of a run in an allocation of its own, slow ones left out."""
        return math.hypot(self.between, self.within)

    def draw(self, draw: np.random.Generator, shape: tuple[int, ...], deviation: float) -> NDArray[np.float64]:
        """Return centred deviations of the logarithm."""
        if not self.degrees:
            return deviation * draw.standard_normal(shape)
        scale = math.sqrt((self.degrees - 2) / self.degrees)  # to a standard deviation of 1
        return deviation * scale * draw.standard_t(self.degrees, shape)

    def allocations(self, draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return how fast runs are, each in an allocation of its own, where 1 is the typical one."""
        logs = self.draw(draw, shape, self.between) + self.draw(draw, shape, self.within)
        loss = np.where(draw.random(shape) < self.outliers, self.outlier_loss * draw.random(shape), 0.0)
        return np.exp(logs) * (1 - loss)

    def ratios(self, draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return ratios of two runs of one allocation that do not differ; what the allocation is like cancels."""
        return np.exp(self.draw(draw, shape, self.within) - self.draw(draw, shape, self.within))


def estimate(
    values: Sequence[float], pair_sets: Sequence[Sequence[float]] = (), *, absolute: bool = False, whole: bool = False,
    far: float = math.inf,
) -> Noise:  # fmt: skip
    """Estimate the noise of a metric from its history.

    Args:
        values: one for each allocation, finite; positive unless `absolute`.
        pair_sets: of each set of pairs, the ratio b / a of each pair, positive and finite. Where they have fewer than
            `LEAST_DEGREES` degrees of freedom, `within` is all of the noise there is, which makes what is said of the
            power a bound.
        absolute: whether the metric changes by differences: the noise is then in its unit, all of it between.
        whole: whether values may be whole numbers, of which `mad` says little: the noise is then no less than the
            ordinary deviation.
        far: change of the median, a fraction or the metric's unit, by which one value is off that is not counted with
            that deviation: what a single broken run did would hide what the others can show.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers if absolute else np.log(numbers)
    total = mad(numbers)
    if whole and len(numbers) > 1:
        total = max(total, _ordinary(numbers, far if absolute else math.log1p(far)))
    if absolute or whole:
        return Noise(between=total, within=0.0, outliers=0.0)
    # Each set around its own mean, since b may differ from a. A set that stopped early ended with a pair that went the
    # other way: that makes its deviation a little too large, never too small.
    sets = [np.log(np.asarray(one, dtype=float)) for one in pair_sets if len(one) > 1]
    degrees = sum(len(one) - 1 for one in sets)
    if degrees < LEAST_DEGREES:
        return Noise(between=0.0, within=total, known_within=False)
    within = math.sqrt(sum(float(((one - one.mean()) ** 2).sum()) for one in sets) / degrees / 2)
    return Noise(between=math.sqrt(max(0.0, total**2 - within**2)), within=within)


def _ordinary(numbers: NDArray[np.float64], far: float) -> float:
    """The standard deviation, without the one value that is off the median by more than `far`, if the rest is not."""
    off = np.abs(numbers - np.median(numbers))
    odd = (off > far).sum() == 1 and len(numbers) >= LEAST_ORDINARY
    return float(np.std(np.delete(numbers, off.argmax()) if odd else numbers, ddof=1))
