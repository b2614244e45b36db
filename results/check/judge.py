"""From evidence to verdicts: each metric of each cell, against what was accepted and what was pinned."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from results.check.cells import Cell, Evidence, Samples, by_commit, cells_of, samples
from results.check.confirm import LEAST_MEDIAN, MOST_SETS, Confirmation, settle
from results.check.gaps import (
    begun_pairs,
    how_to_confirm,
    kernel_words,
    missing,
    not_measured,
    without_baseline,
    without_pairs_again,
)  # fmt: skip
from results.check.metrics import RESUMED, Metric, worsening
from results.check.noise import estimate
from results.check.power import statement, visible
from results.check.runs import PairSet, Run
from results.check.screen import LEAST_RUNS, MOST_RUNS, SOLE, SUSPECT, Screen, disagree, least_baseline, least_p, screen
from results.check.spoilt import any_far, beside, spoilt
from results.check.verdict import Finding, Verdict
from results.statistics import Interval, ratio_interval
from results.words import counted

__all__ = ["judge"]

MOST_CANDIDATES = 100  # allocations; the exact test of many more takes minutes


def judge(evidence: Evidence) -> list[Finding]:
    """Judge every cell that has candidates, those of each commit by themselves, and name those that have none.

    Returns:
        Findings in the order of the cells; none where there is neither a candidate nor a baseline.
    """
    completed = [run for run in evidence.candidates if run.completed]
    findings: list[Finding] = []
    compared: set[Cell] = set()
    strange: dict[str, Run] = {}
    for cell, runs in cells_of(evidence, completed).items():
        sets = {name: by_key.get(cell.key, []) for name, by_key in evidence.baselines.items()}
        if not any(sets.values()):
            if cell.key not in strange:  # all kernels of a run alike
                findings.append(without_baseline(cell, runs, evidence))
            strange[cell.key] = runs[-1]
            continue
        compared.add(cell)
        for against, baseline in sets.items():
            if baseline:
                for own, alike in by_commit(cell, runs):
                    findings += _judge_cell(own, alike, baseline, against, evidence)
            elif any(evidence.baselines[against].values()):
                evidence.faults.append(f"{cell.label}: nothing of it is {against}, so it is not held against that")
    findings += not_measured(evidence)
    return findings + missing(evidence, {run.shape for run in strange.values()}, compared)


def _judge_cell(
    cell: Cell, runs: Sequence[Run], baseline: Sequence[Run], against: str, evidence: Evidence
) -> list[Finding]:
    findings = []
    for metric in cell.metrics:
        mine = samples(evidence, metric, runs, cell.kernel)
        theirs = samples(evidence, metric, baseline, cell.kernel, MOST_RUNS)
        if not (mine.values or theirs.values) and (cell.kernel or metric is not cell.metrics[0]):
            # What neither side has: a time to a target where there is none, a kernel that cannot run here. What is
            # there, and no figure, is wrong.
            if not any(why.startswith(f"{metric.name} is ") for why in mine.without.values()):
                if broken := [f"{why} ({one})" for one, why in mine.without.items() if why.startswith("failed")]:
                    evidence.faults.append(
                        f"{cell.label} {kernel_words(cell)}: the baseline has none, and here {broken[0]}"
                    )
                continue
        findings.append(_judge_metric(cell, metric, mine, theirs, runs, baseline, against, evidence))
    return without_pairs_again(findings)


def _judge_metric(
    cell: Cell, metric: Metric, mine: Samples, theirs: Samples, runs: Sequence[Run], baseline: Sequence[Run],
    against: str, evidence: Evidence,
) -> Finding:  # fmt: skip
    facts: dict[str, Any] = {
        "cell": cell.label, "key": cell.key, "kernel": kernel_words(cell), "metric": metric.name, "unit": metric.unit,
        "against": against, "absolute": metric.absolute, "higher_is_better": metric.better == "higher",
        "candidates": mine.runs, "baseline": theirs.runs, "beside": [run.run_id for run in beside(evidence, runs[0])],
    }  # fmt: skip

    tail = ""

    def end(verdict: Verdict, why: str, **more: Any) -> Finding:
        return Finding(**facts, **more, verdict=verdict, why="; ".join(filter(None, (why, tail))))

    if mine.values:
        facts["candidate_median"] = statistics.median(mine.values)
    if theirs.values and not theirs.finite:
        facts["baseline_median"] = math.inf
        none = f"none of {counted(len(theirs.values), 'accepted run')} reached the target"
        return end(Verdict.PASS, f"{none}, so nothing can be worse")
    rule = SUSPECT if metric.timed else SOLE
    resumed = sum(reason == RESUMED for reason in mine.without.values())
    few = len(mine.values) < LEAST_RUNS <= len(mine.values) + resumed
    if few and not any_far(metric, mine, theirs, rule):
        evidence.faults.append(f"{cell.label}: {metric.name} is not judged, since {counted(resumed, 'run')} resumed")
        of = f"{resumed} of {len(mine.without) + len(mine.runs)} runs were resumed, and their clocks have the pause"
        return end(Verdict.PASS, f"not judged: {of}")
    if not mine.values:
        return end(Verdict.NOT_COMPARABLE, f"nothing measured: {_first_reason(mine)}")
    if not theirs.values:
        return end(Verdict.NOT_COMPARABLE, f"the baseline has no {metric.name}: {_first_reason(theirs)}")
    reference = statistics.median(theirs.values)
    facts |= {"baseline_median": reference, "worsening": worsening(metric, facts["candidate_median"], reference)}
    facts["interval"] = _interval(mine.values, theirs.values)
    count, size = len(mine.values), len(theirs.values)
    if count < LEAST_RUNS:
        there = "1 run" if count == 1 else f"runs of {count} allocations"
        return end(Verdict.INCONCLUSIVE, f"{there}; {LEAST_RUNS} in allocations of their own are needed{_others(mine)}")
    if count > MOST_CANDIDATES:
        why = f"runs of {count} allocations, of which no more than {MOST_CANDIDATES} can be judged: name fewer"
        return end(Verdict.INCONCLUSIVE, why)
    if size < (needed := least_baseline(count, rule)):
        why = f"{count} against {size} cannot reach p < {rule.level:g} (least: {least_p(count, size):.3f})"
        return end(Verdict.INCONCLUSIVE, f"{why}; {needed} {against} runs are needed{_others(theirs)}")
    tail = _others(mine).removeprefix("; ")
    if math.isinf(reference):
        before, now = (f"{len(side.values) - len(side.finite)} of {len(side.values)}" for side in (theirs, mine))
        why = f"{before} accepted runs did not reach the target, which leaves no median to hold these against"
        return end(Verdict.INCONCLUSIVE, f"{why}, of which {now} did not")
    oriented = -1.0 if metric.better == "higher" else 1.0
    worse = _screen(metric, mine, theirs, oriented)
    better = _screen(metric, mine, theirs, -oriented)
    shown = worse if worse.worsening >= 0 else better
    facts |= {"p": shown.p, "floor": worse.floor}
    accepted = evidence.baselines["accepted"].get(cell.key, baseline)
    history = samples(evidence, metric, accepted, cell.kernel, MOST_RUNS)
    noise = estimate(
        max((theirs.finite, history.finite), key=len),
        _ratios_of_pairs(cell, metric, evidence) if metric.timed else (),
        absolute=metric.absolute,
        whole=rule.whole,
        far=metric.far,
    )
    both = metric.better == "same"

    def least(higher: bool) -> float | None:
        return visible(
            noise, count, size, floor=metric.floor, rule=rule, higher=higher, confirmed=metric.timed,
            absolute=metric.absolute,
        )  # fmt: skip

    # A drop is a fraction of what there was, and no rise with another sign: each has its own power.
    seen, faster = least(metric.better == "higher"), least(True) if both else None
    facts |= {"visible": seen, "visible_faster": faster}
    facts["blind"] = seen is None or (both and faster is None)
    facts["power"] = statement(seen, faster, metric, noise, count, size)
    if better.flagged and both:
        return end(Verdict.REGRESSION, "faster than the baseline's runs ever were: it is not the same training")
    if worse.flagged and not metric.timed:
        slower = "slower to converge" if metric.name == "epochs_to_target" else "worse"
        return end(Verdict.REGRESSION, f"{slower}, beyond what runs of the baseline differ by")
    standing = _standing(metric, baseline, theirs)
    said = _confirmed(cell, metric, runs, standing, evidence, worse.worsening, end) if worse.flagged else None
    if said and said.verdict is not Verdict.PASS:
        return said
    # Pairs that refute what a median shows say nothing of runs that it does not show.
    if why := spoilt(evidence, metric, runs, baseline, mine, theirs, rule):
        settled = {"confirmation": said.confirmation, "pairs_id": said.pairs_id} if said else {}
        tail = ""  # it counts runs without a figure, and names one
        return end(Verdict.INCONCLUSIVE, "; ".join([why, *([said.why] if said else [])]), **settled)
    # What converges too fast is a fault as well.
    if disagree(worse, seen, rule) or (both and disagree(better, faster, rule)):
        return end(Verdict.INCONCLUSIVE, "the runs disagree: run more")
    if said:
        return said
    if better.flagged:
        return end(Verdict.PASS, "better: if it is to stay so, accept it", improved=True)
    if seen is None:
        return end(Verdict.INCONCLUSIVE, "they say nothing: run more, or find out why they differ so much")
    return end(Verdict.PASS, "")


def _standing(metric: Metric, baseline: Sequence[Run], theirs: Samples) -> list[Run]:
    """Runs of those commits of a baseline that are no worse than its median, by more than pairs call a difference.

    What crept in is in the last commits that were accepted: pairs against them would find nothing, night after night.
    There is always one, since not each commit's median can be worse than that of all.
    """
    of: dict[str | None, list[float]] = {}
    for run in baseline:
        if run.run_id in theirs.runs:
            of.setdefault(run.commit, []).append(theirs.numbers[run.run_id])
    reference = statistics.median(theirs.values)
    stand = {one for one, has in of.items() if worsening(metric, statistics.median(has), reference) <= LEAST_MEDIAN}
    return [run for run in baseline if run.commit in stand]


def _screen(metric: Metric, mine: Samples, theirs: Samples, sign: float) -> Screen:
    """Screen a metric in one direction: values times `sign` are worse the larger they are."""
    return screen(
        [sign * value for value in mine.values],
        [sign * value for value in theirs.values],
        floor=metric.floor,
        rule=SUSPECT if metric.timed else SOLE,
        absolute=metric.absolute,
    )


def _confirmed(
    cell: Cell, metric: Metric, runs: Sequence[Run], baseline: Sequence[Run], evidence: Evidence, suspicion: float,
    end: Any,
) -> Finding:  # fmt: skip
    """What pairs say of a suspicion, by how much the median is worse.

    All pairs of the same two commits are one sequence; where there are several, of several commits of the baseline, one
    that confirms it is enough, and to refute it takes all. What pairs refuted before these runs began was another
    suspicion: they count only where they confirm one.

    Args:
        baseline: runs of commits against which pairs can refute.
    """
    commits, before = {run.commit for run in runs}, {run.commit for run in baseline}
    first = min(run.started for run in runs)
    groups: dict[tuple[str, str], list[PairSet]] = {}
    for pairs in sorted(evidence.pair_sets, key=lambda one: one.pairs_id):
        if _fits(pairs, cell, commits, before, evidence):
            a, b = (next((str(run.commit) for run in side if run), "") for side in _sides(pairs, evidence))
            groups.setdefault((a, b), []).append(pairs)
    sequences, said = {}, {}
    for sides, sets in groups.items():
        one = _Sequence.of(sets, cell, metric, evidence)
        if settle(one.changes, suspicion).said.outcome != "worse":
            later = [pairs for pairs in sets if _began(pairs, evidence) >= first]
            one = _Sequence.of(later, cell, metric, evidence)
        if one.ids:
            sequences[sides], said[sides] = one, settle(one.changes, suspicion)
    for sides, found in said.items():
        if found.said.outcome == "worse":
            why = f"confirmed by {found.said.pairs} interleaved pairs, {_much(found.said)}"
            return end(
                Verdict.REGRESSION, why, confirmation=found.said, pairs_id=sequences[sides].set_at(found.stop)
            )  # fmt: skip
    left = [sides for sides, found in said.items() if not found.refuted or sequences[sides].cut]
    why, hint = how_to_confirm(runs, baseline, metric, evidence, left[-1] if left and all(left[-1]) else None)
    if said and not left:
        sides, found = list(said.items())[-1]
        return end(
            Verdict.PASS, f"suspected, but {_refuted(found.said)}", confirmation=found.said,
            pairs_id=sequences[sides].set_at(found.stop),
        )  # fmt: skip
    if not left:
        return end(Verdict.INCONCLUSIVE, f"suspected; {why}", **hint)
    one, found = sequences[left[-1]], said[left[-1]]
    facts = {"confirmation": found.said, "pairs_id": one.set_at(found.stop)}
    if found.said.outcome == "open":
        begun, hint = begun_pairs(one.ids[-1], one.cut, found.said, evidence, hint)
        return end(Verdict.INCONCLUSIVE, "; ".join(["suspected", begun, *([why] if hint else [])]), **hint)
    if found.refuted:
        why = f"suspected, and pairs that refute it are not all: {one.cut}"
        return end(Verdict.INCONCLUSIVE, why, **facts)
    apart = max(found.looked) - min(found.looked)
    words = f"{found.said.pairs} of them, the median {_much(found.said)}, {apart:.1%} apart"
    if found.final:
        why, hint = f"{MOST_SETS} times, so no further pairs count: measure more runs", {}
    return end(
        Verdict.INCONCLUSIVE, f"suspected, and interleaved pairs neither confirm nor refute it: {words}; {why}",
        **facts, **hint,
    )  # fmt: skip


@dataclass
class _Sequence:
    """All pairs of two commits, in the order in which they ran.

    Attributes:
        changes: how much worse b is in each.
        ids: of the set that each is of, and of sets without one.
        cut: where a pair lacks the figure, which ends what counts of its set.
    """

    changes: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    cut: str = ""

    @classmethod
    def of(cls, sets: Iterable[PairSet], cell: Cell, metric: Metric, evidence: Evidence) -> "_Sequence":
        found = cls()
        for one in {one.pairs_id: one for one in sets}.values():  # once, where two stores have it
            changes = [worsening(metric, *values) for values in _values(one, cell, metric, evidence)]
            found.changes += changes
            found.ids += [one.pairs_id] * max(1, len(changes))
            if len(changes) < len(one.pairs):
                found.cut = f"pair {len(changes) + 1} of {one.pairs_id} has no {metric.name}"
        return found

    def set_at(self, stop: int) -> str:
        """The set of the last of the first `stop` pairs."""
        return self.ids[max(0, stop - 1)]


def _sides(one: PairSet, evidence: Evidence) -> list[list[Run | None]]:
    """The runs of a, and those of b; None where one cannot be read."""
    return [[evidence.runs.get(pair[side]) for pair in one.pairs] for side in (0, 1)]


def _began(one: PairSet, evidence: Evidence) -> datetime:
    return min(run.started for side in _sides(one, evidence) for run in side if run)


def _fits(one: PairSet, cell: Cell, commits: set[str | None], before: set[str | None], evidence: Evidence) -> bool:
    """Whether a set is of this cell, from a commit of the baseline to one of the candidates.

    A run that cannot be read takes its own pair along, and those after it (see `_values`), not the whole set: what was
    measured first is not to be forgotten.
    """
    a, b = ([run for run in side if run] for side in _sides(one, evidence))
    # A checkout with changes is another one each time, whatever its commit: its pairs say nothing of these runs.
    return (
        bool(a or b)
        and all(run.key == cell.key and run.clean for run in (*a, *b))
        and all(run.commit in before for run in a)
        and all(run.commit in commits for run in b)
        and not {run.commit for run in a} & {run.commit for run in b}
    )


def _values(one: PairSet, cell: Cell, metric: Metric, evidence: Evidence) -> list[tuple[float, float]]:
    """The figures of b and a of each pair; one without, or not run to its end, ends the list: order matters."""
    found = []
    for a, b in one.pairs:
        ours, theirs = (
            evidence.value(run, metric, cell.kernel).number if run and run.completed else None
            for run in (evidence.runs.get(b), evidence.runs.get(a))
        )
        if ours is None or theirs is None or not 0 < ours / theirs < math.inf:
            break
        found.append((ours, theirs))
    return found


def _ratios_of_pairs(cell: Cell, metric: Metric, evidence: Evidence) -> list[list[float]]:
    """The ratios b / a of the pairs of this cell, set by set, whatever commits they are of."""
    found = []
    for one in evidence.pair_sets:
        a, b = (evidence.runs.get(run_id) for run_id in one.pairs[0]) if one.pairs else (None, None)
        if a and b and a.key == b.key == cell.key:
            found.append([ours / theirs for ours, theirs in _values(one, cell, metric, evidence)])
    return found


def _refuted(said: Confirmation) -> str:
    if said.outcome == "better":
        return f"{said.pairs} interleaved pairs say it is {_much(said)}"
    return f"interleaved pairs do not confirm it: {said.pairs} of them, the median {_much(said)}"


def _much(said: Confirmation) -> str:
    return f"{abs(said.median):.1%} {'worse' if said.median > 0 else 'better'}"


def _interval(mine: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Of the ratio candidate / baseline; None where a value is 0 or a target was not reached."""
    if not all(math.isfinite(value) and value > 0 for value in (*mine, *theirs)):
        return None
    return ratio_interval(theirs, mine)


def _first_reason(found: Samples) -> str:
    run_id, reason = next(iter(found.without.items()))
    return f"{reason} ({run_id})"


def _others(found: Samples) -> str:
    return f"; {len(found.without)} without a value: {_first_reason(found)}" if found.without else ""
