"""What others would have said of the same nights: the rules of tools that compare benchmarks, one function each."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from results.calibrate.nights import Night
from results.history.e_divisive import change_points

__all__ = ["RULES", "Rule"]

Flags = NDArray[np.bool_]
Rule = Callable[[Night, float], Flags]
POINTS = 40  # of the series that change points are looked for in


def last_run(night: Night, drop: float) -> Flags:
    """Slower than the last run by more than 5%."""
    return night.runs[:, -1] * (1 - drop) < 0.95 * night.series[:, -1]


def mann_whitney(night: Night, drop: float) -> Flags:
    """One-sided Mann-Whitney at 0.05 alone."""
    runs = night.runs * (1 - drop)
    return stats.mannwhitneyu(runs, night.accepted, alternative="less", method="exact", axis=1).pvalue < 0.05


def students_t(night: Night, drop: float) -> Flags:
    """One-sided t-test of Welch at 0.05."""
    return (
        stats.ttest_ind(night.runs * (1 - drop), night.accepted, equal_var=False, alternative="less", axis=1).pvalue
        < 0.05
    )


def z_score(night: Night, drop: float) -> Flags:
    """A run that is more than 5 standard deviations below the mean of the last."""
    mean, deviation = night.accepted.mean(axis=1), night.accepted.std(axis=1, ddof=1)
    return ((mean - night.runs[:, -1] * (1 - drop)) / deviation) > 5


def e_divisive(night: Night, drop: float) -> Flags:
    """A change point among or just before tonight's runs, downwards (E-divisive)."""
    runs = night.runs * (1 - drop)
    series = np.concatenate([night.series, runs], axis=1)[:, -POINTS:]
    flags = np.zeros(len(series), dtype=bool)
    for cell, points in enumerate(series):
        found = change_points(points)
        recent = bool(found) and found[-1] >= len(points) - runs.shape[1] - 1
        flags[cell] = recent and points[found[-1] :].mean() < points[: found[-1]].mean()
    return flags


# What a rule is called, and every how many nights it is tried: change points take a thousand times as long.
RULES: dict[str, tuple[Rule, int]] = {
    "5% slower than the last run": (last_run, 1),
    "Mann-Whitney, p < 0.05": (mann_whitney, 1),
    "Welch's t, p < 0.05": (students_t, 1),
    "z > 5": (z_score, 1),
    "E-divisive": (e_divisive, 50),
}
