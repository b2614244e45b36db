"""What is checked of a run: each metric with its direction, its floor, and what it takes to call it worse."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["KERNEL", "METRICS", "RESUMED", "Metric", "Value", "of_benchmark", "value_of", "worsening"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a run.

    Attributes:
        name: the column that has it, of `runs`, or `p50` of `kernels`.
        unit: for people.
        better: which values are better; same where leaving the reference on either side is a fault.
        floor: change of the median below which nothing is said: a fraction of the reference, or, where `absolute`, in
            the metric's own unit.
        far: likewise, beyond which one run alone is broken: neither noise nor a slow allocation explains it.
        absolute: whether changes are differences, not fractions.
        timed: whether it depends on the allocation. Suspicions of such a metric need pairs to confirm them. Those of
            another do not gain by running side by side, and must be beyond doubt at once (see `results.check.screen`).
        most: that it can be.
        benchmarks: kinds of runs that have it.
    """

    name: str
    unit: str
    better: Literal["higher", "lower", "same"]
    floor: float
    far: float
    absolute: bool = False
    timed: bool = True
    most: float = 1e100  # of no measurement, and far from where a mean of two is infinite
    benchmarks: tuple[str, ...] = ("training",)

    @property
    def reaches_target(self) -> bool:
        """Whether a run that has not reached its target has the worst value of all."""
        return self.name in ("tta_s", "epochs_to_target")


# Where slow allocations lose up to a fifth, a run loses more than that in one night of five, and a quarter in none.
SLOW = 0.25
LONG = 1 / (1 - SLOW) - 1  # the same of a time
METRICS = (
    Metric(
        name="images_per_s", unit="images/s", better="higher", floor=0.02, far=SLOW, benchmarks=("training", "step")
    ),
    Metric(name="step_ms_p50", unit="ms", better="lower", floor=0.02, far=LONG, benchmarks=("training", "step")),
    Metric(name="tta_s", unit="s", better="lower", floor=0.02, far=LONG),
    # Reference convergence points of MLPerf fail what converges too fast as well: it was not the same training.
    Metric(name="epochs_to_target", unit="epochs", better="same", floor=0.2, far=0.6, timed=False),
    Metric(
        name="final_top1", unit="fraction", better="higher", floor=0.005, far=0.04, absolute=True, timed=False,
        most=1.0,
    ),
    Metric(
        name="peak_mem_bytes", unit="bytes", better="lower", floor=0.02, far=0.1, timed=False,
        benchmarks=("training", "step"),
    ),
)  # fmt: skip
RESUMED = "the run was resumed, and its clock has the pause"
KERNEL = Metric(name="p50", unit="us", better="lower", floor=0.02, far=LONG, benchmarks=("micro",))


@dataclass(frozen=True)
class Value:
    """A metric of one run.

    Attributes:
        number: in the metric's unit, inf where a target was not reached; None where there is none.
        reason: why there is none.
    """

    number: float | None
    reason: str = ""


def of_benchmark(benchmark: str) -> tuple[Metric, ...]:
    """Return the metrics of `runs` that a kind of run has."""
    return tuple(metric for metric in METRICS if benchmark in metric.benchmarks)


def value_of(metric: Metric, row: Mapping[str, Any]) -> Value:
    """Return a metric of a completed run.

    Args:
        row: of `runs`.
    """
    number = row.get(metric.name)
    if metric.name == "tta_s" and row.get("restart_count"):
        return Value(None, RESUMED)
    if number is None:
        # A run that never looked at its accuracy has not missed its target.
        if metric.reaches_target and row.get("target_top1") is not None and row.get("final_top1") is not None:
            return Value(math.inf)
        return Value(None, (row.get("null_reasons") or {}).get(metric.name) or "no value")
    if not math.isfinite(number):
        return Value(None, f"{metric.name} is {number}")
    if number < 0 or (number == 0 and not metric.absolute) or number > metric.most:
        return Value(None, f"{metric.name} is {number:g}, which none can be")
    return Value(float(number))


def worsening(metric: Metric, value: float, reference: float) -> float:
    """Return how much worse a value is than a reference: of the reference, or in the metric's unit where absolute.

    For a metric whose better is same, how much larger it is. Either may be inf, which stands for a target not reached.
    """
    if value == reference:
        return 0.0
    if math.isinf(reference):
        return -math.inf
    change = value - reference if metric.absolute else value / reference - 1
    return -change if metric.better == "higher" else change
