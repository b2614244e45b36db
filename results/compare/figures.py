"""The figures of a cell on both sides: medians, their ratio and its interval, and why there is none."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.check.runs import Kernel, Run
from results.statistics import Interval, median, ratio_interval
from results.store.schema import Row

__all__ = ["FIGURES", "Figure", "Samples", "figures", "kernel_figures"]

# Columns of `runs`; their names say their units, and those without one are fractions, images/s and epochs.
FIGURES = (
    "images_per_s", "step_ms_p50", "step_ms_p95", "data_wait_frac", "tta_s", "epochs_to_target", "final_top1",
    "best_top1", "mfu", "peak_mem_bytes", "energy_j",
)  # fmt: skip
TO_TARGET = ("tta_s", "epochs_to_target")  # a run that has not reached its target has a larger one than all that have
NOT_REACHED = "target not reached"


@dataclass
class Samples:
    """A figure of the runs of one side.

    Attributes:
        values: of the runs that have it; inf where a target was not reached.
        run_ids: of those, in the same order.
        reasons: why others have none, by reason the number of runs.
    """

    values: list[float] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, run_id: str, value: float | None, reason: str) -> None:
        """Add a run's value, or the reason why it has none."""
        if value is None:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        else:
            self.values.append(value)
            self.run_ids.append(run_id)

    @property
    def median(self) -> float | None:
        """Of the runs that have a value; inf where half of them have not reached their target, None without any."""
        ordered = sorted(self.values)
        if not ordered:
            return None
        middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
        return median(self.values) if all(map(math.isfinite, ordered)) else sum(middle) / len(middle)

    @property
    def not_reached(self) -> int:
        return sum(map(math.isinf, self.values))


@dataclass(frozen=True)
class Figure:
    """A figure on both sides.

    Attributes:
        name: its column.
        kernel: of a micro run, which.
        a, b: samples.
        ratio: B / A; None where there is none.
        note: what else there is to know, such as why there is no ratio or no interval; "" for nothing.
    """

    name: str
    kernel: Kernel | None
    a: Samples
    b: Samples
    ratio: Interval | None
    note: str


def figures(a: Sequence[Run], b: Sequence[Run]) -> list[Figure]:
    """Compare each figure of `runs` that either side has, of runs of one cell.

    Args:
        a, b: completed runs.
    """
    return [_figure(name, None, _of_runs(name, a), _of_runs(name, b)) for name in FIGURES]


def kernel_figures(a: Sequence[Run], b: Sequence[Run], timed: Mapping[str, Mapping[Kernel, Row]]) -> list[Figure]:
    """Compare each kernel that either side timed, of micro runs of one cell.

    Args:
        a, b: completed runs.
        timed: by run, the rows of `kernels`.
    """
    kernels = sorted({kernel for run in (*a, *b) for kernel in timed.get(run.run_id, {})})
    return [_figure("p50", kernel, _of_kernel(kernel, a, timed), _of_kernel(kernel, b, timed)) for kernel in kernels]


def _of_runs(name: str, runs: Sequence[Run]) -> Samples:
    found = Samples()
    for run in runs:
        reason = (run.row["null_reasons"] or {}).get(name)
        if name in TO_TARGET and run.row[name] is None and run.row["target_top1"] is not None and _trained(run):
            found.add(run.run_id, math.inf, "")
        else:
            found.add(run.run_id, *_usable(name, run.row[name], reason))
    return found


def _trained(run: Run) -> bool:
    """Whether it measured its accuracy, so that a target that it has not reached is no gap in its row."""
    return run.row["final_top1"] is not None and math.isfinite(run.row["final_top1"])


def _of_kernel(kernel: Kernel, runs: Sequence[Run], timed: Mapping[str, Mapping[Kernel, Row]]) -> Samples:
    found = Samples()
    for run in runs:
        row = timed.get(run.run_id, {}).get(kernel)
        if row is None:
            found.add(run.run_id, None, "not timed")
        elif row["status"] not in (None, "ok"):
            found.add(run.run_id, None, str(row["status"]))
        else:
            found.add(run.run_id, *_usable("p50", row["p50"], None))
    return found


def _usable(name: str, value: Any, reason: str | None) -> tuple[float | None, str]:
    if value is None:
        return None, " ".join((reason or "no value, and no reason").split())
    if not math.isfinite(value) or value < 0:
        return None, f"{name} is {value:g}"
    return float(value), ""


def _figure(name: str, kernel: Kernel | None, a: Samples, b: Samples) -> Figure:
    lacking: dict[str, list[str]] = {}  # by reason, of which sides how many
    for side, samples in (("A", a), ("B", b)):
        total = len(samples.values) + sum(samples.reasons.values())
        for reason, count in (*samples.reasons.items(), (NOT_REACHED, samples.not_reached)):
            if count:
                lacking.setdefault(reason, []).append(f"{count} of {total} in {side}")
    notes = [f"{reason} ({', '.join(counts)})" for reason, counts in lacking.items()]
    ratio = None
    if a.values and b.values:
        ratio, why = _ratio(a, b)
        notes += [why] if why else []
    return Figure(name, kernel, a, b, ratio, "; ".join(notes))


def _ratio(a: Samples, b: Samples) -> tuple[Interval | None, str]:
    """The ratio, and what must be said of it."""
    ours, theirs = a.median, b.median
    assert ours is not None and theirs is not None
    if a.not_reached or b.not_reached:
        both = math.isfinite(ours) and math.isfinite(theirs) and ours > 0
        why = "ratio of medians, no interval" if both else "no ratio"
        return Interval(theirs / ours, None, None, None) if both else None, why
    if min(a.values) == 0:
        return None, "no ratio to 0"
    if shared := set(a.run_ids) & set(b.run_ids):
        return Interval(theirs / ours, None, None, None), f"no interval: {len(shared)} on both sides"
    found = ratio_interval(a.values, b.values)
    return found, "one against one: no interval" if found.level is None else ""
