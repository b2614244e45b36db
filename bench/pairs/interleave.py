"""Runs pairs in turn (a b, b a, a b, ...) until it is settled, after each pair, what they say."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from results.check.confirm import LEAST_MEDIAN, PAIRS, Confirmation, confirm
from results.store.schema import Row
from results.words import ConfigError

# Figures of a row of `runs` that pairs can be held against, and whether more is better.
METRICS = {
    "images_per_s": True,
    "step_ms_p50": False,
    "step_ms_p95": False,
    "tta_s": False,
    "final_top1": True,
    "best_top1": True,
    "mfu": True,
    "peak_mem_bytes": False,
    "energy_j": False,
}


class NotMeasured(ConfigError):
    """A run completed without the figure that is asked for."""


@dataclass(frozen=True)
class Run:
    """One side of a pair, run.

    Attributes:
        value: of the metric.
        row: of `runs`.
    """

    side: str
    value: float
    row: Row


@dataclass(frozen=True)
class Pair:
    """Two runs of one seed, in the order in which they went; `change` is how much worse b is, as a fraction of a."""

    number: int
    seed: int
    runs: tuple[Run, Run]
    change: float

    def value(self, side: str) -> float:
        """The metric of a side."""
        return next(run.value for run in self.runs if run.side == side)


def order(number: int) -> str:
    """Which side runs first in a pair, from 1: turned from pair to pair, so that a steady drift falls on both alike."""
    return "ab" if number % 2 else "ba"


def figure(row: Row, metric: str) -> float:
    """Return a metric of a row of `runs`.

    Raises:
        NotMeasured: it is null, or no number that another can be a fraction of; one line.
    """
    value = row.get(metric)
    if value is None:
        reason = (row.get("null_reasons") or {}).get(metric) or "the row gives no reason"
        raise NotMeasured(f"metric={metric}: run {row['run_id']} has none: {' '.join(reason.split())}")
    if not (math.isfinite(value) and value > 0):
        raise NotMeasured(f"metric={metric}: run {row['run_id']} has {value:g}; a change from it is no fraction")
    return float(value)


def change(metric: str, a: float, b: float) -> float:
    """Return how much worse `b` is than `a`, as a fraction of `a`; negative where it is better."""
    return (a - b) / a if METRICS[metric] else (b - a) / a


def run_pairs(metric: str, seed: int, run: Callable[[str, int, int, int], Run]) -> Iterator[tuple[Pair, Confirmation]]:
    """Run pairs until they are settled.

    Args:
        metric: one of `METRICS`.
        seed: of the first pair; it counts up from pair to pair.
        run: runs a side of a pair: takes the side, the pair's number, its position in it (1 or 2) and its seed.

    Returns:
        Each pair as it ends, with what all so far say.
    """
    changes: list[float] = []
    for number in range(1, PAIRS + 1):
        sides = enumerate(order(number), start=1)
        first, second = (run(side, number, position, seed + number - 1) for position, side in sides)
        values = {each.side: each.value for each in (first, second)}
        changes.append(change(metric, values["a"], values["b"]))
        said = confirm(changes)
        yield Pair(number, seed + number - 1, (first, second), changes[-1]), said
        if said.outcome != "open":
            return


def why(pairs: Sequence[Pair], said: Confirmation) -> str:
    """Why no further pair is run, in words."""
    last = pairs[-1]
    if last.change == 0:
        return f"pair {last.number} differs by nothing"
    if (last.change > 0) != (pairs[0].change > 0):
        return f"pair {last.number} goes the other way than the first, so not all will go one way"
    beyond = "no more than" if said.outcome == "same" else "more than"
    return f"all {PAIRS} pairs go one way, in the median by {beyond} {LEAST_MEDIAN:.0%}"
