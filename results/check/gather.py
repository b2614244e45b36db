"""Collects what a check judges: candidates, baselines, pairs and kernels of a store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from results.check.baselines import events, standing
from results.check.cells import Evidence
from results.check.runs import NEVER, Kernel, Run, load, load_kernels, load_pairs
from results.selection import select
from results.store.schema import Row
from results.words import ConfigError

__all__ = ["HOURS", "KINDS", "gather"]

KINDS = ("accepted", "pinned")
HOURS = 20.0  # a night's runs, and not those of the night before


def gather(
    root: Path,
    candidate: Sequence[str] = (),
    baseline: Sequence[str] = (),
    against: Sequence[str] = KINDS,
    hours: float = HOURS,
) -> Evidence:
    """Collect the evidence for a check.

    Args:
        root: of the store with the baselines.
        candidate: words of `results.selection.select`; none for the runs of the store's last hours that no baseline
            has.
        baseline: likewise, in place of those that were accepted and pinned.
        against: which of `KINDS` to hold candidates against.
        hours: how long before the store's newest run a candidate may have begun.

    Raises:
        ConfigError: a word means no run, or there is nothing to hold anything against.
    """
    store = load(root)
    sets, faults = load_pairs(root)
    history, more = events(root)
    faults = [*store.faults, *faults, *more]
    runs = dict(store.by_id)
    paired = {run_id for one in sets for pair in one.pairs for run_id in pair}
    state = standing(history)
    named, chosen_whole = _select("candidate", candidate, root, runs, faults)
    held = {run_id for by_key in (state.accepted, state.pinned) for ids in by_key.values() for run_id in ids}
    if candidate:
        if spare := [run.run_id for run in named if run.run_id in paired]:
            faults.append(f"{len(spare)} runs of interleaved pairs left out, such as {spare[0]}: they confirm, no more")
        candidates, whole = [run for run in named if run.run_id not in paired], chosen_whole
    else:
        newest = max((run.started for run in runs.values()), default=NEVER)
        since = newest - timedelta(hours=hours) if newest != NEVER else NEVER
        fresh = [run for run in runs.values() if run.run_id not in paired and run.run_id not in held]
        candidates, whole = [run for run in fresh if run.started > since], True
    candidates.sort(key=lambda run: (run.started, run.run_id))
    own = {run.run_id for run in candidates}
    if baseline:
        named, _ = _select("baseline", baseline, root, runs, faults)
        named.sort(key=lambda run: (run.started, run.run_id))
        baselines = {"accepted": _by_key(named, own | paired, faults)}
    else:
        stand = {"accepted": state.accepted, "pinned": state.pinned}
        baselines = {
            kind: _by_key(_known(stand[kind], runs, faults), own, faults) if kind in against else {} for kind in KINDS
        }
        if list(against) == ["pinned"] and not state.pinned:
            raise ConfigError(f"against=pinned: nothing is pinned in {root}: python -m results.baseline pin reason=WHY")
    evidence = Evidence(
        root=root, candidates=candidates, whole=whole, baselines={"accepted": {}, **baselines}, runs=runs,
        pair_sets=sets, faults=faults,
    )  # fmt: skip
    _add_kernels(evidence)
    evidence.faults = list(dict.fromkeys(evidence.faults))
    return evidence


def _select(
    key: str, words: Sequence[str], root: Path, runs: dict[str, Run], faults: list[str]
) -> tuple[list[Run], bool]:
    """The runs that words mean; those of other stores join `runs`."""
    found: list[Run] = []
    whole = bool(words)
    for selection in select(key, words, root):
        if selection.root != root:
            elsewhere = load(selection.root, selection.run_ids)
            faults += elsewhere.faults
            runs.update({run_id: run for run_id, run in elsewhere.by_id.items() if run_id not in runs})
        found += [runs[run_id] for run_id in selection.run_ids if run_id in runs]
        whole = whole and selection.whole
    return found, whole


def _known(by_key: Mapping[str, Iterable[str]], runs: Mapping[str, Run], faults: list[str]) -> list[Run]:
    found = []
    for ids in by_key.values():
        for run_id in ids:
            if run_id in runs:
                found.append(runs[run_id])
            else:
                faults.append(f"run={run_id}: is in the baseline, and has no row that can be read")
    return found


def _by_key(runs: Iterable[Run], without: set[str], faults: list[str]) -> dict[str, list[Run]]:
    """Completed runs by comparability key, in order; the key is that of today's parts, whatever was written once."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.run_id in without:
            faults.append(f"run={run.run_id}: is not held against itself, so not in this baseline")
        elif run.completed:
            found.setdefault(run.key, []).append(run)
        else:
            faults.append(f"run={run.run_id}: {run.row['status']}, so not in this baseline")
    return found


def _add_kernels(evidence: Evidence) -> None:
    """Read the kernels of the micro runs that are judged, held against or paired."""
    held = [run for by_key in evidence.baselines.values() for runs in by_key.values() for run in runs]
    paired = [
        evidence.runs[id_] for one in evidence.pair_sets for pair in one.pairs for id_ in pair if id_ in evidence.runs
    ]
    by_root: dict[Path, set[str]] = {}
    for run in (*evidence.candidates, *held, *paired):
        if run.parts["benchmark"] == "micro":
            by_root.setdefault(run.root, set()).add(run.run_id)
    kernels: dict[str, dict[Kernel, Row]] = {}
    for root, run_ids in by_root.items():
        found, faults = load_kernels(root, run_ids)
        kernels |= found
        evidence.faults += faults
    evidence.kernels = kernels
