"""Says what runs are held against: accepts, pins, lists, reverts.

    python -m results.baseline accept reason="nightly pass" [run=RUNS] [mark="driver 580"] [results=PATH]
    python -m results.baseline pin reason="release 1.2" [run=RUNS]
    python -m results.baseline list
    python -m results.baseline revert id=BASELINE reason=WHY
    python -m results.baseline retire run=RUNS reason=WHY

accept adds runs to those that `results.check` takes the last 20 of; without run= they are the runs of the store's last
hours in cells that pass the check. pin keeps runs that slow creep shows against, and that nothing moves but another
pin; without run= they are the last 20 accepted of each cell. Both say so where they leave too few for a night of three
to be judged. revert undoes what one command did; the short end of an id will do (id=06f2977c). retire ends a cell
that is measured no more, so that it is not missing. Each is an event with its time, reason and user: nothing is
overwritten.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from results.check.baselines import Event, append, events, faults_of, standing, stands_by_id
from results.check.gather import gather, lost_of_those_that_count
from results.check.judge import judge
from results.check.metrics import of_benchmark
from results.check.runs import Run, load, load_kernels, load_pairs, named_as_of_pairs
from results.check.screen import LEAST_RUNS, MOST_RUNS, SOLE, SUSPECT, least_baseline
from results.check.verdict import Verdict
from results.listing.terminal import show, width_of
from results.selection import SELECTS, select
from results.words import NAMES_ONE, ConfigError, counted, like_id, nearest, printable, root_from

Runs = dict[str, list[str]]  # ids by comparability key
LEAST_COLUMN = 12  # characters, beside a column of ids
VERBS = ("accept", "pin", "list", "revert", "retire")


def passing(root: Path, say: list[str]) -> Runs:
    """Return the runs of the store's last hours whose cells pass the check, by key.

    Args:
        say: gets a line for each cell that does not.

    Raises:
        ConfigError: there are none.
    """
    evidence = gather(root)
    if evidence.unread:
        raise ConfigError(f"accept: nothing passes beside what cannot be read: {evidence.unread[0]}")
    failing: dict[str, str] = {}
    judged: dict[str, None] = {}
    for finding in judge(evidence):
        if finding.candidates:
            judged[finding.key] = None
        if finding.verdict is not Verdict.PASS and finding.key not in failing:
            failing[finding.key] = f"not accepted: {finding.cell}: {finding.metric} {finding.verdict}: {finding.why}"
    say += failing.values()
    runs: Runs = {}
    for run in evidence.candidates:
        if run.completed and run.key in judged and run.key not in failing:
            runs.setdefault(run.key, []).append(run.run_id)
    if evidence.measured and not evidence.candidates and not failing:
        raise ConfigError(f"accept: what was measured tonight in {root} is accepted already")
    if not runs:
        raise ConfigError(
            f"accept: no cell of {root} passes that is not accepted already ({len(failing)} do not pass: "
            "python -m results.check); the first runs of a cell are accepted by run=ID,ID,..."
        )
    return runs


def named(verb: str, root: Path, words: Sequence[str], held: Mapping[str, Sequence[str]], say: list[str]) -> Runs:
    """Return the runs that words mean, by key.

    Args:
        verb: what is to be done with them, for errors.
        held: what is there already, by key; such runs are left out.
        say: gets a line for each run that is left out.

    Raises:
        ConfigError: a word means no run, or none of the runs will do.
    """
    store = load(root)
    paired = load_pairs(root).run_ids | set(filter(named_as_of_pairs, store.by_id))
    found: list[Run] = []
    left: list[str] = []
    for selection in select("run", words, root):
        if selection.root.resolve() != root.resolve():
            raise ConfigError(f"run={selection.root}: is another store; baselines are of runs of their own, {root}")
        for run_id in selection.run_ids:
            run = store.by_id.get(run_id)
            if run is None:
                left.append(f"run={run_id}: {store.unusable.get(run_id, 'has no row that can be read')}")
            elif not run.completed:
                left.append(f"run={run_id}: {run.ended}; a baseline is of completed runs")
            elif run_id in paired:
                left.append(f"run={run_id}: is one of interleaved pairs, which share an allocation")
            elif run_id in held.get(run.key, ()):
                left.append(f"run={run_id}: is accepted already")
            else:
                found.append(run)
    bare = _bare(root, found) if verb != "retire" else set()
    left += [f"run={run.run_id}: has no kernels that can be read" for run in found if run.run_id in bare]
    found = [run for run in found if run.run_id not in bare]
    if not found:
        raise ConfigError(f"{verb}: no run of {len(left)} will do; {left[0]}")
    say += [f"left out {line}" for line in left]
    runs: Runs = {}
    for run in sorted(found, key=lambda run: (run.started, run.run_id)):
        runs.setdefault(run.key, []).append(run.run_id)
    return runs


def _list(root: Path) -> int:
    history, faults = events(root)
    for fault in faults:
        print(f"results.baseline: {printable(fault)}", file=sys.stderr)
    if not history and faults:
        return 1
    if not history:
        print(f"no baselines in {root}: python -m results.baseline accept run=ID,ID,... reason=WHY")
        return 0
    runs = load(root).by_id
    keys = {run_id: run.key for run_id, run in runs.items()}
    labels, state = {run.key: run.label for run in runs.values()}, standing(history, keys)
    for run_id in _bare(root, runs.values()):
        del runs[run_id]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False, title="what stands")
    for head in ("cell", "accepted", "counted", "newest accepted run", "pinned"):
        table.add_column(
            head, justify="right" if head in ("accepted", "counted", "pinned") else "left", overflow="fold",
            no_wrap=head == "newest accepted run",
        )  # fmt: skip
    for key in dict.fromkeys((*state.accepted, *state.pinned)):
        accepted, pinned = state.accepted.get(key, []), state.pinned.get(key, [])
        label = labels.get(key, f"no run of it in the store ({key})")
        used = str(min(sum(one in runs for one in accepted), MOST_RUNS))
        if lost := lost_of_those_that_count(accepted, runs):
            used += f" ({len(lost)} cannot be read)"
        table.add_row(label, str(len(accepted)), used, accepted[-1] if accepted else "-", str(len(pinned) or "-"))
    log = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False, title="what was said")
    for head in ("id", "kind", "when", "by", "cells", "runs", "reason"):
        log.add_column(head, overflow="fold", no_wrap=head == "id")
    odd, stands = faults_of(history), stands_by_id(history)
    by_id: dict[str, list[Event]] = {}
    for event in history:
        by_id.setdefault(event.baseline_id or event.key, []).append(event)
    for one, said in by_id.items():
        first = said[0]
        when = f"{first.accepted_at:%F %H:%M}" if first.accepted_at.year > 1970 else "-"
        reason = "; ".join(filter(None, (printable(first.reason), *map(printable, first.change_marks))))
        reason += f" (reverts {first.reverts.rpartition('-')[2]})" if first.reverts else ""
        count = str(sum(len(event.run_ids) for event in said))
        kind = printable(first.kind) + " (cannot be read)" * (first in odd) + " (reverted)" * (not stands(one))
        log.add_row(one, kind.strip(), when, printable(first.accepted_by), str(len(said)), count, reason)
    _keep_whole(table, [ids[-1] for ids in state.accepted.values() if ids])
    _keep_whole(log, by_id)
    show(table, Text(), log)
    return 0


def _keep_whole(table: Table, ids: Iterable[str]) -> None:
    """Let a table be wider than a line where its column of ids would be cut: they are there to be copied."""
    least = max(map(len, ids), default=0) + LEAST_COLUMN * (len(table.columns) - 1)
    if least > width_of(sys.stdout):
        table.width = least


def _bare(root: Path, runs: Iterable[Run]) -> set[str]:
    """Runs of kernels of which no kernel can be read: there is nothing to hold anything against."""
    micro = {run.run_id for run in runs if run.parts["benchmark"] == "micro"}
    return micro - load_kernels(root, micro)[0].keys() if micro else set()


@dataclass(frozen=True)
class Task:
    """One command, with its words checked."""

    verb: str
    root: Path
    given: Mapping[str, Sequence[Any]]


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Change the baselines of a store as the only command, for the `with` block; others wait, and see what it did."""
    folder = os.open(root, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a filesystem without locks: at worst an event is there twice
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _do(task: Task) -> int:
    if task.verb == "list":
        return _list(task.root)
    with _alone(task.root):
        return _change(task)


def _change(task: Task) -> int:
    history, faults = events(task.root)
    if faults and task.verb != "revert":
        raise ConfigError(
            f"{task.verb}: not all of the baselines can be read, so what stands is not known: {faults[0]}"
        )
    say = list(faults)
    known = load(task.root).by_id
    state = standing(history, {run_id: run.key for run_id, run in known.items()})
    words, reason = task.given.get("run", []), task.given["reason"][0]
    reverts = None
    if task.verb == "revert":
        reverts = _reverted(task.given["id"][0], history)
        runs: Runs = {event.key: [] for event in history if event.baseline_id == reverts}
    elif task.verb == "accept":
        runs = named(task.verb, task.root, words, state.accepted, say) if words else passing(task.root, say)
    elif task.verb == "retire":
        runs = named(task.verb, task.root, words, {}, say)
        if strange := [ids[0] for key, ids in runs.items() if key not in state.accepted and key not in state.pinned]:
            raise ConfigError(f"retire: run={strange[0]}: {known[strange[0]].label} has no baseline")
    elif words:
        runs = named(task.verb, task.root, words, {}, say)
    else:
        runs = {key: [one for one in ids if one in known][-MOST_RUNS:] for key, ids in state.accepted.items()}
        runs = {key: ids for key, ids in runs.items() if ids}
        if not runs:
            raise ConfigError(f"pin: nothing is accepted in {task.root}; name runs with run=ID,ID,...")
    for line in say:
        print(f"results.baseline: {printable(line)}", file=sys.stderr)
    marks = task.given.get("mark", [])
    try:
        baseline_id = append(task.root, task.verb, runs, reason=reason, reverts=reverts, change_marks=marks)
    except OSError as error:
        raise ConfigError(
            f"{task.verb}: {task.root / 'baselines'}: {error.strerror or error}; nothing is said"
        ) from None
    count = sum(map(len, runs.values()))
    said = f"{baseline_id}: {task.verb}, {counted(len(runs), 'cell')}"
    print(f"{said}, {counted(count, 'run')}" if count else said)
    after = standing(events(task.root)[0], {run_id: run.key for run_id, run in known.items()})
    if reverts and after == state:
        print("results.baseline: nothing that stands changed by it", file=sys.stderr)
    if task.verb in ("accept", "pin"):
        held = after.pinned if task.verb == "pin" else after.accepted
        if few := _too_few(task.verb, [[known[one] for one in held.get(key, ()) if one in known] for key in runs]):
            print(printable(few))
    return 0


def _too_few(verb: str, baselines: Iterable[Sequence[Run]]) -> str:
    """Return which cell lacks most runs for a check of the least candidates, in one line; empty where none does.

    Args:
        verb: accept or pin.
        baselines: of each cell, the runs that stand now.
    """
    lacking = []
    for runs in filter(None, baselines):
        # Kernels are no metrics of `runs`, and are timed as well.
        rule = SUSPECT if all(one.timed for one in of_benchmark(str(runs[0].parts["benchmark"]))) else SOLE
        count, needed = len({run.allocation for run in runs}), least_baseline(LEAST_RUNS, rule)
        if count < needed:
            why = f"{LEAST_RUNS} against {count} cannot reach p < {rule.level:g}; {needed} are needed: {runs[0].label}"
            lacking.append((needed - count, why))
    if not lacking:
        return ""
    others = f" (and {counted(len(lacking) - 1, 'other cell')})" if len(lacking) > 1 else ""
    end = "accept more runs" if verb == "accept" else "a pin stays as it is until you pin again, with more runs"
    return f"too few for a check of {LEAST_RUNS} runs: {max(lacking)[1]}{others}; {end}"


def _reverted(word: str, history: Sequence[Event]) -> str:
    ids = list(dict.fromkeys(event.baseline_id for event in history if event.baseline_id))
    found = [one for one in ids if one == word] or [one for one in ids if one.startswith(word) or one.endswith(word)]
    if len(found) != 1:
        near = f"; nearest is id={like}" if (like := like_id(word, ids)) else ""
        none = f"no such baseline{f'; {NAMES_ONE}{near}' if ids else ': there are none'}"
        raise ConfigError(f"id={word}: {f'{len(found)} have it' if found else none}")
    stands = stands_by_id(history)
    if not stands(found[0]):
        by = [event.baseline_id for event in history if event.reverts == found[0] and stands(event.baseline_id)]
        raise ConfigError(f"id={word}: is reverted already, by {by[0]}; revert that to undo it")
    return found[0]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values

    @dataclass(kw_only=True)
    class Keys:
        run: str | None = key("runs", "those that pass (accept), the last accepted (pin)", text=SELECTS)
        reason: str | None = key("why, for whoever asks later", "required, but for list", text="a text", one=True)
        mark: str | None = key("a known change that comes with it, shown in histories", "none", text="a text")
        id: str | None = key(
            "what revert undoes, as list shows it",
            "required by revert",
            text="an id or its short end (06f2977c)",
            one=True,
        )
        results: str | None = key("the store", "results/v1 of the checkout", path=True, one=True)

    def read(typed: list[str]) -> Task:
        verbs = [word for word in typed if "=" not in word]
        given = values([word for word in typed if "=" in word], Keys)
        verb = verbs[0] if verbs else ""
        if verb not in VERBS:
            near = f"; nearest is {nearest(verb, VERBS)}" if verb else ""
            raise WordError(f"{verb or 'nothing'}: say one of {', '.join(VERBS)}{near} (--help has examples)")
        if len(verbs) > 1:
            raise WordError(f"{verbs[1]}: {verb} is said already, and the rest is key=value")
        meant = {
            "accept": ("run", "reason", "mark"), "pin": ("run", "reason", "mark"), "list": (),
            "revert": ("id", "reason"), "retire": ("run", "reason"),
        }[verb]  # fmt: skip
        for name in given:
            if name != "results" and name not in meant:
                takes = ", ".join(f"{one}=" for one in (*meant, "results"))
                raise WordError(f"{name}={given[name][0]}: {verb} takes {takes}")
        for name in meant:
            if name in {"reason", "id"} | ({"run"} if verb == "retire" else set()) and name not in given:
                raise WordError(f"{name} is missing: {verb} needs {name}=")
        if "reason" in given and not given["reason"][0].strip():
            raise WordError(f"reason=: {verb} needs a reason")
        return Task(verb, root_from(given), given)

    return command.run("results.baseline", __doc__, Keys, read, _do, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
