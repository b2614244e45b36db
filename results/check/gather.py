"""Collects what a check judges: candidates, baselines, pairs and kernels of a store."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from results.check.baselines import events, standing
from results.check.cells import Evidence, same_cell
from results.check.runs import (
    AHEAD,
    NEVER,
    Kernel,
    Run,
    Runs,
    began,
    changed,
    kind_of,
    load,
    load_kernels,
    load_pairs,
    named_as_of_pairs,
    written,
)  # fmt: skip
from results.check.screen import MOST_RUNS
from results.recover import dead_journals
from results.selection import Selection, select
from results.store.load import stem
from results.store.schema import Row
from results.words import ConfigError, counted

__all__ = ["HOURS", "KINDS", "gather", "lost_of_those_that_count"]

KINDS = ("accepted", "pinned")
HOURS = 20.0  # a night's runs, and not those of the night before
MARGIN = 1 / 5  # of them, to the day: a check a day sees every run


def gather(
    root: Path, candidate: Sequence[str] = (), baseline: Sequence[str] = (), against: Sequence[str] = KINDS,
    hours: float = HOURS, now: datetime | None = None, loaded: Runs | None = None,
) -> Evidence:  # fmt: skip
    """Collect the evidence for a check.

    Args:
        root: of the store with the baselines.
        candidate: words of `results.selection.select`; none for the runs of the last hours that no baseline has. Of a
            cell those of a commit that is not known or had changes do not count beside a commit that is new.
        baseline: likewise, in place of those that were accepted and pinned.
        against: which of `KINDS` to hold candidates against.
        hours: how long ago a candidate may have begun.
        now: the time; None for that of the clock.
        loaded: the runs of the store, of which some may be taken out; None: they are read.

    Raises:
        ConfigError: a word means no run, or there is nothing to hold anything against.
    """
    now = now or datetime.now(UTC)
    store, pairs, (history, unread) = _load(root, loaded), load_pairs(root), events(root)
    runs = dict(store.by_id)
    state = standing(history, {run_id: run.key for run_id, run in runs.items()})
    evidence = Evidence(
        root=root, candidates=[], whole=True, baselines={kind: {} for kind in KINDS}, runs=runs, pair_sets=pairs.sets,
        faults=store.faults, unread=[*pairs.unread, *unread, *store.unlisted],
    )  # fmt: skip
    paired = pairs.run_ids | set(filter(named_as_of_pairs, runs))
    since = now - timedelta(hours=hours)
    held = {run_id for by_key in (state.accepted, state.pinned) for ids in by_key.values() for run_id in ids}
    if candidate:
        named, evidence.whole = _select("candidate", candidate, store, evidence, paired, held, now)
        if spare := [run.run_id for run in named if run.run_id in paired]:
            evidence.faults.append(
                f"{counted(len(spare), 'run')} of pairs left out, such as {spare[0]}: they confirm, no more"
            )
        evidence.candidates = [run for run in named if run.run_id not in paired]
    else:
        if bare := sorted(one for one in paired - pairs.run_ids if runs[one].started > since):
            evidence.faults.append(
                f"{counted(len(bare), 'run')} left out, such as {bare[0]}: named as of pairs that are not there"
            )
        spoken_for = paired | held
        fresh = [run for run in runs.values() if run.run_id not in spoken_for]
        for run, when, why in _without_time(fresh, now):
            if when > since:
                evidence.unusable[run.run_id] = why
            elif run.started != NEVER:
                evidence.faults.append(f"run={run.run_id}: left out, {why}")
        left = {**store.unread, **store.unusable}
        evidence.spoilt = {one: why for one, why in left.items() if one not in spoken_for and store.began[one] > since}
        known = {key: {runs[one].commit for one in ids if one in runs} for key, ids in state.accepted.items()}
        evidence.candidates = _that_count([run for run in fresh if since < run.started <= now + AHEAD], known, evidence)
        _add_those_before(fresh, since, timedelta(hours=hours), evidence)
        # What was accepted tonight already was measured tonight.
        evidence.measured = {runs[one].key for one in held if one in runs and since < runs[one].started <= now + AHEAD}
        if not evidence.candidates and not evidence.measured and runs:
            last = max((run.started for run in runs.values() if NEVER < run.started <= now + AHEAD), default=None)
            newest = f"; the newest began {last:%F %H:%M} UTC" if last else ""
            evidence.faults.append(f"no new run of the last {hours:g} hours{newest}")
    evidence.candidates.sort(key=lambda run: (run.started, run.run_id))
    own = {run.run_id for run in evidence.candidates}
    if baseline:
        lost: dict[str, datetime] = {}
        named, _ = _select("baseline", baseline, store, evidence, paired, held, now, lost)
        named.sort(key=lambda run: (run.started, run.run_id))
        evidence.baselines = {"accepted": _by_key(named, own | paired, evidence.faults), "pinned": {}}
        held = {run.run_id for run in named}
        _add_lost_of_named({one: when for one, when in lost.items() if one not in own}, evidence)
    else:
        evidence.baselines = {
            kind: _standing_runs(getattr(state, kind), own, evidence) if kind in against else {} for kind in KINDS
        }
        if list(against) == ["pinned"] and not state.pinned:
            raise ConfigError(f"against=pinned: nothing is pinned in {root}: python -m results.baseline pin reason=WHY")
    evidence.same = bool(held) and held <= own
    _add_kernels(evidence)
    return evidence


def _load(root: Path, loaded: Runs | None = None) -> Runs:
    """The runs of a store; one that died and left its journal alone is one of which the file cannot be read."""
    dead = dead_journals(root)  # before the rows: what ends or is recovered meanwhile has some by then
    store = load(root) if loaded is None else loaded
    for one in dead:
        if one.path.suffix != ".jsonl":
            store.unlisted.append(str(one))
            continue
        run_id, restart = stem(one.path.name.removesuffix(".jsonl"))
        attempt = int(restart) if restart.isdecimal() else math.inf
        before = store.by_id.get(run_id)
        if named_as_of_pairs(run_id) or (before and attempt <= (before.row["restart_count"] or 0)):
            continue  # it would confirm, no more; or its row is there, and it died before the rest was
        store.by_id.pop(run_id, None)
        why = f"{one.path}: {one.reason}: python -m results.recover results={root}"
        store.unread.setdefault(run_id, why)
        store.began.setdefault(run_id, began(run_id) or changed(one.path))
        store.faults.append(why)
    return store


def _without_time(runs: Iterable[Run], now: datetime) -> list[tuple[Run, datetime, str]]:
    """Runs that do not say when they began, or a time yet to come, and why; when that was by the id, or else the file.

    A file that is old makes no run of it tonight's: such a run is named in the night in which it was written.
    """
    odd: dict[Path, list[Run]] = {}
    for run in runs:
        if run.started == NEVER or run.started > now + AHEAD:
            odd.setdefault(run.root, []).append(run)
    found = []
    for root, of_root in odd.items():
        files = written(root, [run.run_id for run in of_root])
        for run in of_root:
            named = began(run.run_id)
            when = named if named and named <= now + AHEAD else files.get(run.run_id, NEVER)
            late = f"it began {run.started:%F %H:%M} UTC, which is yet to come"
            found.append((run, when, "its row does not say when it began" if run.started == NEVER else late))
    return found


def _that_count(fresh: list[Run], known: Mapping[str, set[str | None]], evidence: Evidence) -> list[Run]:
    """Those of tonight's runs that count: of every commit, since the good ones of one say nothing of another.

    Runs that nobody can check out count only where no commit of their cell is new: somebody tried something.

    Args:
        known: by key, commits that were accepted.
    """
    by_shape: dict[object, list[Run]] = {}
    for run in fresh:
        by_shape.setdefault(run.shape, []).append(run)
    found: list[Run] = []
    spare: list[tuple[Run, Run]] = []
    for alike in by_shape.values():
        new = [run for run in alike if run.clean and run.commit not in known.get(run.key, ())]
        for run in alike:
            beside = None if run.clean else next((one for one in new if same_cell(run, one)), None)
            if beside is None:
                found.append(run)
            else:
                spare.append((run, beside))
    if spare:
        run, beside = spare[0]
        what = (
            f"{counted(len(spare), 'run')} of changed or unknown commits left out beside those of {beside.commit_label}"
        )
        evidence.faults.append(f"{what}, such as {run.run_id}")
    return found


def _add_those_before(fresh: list[Run], since: datetime, night: timedelta, evidence: Evidence) -> None:
    """Add runs of just before the night that are of a cell and a clean commit of it: the border cuts no commit in two.

    From the border back, while none is further from the next than `MARGIN`, and for as long as a night: those of the
    night before were judged then, and what failed in it is no alarm in every night after.

    Args:
        fresh: in no baseline and no pairs.
        since: when the night began.
        night: how long it is.
    """
    by_commit: dict[tuple[object, str | None], list[Run]] = {}
    for run in evidence.candidates:
        if run.clean:
            by_commit.setdefault((run.shape, run.commit), []).append(run)
    border = dict.fromkeys(by_commit, since)
    own = []
    for run in sorted(fresh, key=lambda one: one.started, reverse=True):
        of = run.shape, run.commit
        if not since - night < run.started <= since or not any(same_cell(run, one) for one in by_commit.get(of, ())):
            continue
        if border[of] - run.started <= MARGIN * night:
            border[of] = run.started
            own.append(run)
    if own:
        evidence.candidates += own
        evidence.before = frozenset(run.run_id for run in own)
        evidence.faults.append(
            f"{counted(len(own), 'run')} from before the last {night / timedelta(hours=1):g} hours counted in, such as "
            f"{own[-1].run_id}: no baseline has them, and their commit was measured since"
        )


def _select(
    key: str, words: Sequence[str], store: Runs, evidence: Evidence, paired: set[str], held: set[str], now: datetime,
    lost: dict[str, datetime] | None = None,
) -> tuple[list[Run], bool]:  # fmt: skip
    """The runs that words mean; those of other stores, and their pairs, join those that are known.

    Args:
        lost: gets what a baseline's words mean and cannot be read, with when it began, by id.
    """
    found: list[Run] = []
    whole = True
    for selection in select(key, words, evidence.root):
        loaded = store
        if selection.root.resolve() != evidence.root.resolve():
            loaded = _load(selection.root)  # a folder means all that it has
            pairs = load_pairs(selection.root)
            evidence.pair_sets = [*evidence.pair_sets, *pairs.sets]
            evidence.unread += [*pairs.unread, *loaded.unlisted]
            evidence.faults += loaded.faults
            if key == "candidate":
                evidence.spoilt |= {one: line for one, line in loaded.unread.items() if one not in pairs.run_ids}
            paired |= pairs.run_ids
            for run_id, run in loaded.by_id.items():
                if run_id in evidence.runs:
                    evidence.faults.append(f"run={run_id}: is in {selection.root} too; that of {evidence.root} counts")
                else:
                    evidence.runs[run_id] = run
        chosen = [evidence.runs[run_id] for run_id in selection.run_ids if run_id in evidence.runs]
        if key == "candidate":
            evidence.unusable |= {one: why for one, why in loaded.unusable.items() if one in selection.run_ids}
            evidence.unusable |= {one: why for one, why in loaded.unread.items() if one in selection.exact}
            chosen = _with_what_is_lost(chosen, selection, loaded, evidence, paired | held, now)
        elif lost is not None:
            meant = _meant(chosen, selection, now)
            folder = not (selection.exact or selection.starts or selection.rows_say)
            ids = {one for one in loaded.unread if folder or meant(one, loaded.began[one])}
            ids |= loaded.unusable.keys() & set(selection.run_ids)
            lost |= {one: loaded.began[one] for one in ids - paired}
        found += chosen
        whole = whole and selection.whole
    return found, whole


def _with_what_is_lost(
    chosen: list[Run], selection: Selection, store: Runs, evidence: Evidence, spoken_for: set[str], now: datetime
) -> list[Run]:
    """Add what cannot be read or dated of what a day, a commit or a job means; return the runs that are left.

    Which commit or job is not known of a run that cannot be read: it counts where it is of the same night.

    Args:
        spoken_for: runs that a baseline or pairs have.
    """
    if not (selection.starts or selection.rows_say):
        return chosen
    meant = _meant(chosen, selection, now)
    left = {one: why for one, why in store.unread.items() if one not in spoken_for and one not in selection.exact}
    evidence.spoilt |= {one: why for one, why in left.items() if meant(one, store.began[one])}
    undated = [run for run in store.by_id.values() if run.started == NEVER and run.run_id not in selection.exact]
    for run, when, why in _without_time(undated, now):
        if run.run_id not in spoken_for and meant(run.run_id, when):
            evidence.unusable[run.run_id] = why
    return [run for run in chosen if run.run_id not in evidence.unusable]


def _meant(chosen: list[Run], selection: Selection, now: datetime) -> Callable[[str, datetime], bool]:
    """What says whether a run, of which only its id and when it began are known, is meant beside those that are."""
    times = [run.started for run in chosen if NEVER < run.started <= now + AHEAD]
    night = timedelta(hours=HOURS)

    def meant(run_id: str, when: datetime) -> bool:
        if run_id in selection.run_ids or run_id.startswith(selection.starts):
            return True
        near = bool(times) and min(times) - night < when < max(times) + night
        return near and (selection.rows_say or (bool(selection.starts) and began(run_id) is None))

    return meant


def _add_lost_of_named(lost: Mapping[str, datetime], evidence: Evidence) -> None:
    """A run that a named baseline would count, and that cannot be read, makes it another baseline.

    Args:
        lost: when those began that are meant and cannot be read, by id.
    """
    for key, runs in evidence.baselines["accepted"].items():
        kinds = {kind_of(run.run_id) for run in runs}
        when = {run.run_id: run.started for run in runs}
        when |= {one: at for one, at in lost.items() if kind_of(one) in kinds and one not in evidence.spoilt}
        ids = sorted(when, key=lambda one: (when[one], one))
        if bare := lost_of_those_that_count(ids, {run.run_id: run for run in runs}):
            _add_unsure(evidence, key, bare, mend="name others by baseline=")


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


def _add_unsure(
    evidence: Evidence, key: str, lost: Sequence[str], what: str = "", mend: str = "revert it and accept the others"
) -> None:
    """A baseline without some of the runs that count in it is another one."""
    of = f"the {what} of " if what else ""
    whole = f"{of}{len(lost)} of the runs that count in this baseline cannot be read, such as {lost[0]}"
    why = f"{whole}; restore them, or {mend}"
    if why not in (before := evidence.unsure.get(key, "")):  # the same is accepted and pinned, mostly
        evidence.unsure[key] = "; ".join(filter(None, (before, why)))
