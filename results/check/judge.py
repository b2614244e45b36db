"""From evidence to verdicts: each metric of each cell, against what was accepted and what was pinned."""

import math
import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from results.check.cells import Cell, Evidence, Samples, cells_of, nearest_baseline, samples
from results.check.confirm import Confirmation, confirm
from results.check.metrics import Metric, worsening
from results.check.noise import Noise, estimate
from results.check.power import POWER, visible
from results.check.runs import PairSet, Run
from results.check.screen import BASELINE_RUNS, LEAST_RUNS, SOLE, SUSPECT, Screen, least_baseline, least_p, screen
from results.check.verdict import Finding, Verdict
from results.statistics import Interval, ratio_interval

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Finding]:
    """Judge every cell that has candidates, and name those that have none.

    Returns:
        Findings in the order of the cells; none where there is neither a candidate nor a baseline.
    """
    completed = [run for run in evidence.candidates if run.completed]
    findings: list[Finding] = []
    compared: set[Cell] = set()
    strange: set[str] = set()
    for cell, runs in cells_of(evidence, completed).items():
        sets = {name: by_key.get(cell.key, []) for name, by_key in evidence.baselines.items()}
        if not any(sets.values()):
            if cell.key not in strange:  # all kernels of a run alike
                findings.append(_without_baseline(cell, runs, evidence))
            strange.add(cell.key)
            continue
        compared.add(cell)
        for against, baseline in sets.items():
            if baseline:
                findings += _judge_cell(cell, runs, baseline, against, evidence)
    findings += _failed(evidence, completed)
    if evidence.whole:
        findings += _missing(evidence, {run.shape for run in completed if run.key in strange}, compared)
    return findings


def _failed(evidence: Evidence, completed: Sequence[Run]) -> list[Finding]:
    """Runs that did not end well, where too few did for a verdict."""
    findings = []
    for run in evidence.candidates:
        others = {other.allocation for other in completed if other.shape == run.shape}
        if run.completed or len(others) >= LEAST_RUNS:
            continue
        kind, message = run.row["failure_kind"] or "unknown", " ".join((run.row["failure_message"] or "").split())
        why = f"nothing measured: run {run.run_id} {run.row['status']} ({kind}): {message or 'no message'}"
        findings.append(
            Finding(cell=run.label, key=run.key, verdict=Verdict.NOT_COMPARABLE, why=why, candidates=[run.run_id])
        )
    return findings


def _without_baseline(cell: Cell, runs: Sequence[Run], evidence: Evidence) -> Finding:
    known = [run for by_key in evidence.baselines.values() for found in by_key.values() for run in found[-1:]]
    found = nearest_baseline(runs[-1], known)
    if found is None:
        why = "no baseline: python -m results.baseline accept run=ID,ID,... reason=WHY"
    else:
        nearest, difference = found
        same = "" if nearest.shape == runs[-1].shape else f"; the nearest baseline is {nearest.label}"
        why = f"{difference}{same} ({difference.part})"
    return Finding(
        cell=cell.label, key=cell.key, kernel=_kernel(cell), verdict=Verdict.NOT_COMPARABLE, why=why,
        candidates=[run.run_id for run in runs],
    )  # fmt: skip


def _missing(evidence: Evidence, strange: set[Any], compared: set[Cell]) -> list[Finding]:
    """Cells of the baseline that nothing was measured of; not those that were measured on something else."""
    findings = []
    known = [run for by_key in evidence.baselines.values() for runs in by_key.values() for run in runs]
    for cell, runs in cells_of(evidence, {run.run_id: run for run in known}.values()).items():
        if cell in compared or runs[-1].shape in strange:
            continue
        why = f"no run of it among the candidates; the baseline has {len(runs)}, the last is {runs[-1].run_id}"
        findings.append(
            Finding(
                cell=cell.label, key=cell.key, kernel=_kernel(cell), verdict=Verdict.MISSING, why=why,
                baseline=[run.run_id for run in runs],
            )
        )  # fmt: skip
    return findings


def _judge_cell(
    cell: Cell, runs: Sequence[Run], baseline: Sequence[Run], against: str, evidence: Evidence
) -> list[Finding]:
    findings = []
    for metric in cell.metrics:
        mine = samples(evidence, metric, runs, cell.kernel)
        last = BASELINE_RUNS if against == "accepted" else None
        theirs = samples(evidence, metric, baseline, cell.kernel, last)
        main = metric is cell.metrics[0]
        if not (mine.values or theirs.values) and not main:
            continue  # a figure that runs of this kind do not have, such as a time to a target where there is none
        if theirs.values and not mine.finite and math.isinf(statistics.median(theirs.values)):
            continue  # nor one that neither side ever reached
        findings.append(_judge_metric(cell, metric, mine, theirs, runs, baseline, against, evidence))
    return findings


def _judge_metric(
    cell: Cell, metric: Metric, mine: Samples, theirs: Samples, runs: Sequence[Run], baseline: Sequence[Run],
    against: str, evidence: Evidence,
) -> Finding:  # fmt: skip
    facts: dict[str, Any] = {
        "cell": cell.label, "key": cell.key, "kernel": _kernel(cell), "metric": metric.name, "unit": metric.unit,
        "against": against, "absolute": metric.absolute, "candidates": mine.runs, "baseline": theirs.runs,
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
    history = samples(evidence, metric, evidence.baselines["accepted"].get(cell.key, baseline), cell.kernel)
    noise = estimate(
        (history if len(history.finite) > len(theirs.finite) else theirs).finite[-BASELINE_RUNS:],
        _pair_noise(cell, metric, evidence) if metric.timed else (),
        absolute=metric.absolute,
    )
    facts["visible"] = visible(
        noise, count, size, floor=metric.floor, rule=rule, higher=metric.better == "higher",
        confirmed=metric.timed, absolute=metric.absolute,
    )  # fmt: skip
    facts["power"] = _power(facts["visible"], metric, noise, count, size)
    if better.flagged:
        if metric.better == "same":
            return end(Verdict.REGRESSION, "faster than the baseline's runs ever were: it is not the same training")
        return end(Verdict.PASS, "better: if it is to stay so, accept it", improved=True)
    if not worse.flagged:
        return end(Verdict.PASS, "")
    if not metric.timed:
        slower = "slower to converge" if metric.name == "epochs_to_target" else "worse"
        return end(Verdict.REGRESSION, f"{slower}, beyond what runs of the baseline differ by")
    return _confirmed(cell, metric, runs, baseline, evidence, end)


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
    cell: Cell, metric: Metric, runs: Sequence[Run], baseline: Sequence[Run], evidence: Evidence, end: Any
) -> Finding:
    """What pairs say of a suspicion."""
    commits, before = {run.commit for run in runs}, {run.commit for run in baseline}
    fitting = [one for one in evidence.pair_sets if _fits(one, cell, commits, before, evidence)]
    for one in reversed(fitting):
        said = confirm(_changes(one, cell, metric, evidence))
        more = {"confirmation": said, "pairs_id": one.pairs_id}
        if said.outcome == "worse":
            return end(Verdict.REGRESSION, f"confirmed by {said.pairs} interleaved pairs, {said.median:+.1%}", **more)
        if said.outcome != "open":
            return end(Verdict.PASS, f"suspected, but {_refuted(said)}", **more)
    begun = f"; {fitting[-1].pairs_id} ended after {len(fitting[-1].pairs)} pairs" if fitting else ""
    return end(Verdict.INCONCLUSIVE, f"suspected{begun}; {_how_to_confirm(runs, baseline, metric)}")


def _fits(one: PairSet, cell: Cell, commits: set[str | None], before: set[str | None], evidence: Evidence) -> bool:
    sides = [(evidence.runs.get(a), evidence.runs.get(b)) for a, b in one.pairs]
    if not sides or any(a is None or b is None for a, b in sides):
        return False
    return all(
        a and b and a.key == b.key == cell.key and a.commit in before and b.commit in commits and a.commit != b.commit
        for a, b in sides
    )


def _changes(one: PairSet, cell: Cell, metric: Metric, evidence: Evidence) -> list[float]:
    """How much worse b is in each pair; a pair without the figure ends the list, since order matters."""
    changes = []
    for a, b in one.pairs:
        ours, theirs = evidence.runs.get(b), evidence.runs.get(a)
        values = [evidence.value(run, metric, cell.kernel).number if run else None for run in (ours, theirs)]
        if None in values or any(map(math.isinf, values)):  # type: ignore[arg-type]
            break
        changes.append(worsening(metric, *values))  # type: ignore[arg-type]
    return changes


def _pair_noise(cell: Cell, metric: Metric, evidence: Evidence) -> list[float]:
    """How much the pairs of this cell differ, each set around its own median."""
    found = []
    for one in evidence.pair_sets:
        a, b = (evidence.runs.get(run_id) for run_id in one.pairs[0]) if one.pairs else (None, None)
        if a and b and a.key == b.key == cell.key:
            changes = _changes(one, cell, metric, evidence)
            middle = statistics.median(changes) if changes else 0.0
            # A set that was settled by its first pairs says nothing of how far others would lie apart.
            found += [change - middle for change in changes] if len(changes) >= LEAST_RUNS else []
    return found


def _refuted(said: Confirmation) -> str:
    if said.outcome == "better":
        return f"{said.pairs} interleaved pairs say it is better, {said.median:+.1%}"
    return f"interleaved pairs do not confirm it: {said.pairs} of them, median {said.median:+.1%}"


def _how_to_confirm(runs: Sequence[Run], baseline: Sequence[Run], metric: Metric) -> str:
    """The command whose rows would settle it, or why there is none."""
    ours, theirs = runs[-1], baseline[-1]
    for run, what in ((ours, "candidate"), (theirs, "baseline")):
        if run.commit is None:
            return f"the commit of the {what} {run.run_id} is not known, so no pairs can be run against it"
        if run.commit.endswith("+"):
            return f"the {what} {run.run_id} is of a checkout with changes: commit them, measure again, and run pairs"
    if ours.commit == theirs.commit:
        return "the code is the same, so that pairs cannot settle it: what else changed says python -m results.compare"
    if ours.parts["benchmark"] != "training":
        return f"run pairs of {_short(theirs)} and {_short(ours)} in one allocation"
    config = {name: value for name, value in ours.parts["configuration"].items() if value is not None}
    recipe = config.get("recipe")
    config["recipe"] = recipe.get("name") if isinstance(recipe, dict) else recipe
    words = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in config.items()]
    command = ["python", "-m", "bench.pairs", f"a=commit:{_short(theirs)}", f"b=commit:{_short(ours)}", *words]
    return f"confirm it with: {shlex.join([*command, f'metric={metric.name}'])}"


def _short(run: Run) -> str:
    return (run.commit or "unknown")[:12]


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


def _kernel(cell: Cell) -> str:
    return "" if cell.kernel is None else " ".join(cell.kernel)
