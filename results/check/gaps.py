"""What a check could not judge: runs and cells without a counterpart, a figure, a file or pairs; what would help."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.check.cells import Cell, Evidence, cells_of, nearest_baseline
from results.check.confirm import PAIRS, Confirmation
from results.check.metrics import Metric
from results.check.runs import Run, kind_of
from results.check.screen import MOST_RUNS
from results.check.spoilt import beside, lost, too_many
from results.check.verdict import Finding, Verdict
from results.command_line import launch_words
from results.store.journal import Owner
from results.words import SHORT

__all__ = [
    "begun_pairs", "how_to_confirm", "kernel_words", "missing", "not_measured", "without_baseline",
    "without_pairs_again",
]  # fmt: skip

AGAIN = "confirm it with the command"


def kernel_words(cell: Cell) -> str:
    """Return a cell's kernel in words; empty where it is of no kernel."""
    return "" if cell.kernel is None else " ".join(cell.kernel)


def without_baseline(cell: Cell, runs: list[Run], evidence: Evidence) -> Finding:
    """Return what is said of a cell that nothing was accepted of: the first part that differs from the nearest."""
    known = [run for by_key in evidence.baselines.values() for found in by_key.values() for run in found[-1:]]
    found = nearest_baseline(runs[-1], known)
    if found is None and evidence.same:
        why = "the baseline's runs are the candidate's: name others by candidate= or baseline="
    elif found is None:
        why = "no baseline: python -m results.baseline accept run=ID,ID,... reason=WHY"
    else:
        nearest, difference = found
        same = "" if nearest.shape == runs[-1].shape else f"; the nearest baseline is {nearest.label}"
        why = f"{difference}{same} ({difference.part})"
    return Finding(
        cell=cell.label, key=cell.key, kernel=kernel_words(cell), verdict=Verdict.NOT_COMPARABLE, why=why,
        candidates=[run.run_id for run in runs],
    )  # fmt: skip


def not_measured(evidence: Evidence) -> list[Finding]:
    """Return what is said of candidates that have nothing to judge, and of files without which no verdict is sound."""
    findings = []
    for run_id, why in evidence.unusable.items():
        key = evidence.runs[run_id].key if run_id in evidence.runs else ""
        findings.append(_finding(run_id, key, Verdict.NOT_COMPARABLE, f"nothing measured: {why}", [run_id]))
    for run in evidence.candidates:
        if run.completed and run.parts["benchmark"] == "micro" and not evidence.kernels.get(run.run_id):
            why = f"nothing measured: run {run.run_id} has no kernels that can be read"
            findings.append(_finding(run.label, run.key, Verdict.NOT_COMPARABLE, why, [run.run_id]))
    findings += [*_failed(evidence), *_spoilt(evidence), *_unsure(evidence)]
    for line in evidence.unread:
        findings.append(_finding("baselines and pairs", "", Verdict.INCONCLUSIVE, f"cannot be read: {line}"))
    return findings


def _failed(evidence: Evidence) -> list[Finding]:
    """Runs that did not end well: all of a cell and commit, or too many beside those that did."""
    findings = []
    for run in evidence.candidates:
        if run.completed:
            continue
        message = " ".join((run.row["failure_message"] or "").split())
        what = f"run {run.run_id} {run.ended}: {message or 'no message'}"
        evidence.faults.append(what)
        ended = sum(other.completed for other in beside(evidence, run))
        failed, unusable = lost(evidence, run)
        if not ended:
            findings.append(
                _finding(run.label, run.key, Verdict.NOT_COMPARABLE, f"nothing measured: {what}", [run.run_id])
            )
        elif run.failed and too_many(failed + unusable, ended + failed + unusable):
            of = f"{failed + unusable} of {ended + failed + unusable} runs"
            why = f"{of} failed{' or cannot be used' if unusable else ''}, more than one in five: {what}"
            findings.append(_finding(run.label, run.key, Verdict.INCONCLUSIVE, why, [run.run_id]))
    return findings


def _spoilt(evidence: Evidence) -> list[Finding]:
    """Runs that cannot be read or judged, which count as failed ones; their ids alone say what they are of."""
    by_kind: dict[str, list[str]] = {}
    for run_id in evidence.spoilt:
        by_kind.setdefault(kind_of(run_id), []).append(run_id)
    findings = []
    for kind, unusable in by_kind.items():
        alike = {(run.key, run.commit): run for run in evidence.candidates if kind_of(run.run_id) == kind}
        if not alike:
            of = f"{len(unusable)} of {len(unusable)} runs failed or cannot be used, more than one in five"
            why = f"{of}: {evidence.spoilt[unusable[0]]}"
            findings.append(_finding(kind or "unknown", "", Verdict.INCONCLUSIVE, why, unusable))
        for run in alike.values():
            ended = sum(other.completed for other in beside(evidence, run))
            count = sum(lost(evidence, run))
            if too_many(count, ended + count):
                of = f"{count} of {ended + count} runs failed or cannot be used, more than one in five"
                why = f"{of}: {evidence.spoilt[unusable[0]]}"
                findings.append(_finding(run.label, run.key, Verdict.INCONCLUSIVE, why, unusable))
    return findings


def _unsure(evidence: Evidence) -> list[Finding]:
    """What is no pass whatever its figures: the sample may be another than the one that counts."""
    labels = {run.key: run.label for run in evidence.runs.values()} if evidence.unsure else {}
    return [_finding(labels.get(key, key), key, Verdict.INCONCLUSIVE, why) for key, why in evidence.unsure.items()]


def missing(evidence: Evidence, strange: set[Any], compared: set[Cell]) -> list[Finding]:
    """Return the cells of the baseline that nothing was measured of; where runs were named, of their kernels alone.

    Args:
        strange: shapes that were measured on something else, and are named as not comparable already.
        compared: cells that were judged.
    """
    findings = []
    held: dict[str, dict[str, Run]] = {}
    keys = {cell.key for cell in compared}
    for by_key in evidence.baselines.values():
        for key, runs in by_key.items():
            held.setdefault(key, {}).update({run.run_id: run for run in runs[-MOST_RUNS:]})
    for cell, runs in cells_of(evidence, _all(held)).items():
        if cell in compared or runs[-1].shape in strange or cell.key in evidence.measured:
            continue
        if not evidence.whole and cell.key not in keys:
            continue
        why = f"no run of it among the candidates; the baseline has {len(runs)}, the last is {runs[-1].run_id}"
        findings.append(
            Finding(
                cell=cell.label, key=cell.key, kernel=kernel_words(cell), verdict=Verdict.MISSING, why=why,
                baseline=[run.run_id for run in runs],
            )
        )  # fmt: skip
    return findings


def _all(held: Mapping[str, Mapping[str, Run]]) -> list[Run]:
    return [run for runs in held.values() for run in runs.values()]


def _finding(cell: str, key: str, verdict: Verdict, why: str, candidates: list[str] | None = None) -> Finding:
    return Finding(cell=cell, key=key, verdict=verdict, why=why, candidates=candidates or [])


def how_to_confirm(
    runs: Sequence[Run], baseline: Sequence[Run], metric: Metric, evidence: Evidence,
    begun: tuple[str, str] | None = None,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """Return what to do about a suspicion, in words, and columns of its finding with a command for it, if there is one.

    Args:
        baseline: runs of commits against which pairs can refute.
        begun: commits of pairs that did not settle it yet.
    """
    ours = runs[-1]
    for run, what in ((ours, "candidate"), (baseline[-1], "baseline")):
        if run.commit is None:
            return f"the commit of the {what} {run.run_id} is not known, so no pairs can be run against it", {}
        if run.commit.endswith("+"):
            return f"the {what} {run.run_id} is of a checkout with changes: commit them, measure again, run pairs", {}
    others = [run for run in baseline if run.commit and run.commit[-1] != "+" and run.commit != ours.commit]
    if not others:
        why = "the code is the same, so pairs cannot settle it: measure more runs (nothing moves by itself)"
        return f"{why}; the command shows what else differs", {"compare_with": _compare(baseline, runs, evidence)}
    if ours.parts["benchmark"] != "training":
        why = f"bench.pairs runs no pairs of {ours.parts['benchmark']}: measure more runs; the command shows both sides"
        return why, {"compare_with": _compare(baseline, runs, evidence)}
    words = launch_words(ours.parts["configuration"])
    before, now = begun or (others[-1].commit or "", ours.commit or "")
    length = 12 if before[:12] != now[:12] else None
    sides = [f"a=commit:{before[:length]}", f"b=commit:{now[:length]}"]
    here = [f"metric={metric.name}", f"results={evidence.root.resolve()}"]
    return AGAIN, {"confirm_with": shlex.join(["python", "-m", "bench.pairs", *sides, *words, *here])}


def _compare(baseline: Sequence[Run], runs: Sequence[Run], evidence: Evidence) -> str:
    """The command that compares what a suspicion is of."""
    ends = Counter(run_id[-SHORT:] for run_id in evidence.runs)

    def side(runs: Sequence[Run]) -> str:
        if elsewhere := next((run.root for run in runs if run.root.resolve() != evidence.root.resolve()), None):
            return str(elsewhere.resolve())  # a folder, which words can name as a whole alone
        return ",".join(run.run_id if ends[run.run_id[-SHORT:]] > 1 else run.run_id[-SHORT:] for run in runs)

    words = [side(baseline[-MOST_RUNS:]), side(runs), f"results={evidence.root.resolve()}"]
    return shlex.join(["python", "-m", "results.compare", *words])


def begun_pairs(
    pairs_id: str, cut: str, said: Confirmation, evidence: Evidence, hint: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return what is to be said of pairs that are too few to settle anything, and columns of their finding.

    Args:
        pairs_id: of the last of them.
        cut: which pair lacks the figure, if one does.
        said: by those that count.
        hint: what `how_to_confirm` says.
    """
    ids = [one for pairs in evidence.pair_sets if pairs.pairs_id == pairs_id for pair in pairs.pairs for one in pair]
    root = next(evidence.runs[one].root for one in ids if one in evidence.runs)
    owner = Owner.of(root / "jobs" / pairs_id)
    lives = owner.lives() if owner else False
    so_far = f"{said.pairs} of {PAIRS} pairs"
    if lives:
        return f"{pairs_id} still runs, {so_far} so far: check again once it has ended", {}
    if cut:
        count = f"{cut}, and only those before it count, {so_far}"
        return count, {**hint, "confirmation": said, "pairs_id": pairs_id}
    if owner and lives is None:
        return f"{pairs_id} may still run on {owner.hostname}, {so_far} so far", hint
    return f"{pairs_id} ended after {so_far}", hint


def without_pairs_again(findings: list[Finding]) -> list[Finding]:
    """Return the findings of a cell without the advice to run pairs again that confirm another of its metrics.

    They are whole: it is a figure that is not there, and would not be there again.
    """
    confirmed = next((one for one in findings if one.confirmation and one.verdict is Verdict.REGRESSION), None)
    if not confirmed:
        return findings
    why = f"they confirm {confirmed.metric}, and need not run again"
    return [
        replace(one, confirm_with="", why=one.why.replace(AGAIN, why))
        if one.confirmation and one.confirmation.outcome == "open"
        else one
        for one in findings
    ]
