"""Runs pairs of runs in turn, side a and side b, until it is settled whether b is worse than a.

    python -m bench.pairs a=commit:HEAD~1 depth=20 dataset=digits
    python -m bench.pairs a=commit:v0.3.0 b=commit:main depth=20 dataset=digits
    python -m bench.pairs a="kernels=torch" b="kernels=triton" depth=50 metric=step_ms_p50
    python -m bench.pairs a="commit:HEAD~1 kernels=torch" b="kernels=auto" depth=50

A side is a commit, words of a run, or both; without a commit it is this checkout as it is. All other words are those of
both sides, as launch/local.py takes them. A commit is checked out into a folder that is removed afterwards, and runs
with this Python. Each side first runs two steps that do not count, so that neither pays for what both then find
compiled or cached. Then pairs go a b, b a, a b, ..., both runs of a pair with one seed, the next pair with the next
one: eight pairs at most, 16 runs. They stop as soon as not all can go one way, since nothing is confirmed then; where b
is worse by more than 1% in the median all the same, nothing is ruled out either, and it is not settled.

Each pair is kept as it ends (tables `runs` and `pairs`), for `python -m results.check` to read, which takes all pairs
of the same commits as one sequence: what they say first stands, and to run them again does not change it. Inside a
Slurm allocation the runs go there, through srun where a run has several nodes. Exit status: 0 where b is no worse, 1
where it is confirmed to be worse, 2 where nothing could be measured, 3 where it is not settled.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.table import Table

from bench.config import command, grammar, paths
from bench.config.command import Terminal
from bench.config.environment import RUN_ID_VARIABLE
from bench.config.grammar import WordError, key
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.measure.metrics import WARMUP_STEPS
from bench.pairs import checkouts, interleave, scratch
from bench.pairs.checkouts import Checkout
from bench.pairs.interleave import METRICS, Pair, Run
from bench.pairs.process import Allocation, Ended, Starter, allocation
from bench.pairs.sides import SIDES, Side, read_side
from results.check.confirm import PAIRS, Confirmation
from results.identity import new_run_id
from results.statistics import median_interval
from results.store.files import read_rows
from results.words import DEFAULT_ROOT, PATH_KEYS, ConfigError

PIPE_WIDTH = 120
WARM_UP_STEPS = 2
NEED_STEPS = ("images_per_s", "step_ms_p50", "step_ms_p95", "mfu")  # null in a run no longer than its warm-up
STATUSES = {"same": 0, "better": 0, "worse": 1, "unclear": 3, "open": 3}
OUTCOMES = {
    "worse": "b is worse than a",
    "better": "b is better than a",
    "same": "no difference is shown",
    "unclear": "b is neither confirmed to be worse nor shown not to be",
    "open": "not settled",
}


@dataclass(kw_only=True)
class Keys(RunKeys):
    """The keys of the command and those of a run."""

    a: str | None = key(
        'what b is held against: "commit:REVISION", "KEY=VALUE ..." or both', "required", text="a side", one=True
    )
    b: str | None = key("what is held against a, likewise", "this checkout as it is", text="a side", one=True)
    metric: str = key(
        "what decides: a figure of a run", "images_per_s", default="images_per_s", choices=tuple(METRICS), one=True
    )
    cluster: str | None = key("site profile, as launch/slurm.py takes it", "default", one=True)


class Unsettled(Exception):
    """A run did not complete, so that what pairs would say stays open; the message is one line."""


@dataclass(frozen=True)
class Task:
    """A command line, checked.

    Attributes:
        commits: whole hash by side; None is this checkout.
        steps: optimizer steps of a run that does not count.
    """

    pairs_id: str
    sides: dict[str, Side]
    commits: dict[str, str | None]
    metric: str
    seed: int
    steps: int
    root: Path
    where: Allocation


def read(words: Sequence[str]) -> Task:
    """Check a command line; nothing is started or written.

    Raises:
        ValueError: one line that names the first word that cannot be used.
    """
    given = grammar.values(words, Keys)
    paths.check_temporary()  # checkouts and rows lie there until the end
    for name, found in given.items():
        if len(found) > 1:
            raise WordError(f"{name}: {len(found)} values; a side is one configuration, so one value a key")
    typed = {name: found[0] for name, found in given.items()}
    if "a" not in typed:
        raise WordError('a is missing: add a=commit:HEAD~1, or a="kernels=torch"; --help says what a side is')
    own = ("a", "b", "metric", "cluster", "seed", "results")
    common = [word for word in words if word.partition("=")[0] not in own]
    pairs_id, cluster = new_run_id("pairs"), typed.get("cluster")
    sides, keys = {}, {}
    for name in SIDES:
        sides[name], keys[name] = read_side(name, typed.get(name, ""), common)
        if cluster is None:  # whose profile says where images are, and is the launcher's to read
            # The launcher counts GPUs.
            resolve(replace(keys[name], results=typed.get("results")), Host(ranks_per_node=1))
    metric = typed.get("metric", "images_per_s")
    for name in SIDES:
        steps = keys[name].steps
        if metric in NEED_STEPS and steps is not None and steps <= WARMUP_STEPS:
            raise WordError(
                f"{name}: steps={steps}: {metric} counts after the {WARMUP_STEPS} steps of the warm-up; nearest is "
                f"steps={WARMUP_STEPS + 1}"
            )
    seed = typed.get("seed", 0)
    if seed + PAIRS > 2**31:
        raise WordError(f"seed={seed}: seeds count up from it, one a pair; nearest is seed={2**31 - PAIRS}")
    commits = {
        name: None if side.revision is None else checkouts.find_commit(name, side.revision)
        for name, side in sides.items()
    }
    return Task(
        pairs_id=pairs_id,
        sides=sides,
        commits=commits,
        metric=metric,
        seed=seed,
        steps=min(typed.get("steps", WARM_UP_STEPS), WARM_UP_STEPS),
        root=paths.check_folder("results", typed.get("results") or str(DEFAULT_ROOT)),
        where=allocation(keys["a"].nodes or 1, cluster, pairs_id, os.environ),
    )


class Session:
    """One command at work: its checkouts, its runs, and what is said of them.

    Args:
        task: what is compared.
        starter: starts runs.
        places: checkout by side.
    """

    def __init__(self, task: Task, starter: Starter, places: dict[str, Checkout]) -> None:
        self.task, self.starter, self.places = task, starter, places

    def warm_up(self, side: str) -> None:
        """Run a side's first steps; what they find out is kept by no one, but for a failure.

        Raises:
            Unsettled: the run failed.
        """
        self._say(f"{side}: {self.places[side]}, {self.task.steps} steps that do not count")
        rest = [word for word in self._words(side, self.task.seed) if not word.startswith("steps=")]
        ended = self._start(side, [*rest, f"steps={self.task.steps}"], f"{self.task.pairs_id}-{side}")
        if ended.status:
            self._fail(side, ended)
        if self.starter.where.nodes:
            self._check_id(side, f"{self.task.pairs_id}-{side}")
        scratch.empty(self.starter.folder)

    def run(self, side: str, number: int, position: int, seed: int) -> Run:
        """Run one side of a pair and bring its rows into the store.

        Raises:
            Unsettled: it did not complete, or was not a run of its checkout.
            ConfigError: it has no figure to compare.
        """
        started = datetime.now(UTC)
        words = self._words(side, seed)
        ended = self._start(side, words, f"{self.task.pairs_id}-p{number:02d}{side}")
        if ended.status:
            self._fail(side, ended)
        place = self.places[side]
        if place.path == checkouts.ROOT and checkouts.this_checkout() != place:
            raise Unsettled(f"{side}: {place.path} was changed while it ran; b and a are measured with one state of it")
        rows = scratch.ended_rows(self.starter.folder)
        if len(rows) != 1 or rows[0]["status"] != "completed":
            raise Unsettled(f"{side}: its run wrote {len(rows)} rows, expected the one of a completed run")
        commit = rows[0].get("git_commit")
        if None not in (commit, place.commit) and commit != place.commit:
            raise Unsettled(f"{side}: run {rows[0]['run_id']} is of commit {commit}, expected {place.commit}")
        value = interleave.figure(rows[0], self.task.metric)
        kept = tuple(word for word in words if word.partition("=")[0] not in PATH_KEYS)
        columns = {
            "pair": number, "side": side, "position": position, "commit": place.commit, "words": kept,
            "allocation": self.task.where.name, "started": started,
        }  # fmt: skip
        scratch.take_rows(self.starter.folder, self.task.root, columns)
        scratch.empty(self.starter.folder)
        self._say(f"pair {number} {side}: {_shown(value)} {self.task.metric} (seed {seed})")
        return Run(side, value, rows[0])

    def _words(self, side: str, seed: int) -> list[str]:
        return [*self.task.sides[side].words, f"seed={seed}"]

    def _start(self, side: str, words: Sequence[str], run_id: str) -> Ended:
        try:
            return self.starter.run(self.places[side], words, run_id)
        except WordError as error:
            raise WordError(f"{side}: {error}") from None

    def _check_id(self, side: str, run_id: str) -> None:
        """See that the side's code can tell its runs in one job apart."""
        rows, _ = read_rows(self.starter.folder / scratch.STORE, "runs")
        if run_id not in {row["run_id"] for row in rows}:
            raise ConfigError(
                f"{side}: {self.places[side]} names each run after the Slurm job alone ({RUN_ID_VARIABLE} is newer); "
                f"take a later commit, or nodes=1 on a node of the job"
            )

    def _fail(self, side: str, ended: Ended) -> None:
        rows = scratch.take_rows(self.starter.folder, self.task.root)
        scratch.take_logs(self.starter.folder, self.task.root)
        where = str(self.task.root / "jobs")
        said = ended.said.replace(str(self.starter.folder / scratch.STORE / "jobs"), where)
        if self.starter.where.nodes and rows:
            said = f"{rows[-1]['status']} ({rows[-1]['failure_kind']}): {rows[-1]['failure_message']} (logs in {where})"
        raise Unsettled(f"{side}: its run ended with status {ended.status}: {said}")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def run(task: Task) -> int:
    """Run the pairs of a task and say what they say; see the module for the exit status."""
    done: list[Pair] = []
    said = Confirmation("open", 0, 0.0)
    try:
        with _session(task) as session:
            for side in SIDES:
                session.warm_up(side)
            for pair, so_far in interleave.run_pairs(task.metric, task.seed, session.run):
                done.append(pair)
                said = so_far
    except ConfigError:
        raise
    except (Unsettled, OSError) as error:
        print(f"bench.pairs: {' '.join(str(error).split())}", file=sys.stderr)
        return STATUSES["open"]
    finally:
        with scratch.undisturbed():
            _show(task, done, said)
    return STATUSES[said.outcome]


@contextlib.contextmanager
def _session(task: Task) -> Iterator[Session]:
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(scratch.only_one())
        scratch.clear_dead(task.root)
        folder = stack.enter_context(scratch.scratch(task.root, task.pairs_id))
        places = {name: checkouts.this_checkout() for name, commit in task.commits.items() if commit is None}
        if len(places) < len(SIDES):
            shared = task.where.nodes > 0
            parent = stack.enter_context(scratch.checkouts_folder(folder, task.pairs_id, shared=shared))
            for name, commit in task.commits.items():
                if commit is not None:
                    places[name] = stack.enter_context(checkouts.worktree(name, commit, parent / name))
        yield Session(task, Starter(folder=folder, lock=lock, where=task.where), places)


def _show(task: Task, done: Sequence[Pair], said: Confirmation) -> None:
    """Print the pairs and, in one line, what they say."""
    if not done:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for head in ("pair", "order", "seed", f"a {task.metric}", f"b {task.metric}", "b worse by"):
        table.add_column(head, justify="left" if head == "order" else "right")
    for pair in done:
        sides = " ".join(run.side for run in pair.runs)
        values = [_shown(pair.value(side)) for side in SIDES]
        table.add_row(str(pair.number), sides, str(pair.seed), *values, f"{pair.change:+.2%}")
    console = Terminal(PIPE_WIDTH)
    console.print(table)
    found = median_interval([pair.value("b") for pair in done], [pair.value("a") for pair in done])
    of = f"median of {len(done)}" + (", too few for 95%" if (found.level or 0.0) < 0.95 else "")
    ratio = f"{found.ratio:.3f} (one pair)" if len(done) == 1 else f"{found} ({of})"
    stopped = "stopped before it was settled" if said.outcome == "open" else interleave.why(done, said)
    console.print(
        f"{OUTCOMES[said.outcome]}: {task.metric} of b / a is {ratio}; "
        f"{2 * len(done)} of at most {2 * PAIRS} runs: {stopped}",
        soft_wrap=True,
        markup=False,
    )
    console.print(f"pairs {task.pairs_id} in {task.root}", soft_wrap=True, markup=False)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.pairs", __doc__, Keys, read, run, words, goes_on=True)
