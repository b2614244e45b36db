"""From evidence to verdicts: each metric of each cell, against what was accepted and what was pinned."""

import math
import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from results.check.cells import Cell, Evidence, Samples, by_commit, cells_of, samples
from results.check.confirm import PAIRS, Confirmation, confirm, unclear
from results.check.gaps import kernel_words, missing, not_measured, without_baseline
from results.check.metrics import RESUMED, Metric, worsening
from results.check.noise import Noise, estimate
from results.check.power import POWER, visible
from results.check.runs import PairSet, Run
from results.check.screen import LEAST_RUNS, MOST_RUNS, SOLE, SUSPECT, Screen, disagree, least_baseline, least_p, screen
from results.check.spoilt import beside, spoilt
from results.check.verdict import Finding, Verdict
from results.statistics import Interval, ratio_interval

__all__ = ["judge"]


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
        mine, theirs = (samples(evidence, metric, side, cell.kernel, MOST_RUNS) for side in (runs, baseline))
        if not (mine.values or theirs.values) and (cell.kernel or metric is not cell.metrics[0]):
            continue  # what neither side has: a time to a target where there is none, a kernel that cannot run here
        if theirs.values and not mine.finite and math.isinf(statistics.median(theirs.values)):
            continue  # nor what neither side ever reached
        resumed = sum(reason == RESUMED for reason in mine.without.values())
        if len(mine.values) < LEAST_RUNS <= len(mine.values) + resumed:
            evidence.faults.append(f"{cell.label}: {metric.name} is not judged, since {resumed} runs were resumed")
            continue
        findings.append(_judge_metric(cell, metric, mine, theirs, runs, baseline, against, evidence))
    return findings


def _judge_metric(
    cell: Cell, metric: Metric, mine: Samples, theirs: Samples, runs: Sequence[Run], baseline: Sequence[Run],
    against: str, evidence: Evidence,
) -> Finding:  # fmt: skip
    facts: dict[str, Any] = {
        "cell": cell.label, "key": cell.key, "kernel": kernel_words(cell), "metric": metric.name, "unit": metric.unit,
        "against": against, "absolute": metric.absolute, "higher_is_better": metric.better == "higher",
        "candidates": mine.runs, "baseline": theirs.runs, "beside": [run.run_id for run in beside(evidence, runs[0])],
    }  # fmt: skip

    def end(verdict: Verdict, why: str, **more: Any) -> Finding:
        return Finding(**facts, **more, verdict=verdict, why=why)

    if not mine.values:
        return end(Verdict.NOT_COMPARABLE, f"nothing measured: {_first_reason(mine)}")
    facts["candidate_median"] = statistics.median(mine.values)
    if not theirs.values:
        return end(Verdict.NOT_COMPARABLE, f"the baseline has no {metric.name}: {_first_reason(theirs)}")
    reference = statistics.median(theirs.values)
    facts |= {"baseline_median": reference, "worsening": worsening(metric, facts["candidate_median"], reference)}
    facts["interval"] = _interval(mine.values, theirs.values)
    rule = SUSPECT if metric.timed else SOLE
    count, size = len(mine.values), len(theirs.values)
    if count < LEAST_RUNS:
        few = "1 run" if count == 1 else f"runs of {count} allocations"
        return end(Verdict.INCONCLUSIVE, f"{few}; {LEAST_RUNS} in allocations of their own are needed{_others(mine)}")
    if size < (needed := least_baseline(count, rule)):
        why = f"{count} against {size} cannot reach p < {rule.level:g} (least: {least_p(count, size):.3f})"
        return end(Verdict.INCONCLUSIVE, f"{why}; {needed} accepted runs are needed{_others(theirs)}")
    if math.isinf(reference):
        return end(Verdict.PASS, "the baseline did not reach its target, so nothing can be worse")
    oriented = -1.0 if metric.better == "higher" else 1.0
    worse = _screen(metric, mine, theirs, oriented)
    better = _screen(metric, mine, theirs, -oriented)
    shown = worse if worse.worsening >= 0 else better
    facts |= {"p": shown.p, "floor": worse.floor}
    accepted = evidence.baselines["accepted"].get(cell.key, baseline)
    history = samples(evidence, metric, accepted, cell.kernel, MOST_RUNS)
    noise = estimate(
        max((theirs.finite, history.finite), key=len),
        _changes_of_pairs(cell, metric, evidence) if metric.timed else (),
        absolute=metric.absolute,
        whole=rule.whole,
    )
    facts["visible"] = visible(
        noise, count, size, floor=metric.floor, rule=rule, higher=metric.better == "higher",
        confirmed=metric.timed, absolute=metric.absolute,
    )  # fmt: skip
    facts["power"] = _power(facts["visible"], metric, noise, count, size)
    # What converges too fast is a fault as well.
    if better.flagged and metric.better == "same":
        return end(Verdict.REGRESSION, "faster than the baseline's runs ever were: it is not the same training")
    if worse.flagged and not metric.timed:
        slower = "slower to converge" if metric.name == "epochs_to_target" else "worse"
        return end(Verdict.REGRESSION, f"{slower}, beyond what runs of the baseline differ by")
    said = _confirmed(cell, metric, runs, baseline, evidence, worse.worsening, end) if worse.flagged else None
    if said and said.verdict is not Verdict.PASS:
        return said
    # Pairs that refute what a median shows say nothing of runs that it does not show.
    if why := spoilt(evidence, metric, runs, baseline, mine, theirs, rule):
        settled = {"confirmation": said.confirmation, "pairs_id": said.pairs_id} if said else {}
        return end(Verdict.INCONCLUSIVE, "; ".join([why, *([said.why] if said else [])]), **settled)
    if any(disagree(one, facts["visible"], rule) for one in (worse, *([better] * (metric.better == "same")))):
        return end(Verdict.INCONCLUSIVE, "the runs disagree: run more")
    if said:
        return said
    if better.flagged:
        return end(Verdict.PASS, "better: if it is to stay so, accept it", improved=True)
    return end(Verdict.PASS, "")


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
    """What pairs say of a suspicion, by how much the median is worse."""
    commits, before = {run.commit for run in runs}, {run.commit for run in baseline}
    changes = {
        one.pairs_id: _changes(one, cell, metric, evidence)
        for one in evidence.pair_sets
        if _fits(one, cell, commits, before, evidence)
    }
    said = {pairs_id: confirm(found) for pairs_id, found in changes.items()}
    # A set that confirms it stands: to repeat pairs until a set does not would find that in the end, whatever is true.
    for pairs_id, one in said.items():
        if one.outcome == "worse":
            why = f"confirmed by {one.pairs} interleaved pairs, {_much(one)}"
            return end(Verdict.REGRESSION, why, confirmation=one, pairs_id=pairs_id)
    settled = {pairs_id: one for pairs_id, one in said.items() if one.outcome != "open"}
    why, command = _how_to_confirm(runs, baseline, metric, evidence)
    if settled:
        pairs_id, one = list(settled.items())[-1]
        if not unclear(one, changes[pairs_id], suspicion):
            return end(Verdict.PASS, f"suspected, but {_refuted(one)}", confirmation=one, pairs_id=pairs_id)
        looked = changes[pairs_id][: one.pairs]
        found = f"{one.pairs} of them, the median {_much(one)}, {max(looked) - min(looked):.1%} apart"
        return end(
            Verdict.INCONCLUSIVE, f"suspected, and interleaved pairs neither confirm nor refute it: {found}; {why}",
            confirmation=one, pairs_id=pairs_id, confirm_with=command,
        )  # fmt: skip
    begun = [f"; {pairs_id} ended after {one.pairs} of {PAIRS} pairs" for pairs_id, one in said.items()]
    return end(Verdict.INCONCLUSIVE, f"suspected{''.join(begun[-1:])}; {why}", confirm_with=command)


def _fits(one: PairSet, cell: Cell, commits: set[str | None], before: set[str | None], evidence: Evidence) -> bool:
    sides = [(evidence.runs.get(a), evidence.runs.get(b)) for a, b in one.pairs]
    if not sides or any(a is None or b is None for a, b in sides):
        return False
    # A checkout with changes is another one each time, whatever its commit: its pairs say nothing of these runs.
    return all(
        a and b and a.key == b.key == cell.key and a.commit in before and b.commit in commits and a.commit != b.commit
        and a.commit and b.commit and not (a.commit + b.commit).count("+")
        for a, b in sides
    )  # fmt: skip


def _changes(one: PairSet, cell: Cell, metric: Metric, evidence: Evidence) -> list[float]:
    """How much worse b is in each pair; one without the figure, or not run to its end, ends the list: order matters."""
    changes = []
    for a, b in one.pairs:
        ours, theirs = evidence.runs.get(b), evidence.runs.get(a)
        whole = [run if run and run.completed else None for run in (ours, theirs)]
        values = [evidence.value(run, metric, cell.kernel).number if run else None for run in whole]
        if None in values or any(map(math.isinf, values)):  # type: ignore[arg-type]
            break
        changes.append(worsening(metric, *values))  # type: ignore[arg-type]
    return changes


def _changes_of_pairs(cell: Cell, metric: Metric, evidence: Evidence) -> list[list[float]]:
    """How much the pairs of this cell differ, set by set, whatever commits they are of."""
    found = []
    for one in evidence.pair_sets:
        a, b = (evidence.runs.get(run_id) for run_id in one.pairs[0]) if one.pairs else (None, None)
        if a and b and a.key == b.key == cell.key:
            found.append(_changes(one, cell, metric, evidence))
    return found


def _refuted(said: Confirmation) -> str:
    if said.outcome == "better":
        return f"{said.pairs} interleaved pairs say it is {_much(said)}"
    return f"interleaved pairs do not confirm it: {said.pairs} of them, the median {_much(said)}"


def _much(said: Confirmation) -> str:
    return f"{abs(said.median):.1%} {'worse' if said.median > 0 else 'better'}"


def _how_to_confirm(
    runs: Sequence[Run], baseline: Sequence[Run], metric: Metric, evidence: Evidence
) -> tuple[str, str]:
    """What to do, in words, and the command whose rows would settle it, "" where there is none."""
    ours = runs[-1]
    for run, what in ((ours, "candidate"), (baseline[-1], "baseline")):
        if run.commit is None:
            return f"the commit of the {what} {run.run_id} is not known, so no pairs can be run against it", ""
        if run.commit.endswith("+"):
            return f"the {what} {run.run_id} is of a checkout with changes: commit them, measure again, run pairs", ""
    others = [run for run in baseline if run.commit and run.commit[-1] != "+" and run.commit != ours.commit]
    if not others:
        return "the code is the same, so pairs cannot settle it; what else changed: python -m results.compare", ""
    if ours.parts["benchmark"] != "training":
        return f"bench.pairs runs no pairs of {ours.parts['benchmark']}; python -m results.compare shows both", ""
    config = {name: value for name, value in ours.parts["configuration"].items() if value is not None}
    recipe = config.get("recipe")
    config["recipe"] = recipe.get("name") if isinstance(recipe, dict) else recipe
    words = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in config.items()]
    before, now = others[-1].commit or "", ours.commit or ""
    length = 12 if before[:12] != now[:12] else None
    sides = [f"a=commit:{before[:length]}", f"b=commit:{now[:length]}"]
    here = [f"metric={metric.name}", f"results={evidence.root.resolve()}"]
    return "confirm it with the command", shlex.join(["python", "-m", "bench.pairs", *sides, *words, *here])


def _interval(mine: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Of the ratio candidate / baseline; None where a value is 0 or a target was not reached."""
    if not all(math.isfinite(value) and value > 0 for value in (*mine, *theirs)):
        return None
    return ratio_interval(theirs, mine)


def _power(seen: float | None, metric: Metric, noise: Noise, count: int, size: int) -> str:
    """The power statement: what would have been found, and on what that rests."""
    word = "drop" if metric.better == "higher" else "change" if metric.better == "same" else "rise"
    runs = f"{count} against {size} runs"
    if seen is None:
        return f"could have seen no {word}, however large: {runs} differ too much"
    if metric.absolute:
        return f"could have seen a {word} of {seen:.3f} or more with {POWER:.0%} ({runs}, deviation {noise.total:.4f})"
    spread = f"{noise.between:.1%} between allocations, {noise.within:.1%} within"
    if not metric.timed:
        spread = f"deviation {noise.total:.1%}"
    elif not noise.known_within:
        spread = f"{noise.total:.1%} between allocations, within unknown and taken as large"
    return f"could have seen a {word} of {seen:.1%} or more with {POWER:.0%} ({runs}, {spread})"


def _first_reason(found: Samples) -> str:
    run_id, reason = next(iter(found.without.items()), ("", "no run has it"))
    return f"{reason} ({run_id})" if run_id else reason


def _others(found: Samples) -> str:
    return f"; {len(found.without)} without a value: {_first_reason(found)}" if found.without else ""
