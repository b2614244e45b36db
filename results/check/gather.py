"""Collects what a check judges: candidates, baselines, pairs and kernels of a store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from results.check.baselines import events, standing
from results.check.cells import Evidence
from results.check.runs import NEVER, Kernel, Run, Runs, began, load, load_kernels, load_pairs, named_as_of_pairs
from results.check.screen import MOST_RUNS
from results.selection import select
from results.store.schema import Row
from results.words import ConfigError, counted

__all__ = ["HOURS", "KINDS", "gather", "lost_of_those_that_count"]

KINDS = ("accepted", "pinned")
HOURS = 20.0  # a night's runs, and not those of the night before
AHEAD = timedelta(hours=1)  # that a clock of another machine may be before ours


def gather(
    root: Path,
    candidate: Sequence[str] = (),
    baseline: Sequence[str] = (),
    against: Sequence[str] = KINDS,
    hours: float = HOURS,
    now: datetime | None = None,
) -> Evidence:
    """Collect the evidence for a check.

    Args:
        root: of the store with the baselines.
        candidate: words of `results.selection.select`; none for the runs of the last hours that no baseline has, of
            each cell those of the newest commit; of one that a baseline has, or that is not known or had changes, only
            where there is no other.
        baseline: likewise, in place of those that were accepted and pinned.
        against: which of `KINDS` to hold candidates against.
        hours: how long ago a candidate may have begun.
        now: the time; None for that of the clock.

    Raises:
        ConfigError: a word means no run, or there is nothing to hold anything against.
    """
    now = now or datetime.now(UTC)
    store, pairs, (history, unread) = load(root), load_pairs(root), events(root)
    runs = dict(store.by_id)
    state = standing(history, {run_id: run.key for run_id, run in runs.items()})
    evidence = Evidence(
        root=root, candidates=[], whole=True, baselines={kind: {} for kind in KINDS}, runs=runs, pair_sets=pairs.sets,
        faults=store.faults, unread=[*pairs.unread, *unread],
    )  # fmt: skip
    paired = pairs.run_ids | set(filter(named_as_of_pairs, runs))
    since = now - timedelta(hours=hours)
    if candidate:
        named, evidence.whole = _select("candidate", candidate, store, evidence, paired)
        if spare := [run.run_id for run in named if run.run_id in paired]:
            evidence.faults.append(
                f"{counted(len(spare), 'run')} of pairs left out, such as {spare[0]}: they confirm, no more"
            )
        evidence.candidates = [run for run in named if run.run_id not in paired]
    else:
        held = {run_id for by_key in (state.accepted, state.pinned) for ids in by_key.values() for run_id in ids}
        if bare := sorted(one for one in paired - pairs.run_ids if runs[one].started > since):
            evidence.faults.append(
                f"{counted(len(bare), 'run')} left out, such as {bare[0]}: named as of pairs that are not there"
            )
        spoken_for = paired | held
        fresh = [run for run in runs.values() if run.run_id not in spoken_for]
        undated = [run.run_id for run in fresh if run.started == NEVER and (began(run.run_id) or now) > since]
        evidence.unusable |= dict.fromkeys(undated, "its row does not say when it began")
        left = {**store.unread, **store.unusable}
        evidence.spoilt = {one: why for one, why in left.items() if one not in spoken_for and store.began[one] > since}
        known = {key: {runs[one].commit for one in ids if one in runs} for key, ids in state.accepted.items()}
        evidence.candidates = _newest([run for run in fresh if run.started > since], known, now, evidence)
        # What was accepted tonight already was measured tonight.
        evidence.measured = {runs[one].key for one in held if one in runs and since < runs[one].started <= now + AHEAD}
        if not evidence.candidates and not evidence.measured and runs:
            last = max((run.started for run in runs.values() if NEVER < run.started <= now + AHEAD), default=None)
            newest = f"; the newest began {last:%F %H:%M} UTC" if last else ""
            evidence.faults.append(f"no new run of the last {hours:g} hours{newest}")
    evidence.candidates.sort(key=lambda run: (run.started, run.run_id))
    own = {run.run_id for run in evidence.candidates}
    if baseline:
        named, _ = _select("baseline", baseline, store, evidence, paired)
        named.sort(key=lambda run: (run.started, run.run_id))
        evidence.baselines = {"accepted": _by_key(named, own | paired, evidence.faults), "pinned": {}}
    else:
        stand = {"accepted": state.accepted, "pinned": state.pinned}
        evidence.baselines = {
            kind: _standing_runs(stand[kind], own, evidence) if kind in against else {} for kind in KINDS
        }
        if list(against) == ["pinned"] and not state.pinned:
            raise ConfigError(f"against=pinned: nothing is pinned in {root}: python -m results.baseline pin reason=WHY")
    _add_kernels(evidence)
    return evidence


def _newest(
    fresh: list[Run], known: Mapping[str, set[str | None]], now: datetime, evidence: Evidence
) -> list[Run]:  # fmt: skip
    """Of each cell the runs of the commit that was measured last: slow ones of it must not drown among others.

    Nor among those of a commit that was accepted before, or of one that nobody can check out. Where a second commit was
    measured that no baseline has, either may be the one that counts: no pass of one hides the other.

    Args:
        known: by key, commits that were accepted.
    """
    cells: dict[str, list[Run]] = {}
    for run in fresh:
        if run.started > now + AHEAD:
            line = f"left out, it began {run.started:%F %H:%M} UTC, which is yet to come"
            evidence.faults.append(f"run={run.run_id}: {line}")
        else:
            cells.setdefault(run.key, []).append(run)
    found = []
    for runs in cells.values():
        old = known.get(runs[0].key, set())
        last = max(runs, key=lambda run: (run.commit not in old, run.clean, run.started, run.run_id))
        found += [run for run in runs if run.commit == last.commit]
        if others := [run.run_id for run in runs if run.commit != last.commit]:
            judged = f"{last.commit[:12]}{'' if last.clean else '+'}" if last.commit else "the unknown one"
            evidence.faults.append(
                f"{counted(len(others), 'run')} of other commits than {judged} left out, such as {others[0]}"
            )
        rivals = {run.commit or "" for run in runs if run.clean and run.commit not in old} - {last.commit}
        if rivals and last.clean:
            names = ", ".join(sorted(rival[:12] for rival in rivals))
            why = f"measured at {names} as well, which no baseline has: candidate=COMMIT judges each"
            evidence.unsure[runs[0].key] = why
    return found


def _select(
    key: str, words: Sequence[str], store: Runs, evidence: Evidence, paired: set[str]
) -> tuple[list[Run], bool]:
    """The runs that words mean; those of other stores, and their pairs, join those that are known."""
    found: list[Run] = []
    whole = True
    for selection in select(key, words, evidence.root):
        loaded = store
        if selection.root.resolve() != evidence.root.resolve():
            loaded = load(selection.root)  # a folder means all that it has
            pairs = load_pairs(selection.root)
            evidence.pair_sets = [*evidence.pair_sets, *pairs.sets]
            evidence.unread += pairs.unread
            evidence.faults += loaded.faults
            if key == "candidate":
                evidence.spoilt |= {one: line for one, line in loaded.unread.items() if one not in pairs.run_ids}
            paired |= pairs.run_ids
            for run_id, run in loaded.by_id.items():
                if run_id in evidence.runs:
                    evidence.faults.append(f"run={run_id}: is in {selection.root} too; that of {evidence.root} counts")
                else:
                    evidence.runs[run_id] = run
        found += [evidence.runs[run_id] for run_id in selection.run_ids if run_id in evidence.runs]
        if key == "candidate":
            evidence.unusable |= {one: why for one, why in loaded.unusable.items() if one in selection.run_ids}
        whole = whole and selection.whole
    return found, whole


def _standing_runs(by_key: Mapping[str, Iterable[str]], without: set[str], evidence: Evidence) -> dict[str, list[Run]]:
    """The runs of what stands, but for those that are judged; what cannot be read of it is no baseline, and is said."""
    found: dict[str, list[Run]] = {}
    for key, ids in by_key.items():
        ids = list(ids)
        known = [evidence.runs[run_id] for run_id in ids if run_id in evidence.runs]
        lost = [run_id for run_id in ids if run_id not in evidence.runs]
        evidence.faults += [f"run={run_id}: is in the baseline, and has no row that can be read" for run_id in lost]
        if lost and not known:
            evidence.unread.append(f"none of the runs of a baseline can be read ({key}), such as {lost[0]}")
        elif count := lost_of_those_that_count(ids, evidence.runs):
            _add_unsure(evidence, key, count)
        for own, runs in _by_key(known, without, evidence.faults).items():
            found.setdefault(own, []).extend(runs)
    return found


def lost_of_those_that_count(run_ids: Sequence[str], runs: Mapping[str, Run]) -> list[str]:
    """Return which runs of a baseline cannot be read, of those back to the first that counts, the last first.

    Args:
        run_ids: in the order in which they were accepted.
        runs: those that can be read, by id.
    """
    allocations: set[str] = set()
    lost = []
    for run_id in reversed(run_ids):
        if len(allocations) == MOST_RUNS:
            break
        if run_id in runs:
            allocations.add(runs[run_id].allocation)
        else:
            lost.append(run_id)
    return lost


def _by_key(runs: Iterable[Run], without: set[str], faults: list[str]) -> dict[str, list[Run]]:
    """Completed runs by comparability key, in order; the key is that of today's parts, whatever was written once."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.run_id in without:
            faults.append(f"run={run.run_id}: is judged itself or one of a pair, so not in this baseline")
        elif run.completed:
            found.setdefault(run.key, []).append(run)
        else:
            faults.append(f"run={run.run_id}: {run.ended}, so not in this baseline")
    return found


def _add_kernels(evidence: Evidence) -> None:
    """Read the kernels of the micro runs that are judged, held against or paired."""
    held = [run for by_key in evidence.baselines.values() for runs in by_key.values() for run in runs]
    paired = [run_id for one in evidence.pair_sets for pair in one.pairs for run_id in pair]
    by_root: dict[Path, set[str]] = {}
    for run in (*evidence.candidates, *held, *(evidence.runs[one] for one in paired if one in evidence.runs)):
        if run.parts["benchmark"] == "micro":
            by_root.setdefault(run.root, set()).add(run.run_id)
    kernels: dict[str, dict[Kernel, Row]] = {}
    for root, run_ids in by_root.items():
        found, faults = load_kernels(root, run_ids)
        kernels |= found
        evidence.faults += faults
    evidence.kernels = kernels
    for by_key in evidence.baselines.values():
        for key, runs in by_key.items():
            usable = {run.run_id: run for run in runs if run.run_id in kernels}
            if runs[0].parts["benchmark"] == "micro" and (
                bare := lost_of_those_that_count([run.run_id for run in runs], usable)
            ):
                evidence.faults += [
                    f"run={one}: is in the baseline, and has no kernels that can be read" for one in bare
                ]
                _add_unsure(evidence, key, bare, "kernels")


def _add_unsure(evidence: Evidence, key: str, lost: Sequence[str], what: str = "") -> None:
    """A baseline without some of the runs that count in it is another one."""
    of = f"the {what} of " if what else ""
    whole = f"{of}{len(lost)} of the runs that count in this baseline cannot be read, such as {lost[0]}"
    why = f"{whole}; restore them, or revert it and accept the others"
    if why not in (before := evidence.unsure.get(key, "")):  # the same is accepted and pinned, mostly
        evidence.unsure[key] = "; ".join(filter(None, (before, why)))
