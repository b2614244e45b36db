"""Runs that spoil a figure of a cell: a median, of all or of those that are left, would not show it."""

import math
import statistics
from collections.abc import Sequence

from results.check.cells import Evidence, Samples, same_cell
from results.check.metrics import RESUMED, Metric, worsening
from results.check.runs import Run, kind_of
from results.check.screen import MOST_RUNS, Rule

__all__ = ["MOST_SPOILT", "any_far", "beside", "far_limit", "is_far", "lost", "spoils", "spoilt", "too_many"]

# More than this make what is left no fair sample, after MLPerf's rule for runs that do not converge.
MOST_SPOILT = 1 / 5
FAR_DEVIATIONS = 5.0  # of the baseline, that a run is off at least to be broken: cells differ in their noise


def too_many(count: int, runs: int) -> bool:
    """Return whether so many of some runs may not be spoilt."""
    return count > MOST_SPOILT * runs


def spoils(count: int, runs: int, before: int, accepted: int) -> bool:
    """Return whether so many spoilt runs are too many, and as many of the accepted ones are not so as a rule.

    Args:
        count: of `runs`, those that are spoilt.
        before: likewise, of `accepted`.
    """
    usual = too_many(before, accepted) and count / runs <= 2 * before / accepted
    return too_many(count, runs) and not usual


def is_far(metric: Metric, value: float, reference: float, limit: float) -> bool:
    """Return whether a run is worse than the reference by more than a limit; for what is to stay the same, off it."""
    change = worsening(metric, value, reference)
    return (abs(change) if metric.better == "same" else change) > limit


def beside(evidence: Evidence, run: Run) -> list[Run]:
    """Return the candidates of a run's cell and commit, itself among them."""
    return [one for one in evidence.candidates if one.commit == run.commit and same_cell(run, one)]


def lost(evidence: Evidence, run: Run) -> tuple[int, int]:
    """Return how many of the runs beside a run failed, and how many cannot be used.

    Of the latter only the kind is known: each may be of any cell and commit of that kind, so it counts in all of them.
    """
    failed = sum(one.failed for one in beside(evidence, run))
    return failed, sum(kind_of(run_id) == kind_of(run.run_id) for run_id in evidence.spoilt)


def far_limit(metric: Metric, baseline: Sequence[float], rule: Rule) -> float:
    """Return the worsening beyond which one run alone is broken: neither noise nor a slow allocation explains it.

    Args:
        baseline: values, whose median is finite.
        rule: of the screen.

    Returns:
        A fraction of the baseline's median, or in the metric's unit where that is absolute.
    """
    deviation = rule.spread([value for value in baseline if math.isfinite(value)]) / rule.deviations
    scale = 1.0 if metric.absolute else abs(statistics.median(baseline))
    return max(metric.far, FAR_DEVIATIONS * deviation / scale)


def any_far(metric: Metric, mine: Samples, theirs: Samples, rule: Rule) -> bool:
    """Return whether one run is broken by itself, or missed a target: too few to judge, and no night to pass over."""
    if not theirs.values or not math.isfinite(reference := statistics.median(theirs.values)):
        return False
    limit = far_limit(metric, theirs.values, rule)
    return any(is_far(metric, value, reference, limit) for value in mine.numbers.values())


def spoilt(
    evidence: Evidence, metric: Metric, runs: Sequence[Run], baseline: Sequence[Run], mine: Samples,
    theirs: Samples, rule: Rule,
) -> str:  # fmt: skip
    """Return that too many runs spoil a figure, in one line; empty where they do not, or the baseline's do as well.

    Such are runs that have no such figure, did not reach the target, or are far worse than the baseline's median. Those
    that failed or cannot be used add to them.

    Args:
        runs, baseline: completed ones, all that there are.
        mine, theirs: their values.
        rule: of the screen.
    """
    reference, limit = statistics.median(theirs.values), far_limit(metric, theirs.values, rule)

    def far_off(value: float) -> bool:
        return is_far(metric, value, reference, limit)

    far = {one: value for one, value in mine.numbers.items() if far_off(value) and math.isfinite(value)}
    without = {one: why for one, why in mine.without.items() if why != RESUMED}
    missed = sum(map(math.isinf, mine.numbers.values()))
    if not (far or without or missed):
        return ""
    failed, unusable = lost(evidence, runs[0])
    count = len(far) + len(without) + missed + failed + unusable
    of = len(mine.numbers) + len(without) + failed + unusable
    # Of the accepted runs as many as count, those without the figure among them.
    first = theirs.runs[0] if len(theirs.values) == MOST_RUNS else baseline[0].run_id
    accepted = [run.run_id for run in baseline if theirs.without.get(run.run_id) != RESUMED]
    accepted = accepted[accepted.index(first) if first in accepted else 0 :]
    before = sum(one in theirs.without or far_off(theirs.numbers[one]) for one in accepted)
    if not spoils(count, of, before, len(accepted)):
        return ""
    side = "from" if metric.better == "same" else "on the worse side of"
    reach = f"{limit:.3f}" if metric.absolute else f"{limit:.0%}"
    kinds = [
        (missed, "did not reach the target", ""),
        (len(far), f"lie more than {reach} {side} the baseline's median", next(iter(far), "")),
        (len(without), "have no figure", next((f"{why} ({one})" for one, why in without.items()), "")),
        (failed + unusable, "failed or cannot be used" if unusable else "failed", ""),
    ]
    there = [kind for kind in kinds if kind[0]]
    such = next((f": {example}" for _, _, example in there if example), "")
    if len(there) == 1:
        return f"{count} of {of} runs {there[0][1]}, more than one in five{such}"
    words = ", ".join(f"{number} {what}" for number, what, _ in there)
    return f"{count} of {of} runs spoil it, more than one in five ({words}){such}"
