"""The commands after submission: python launch/slurm.py status|wait|tail|cancel|retry [SWEEP] [KEY=VALUE ...]."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.config import command
from bench.config.grammar import WordError, key, values
from launch.batch.script import BatchError
from launch.sweep import table
from launch.sweep.change import cancel, retry
from launch.sweep.choose import Chosen, choose, stores
from launch.sweep.follow import tail, wait
from launch.sweep.status import SweepState, look
from launch.sweep.verbs import VERBS
from results.words import nearest, root_from

USAGE = """\
Says what became of the jobs of a sweep, follows them, ends them, or begins them again.
python launch/slurm.py status [SWEEP]   a table of its cells: state, node, step, images/s, accuracy, time left, failure
python launch/slurm.py wait [SWEEP]     the same until all are over; exit status 0 where all completed, else 1
python launch/slurm.py tail [SWEEP]     the logs of one cell, until its job has ended
python launch/slurm.py cancel [SWEEP]   cancel those of its jobs that wait or run, and no others
python launch/slurm.py retry [SWEEP]    submit again what failed, was killed or cancelled, of the code of the first time
python launch/slurm.py status results=/scratch/rows format=csv

SWEEP is the id that was printed at submission, its beginning, or its short end (2c5520e7); left out, it is the newest.
All that is shown is read again each time, from rows, journals and Slurm, where there is one: a terminal may be closed.
Jobs go on whatever becomes of these commands, but for cancel. Exit status 2: there is no such sweep, or no such cell.
"""


@dataclass(kw_only=True)
class Keys:
    """The keys of all these commands."""

    results: str | None = key(
        "the store of the sweep", "results/v1 of the checkout, and those of site profiles", path=True, one=True
    )
    cell: str | None = key(
        "only cells that have these words in their label", "all; of tail, the one that runs", text="words", one=True
    )
    format: str | None = key(
        "of status: table for people; csv and json, exact", "table", choices=("table", "csv", "json"), one=True
    )
    rank: int | None = key("of tail: whose log is shown beside that of the batch script", "0", least=0, one=True)


MEANT = {
    "status": ("results", "cell", "format"),
    "wait": ("results", "cell"),
    "tail": ("results", "cell", "rank"),
    "cancel": ("results", "cell"),
    "retry": ("results", "cell"),
}


@dataclass(frozen=True)
class Task:
    """One command, with its words checked."""

    verb: str
    chosen: Chosen
    given: Mapping[str, Sequence[Any]]


def main(words: Sequence[str]) -> int:
    """Run one of the commands, see `command.run`."""
    # What ends with nobody reading is what only shows; wait has a status to say, and the others things to do.
    verb = next((word for word in words if word in VERBS), "")
    return command.run("launch", USAGE, Keys, _read, _do, words, goes_on=verb in ("wait", "cancel", "retry"))


def _read(typed: list[str]) -> Task:
    bare = [word for word in typed if "=" not in word]
    given = values([word for word in typed if "=" in word], Keys)
    verb, *sweeps = bare
    if verb not in VERBS:
        raise WordError(f"{verb}: say one of {', '.join(VERBS)} first (nearest: {nearest(verb, VERBS)})")
    if len(sweeps) > 1:
        raise WordError(f"{sweeps[1]}: {sweeps[0]} is the sweep already, and the rest is key=value")
    for name in given:
        if name not in MEANT[verb]:
            takes = ", ".join(f"{one}=" for one in MEANT[verb])
            raise WordError(f"{name}={given[name][0]}: {verb} takes {takes}")
    where = [str(root_from(given).absolute())] if "results" in given else stores()
    chosen = Chosen(choose(sweeps[0] if sweeps else None, where), given.get("cell", [""])[0])
    chosen.read()  # what is wrong with it is said before anything is done
    return Task(verb, chosen, given)


def _look(chosen: Chosen) -> SweepState:
    manifest, cells = chosen.read()
    return look(manifest, chosen.store, cells)


def _do(task: Task) -> int:
    try:
        if task.verb == "status":
            table.write(_look(task.chosen), task.given.get("format", ["table"])[0])
            return 0
        if task.verb == "wait":
            return wait(functools.partial(_look, task.chosen))
        if task.verb == "tail":
            return _tail(task)
        if task.verb == "cancel":
            return cancel(*task.chosen.read())
        return retry(task.chosen)
    except BatchError as error:
        raise command.Failure(str(error)) from None


def _tail(task: Task) -> int:
    cells = _look(task.chosen).cells
    if len(cells) > 1:
        running = [cell for cell in cells if cell.state == "running"]
        if len(running) != 1:
            labels = ", ".join(repr(cell.cell.label) for cell in (running or cells)[:4])
            what = f"{len(running)} run" if running else "none runs"
            raise WordError(f"tail: cell= says which of {len(cells)} cells; {what}: choose from {labels}")
        cells = (running[0],)
    rank = task.given.get("rank", [0])[0]
    size = cells[0].cell.nodes * cells[0].cell.ranks_per_node
    if rank >= size:
        raise WordError(f"rank={rank}: {cells[0].cell.label} has ranks up to {size - 1} (nearest: rank={size - 1})")
    return tail(cells[0], rank)
