"""Hand the configurations of a command line to Slurm, as one sweep."""

import contextlib
import errno
import fcntl
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from submitit.core.utils import DelayedSubmission

from launch import cluster as clusters
from launch.batch.script import SBATCH_S, BatchError, cluster_of, sbatch, script
from launch.job import Job, new_run_id
from launch.plan import Cell, LaunchKeys, Plan
from launch.sweep import arrays, done, snapshot, squeue
from launch.sweep.arrays import Group
from launch.sweep.choose import stores
from launch.sweep.done import Identity, identity
from launch.sweep.manifest import Array, Manifest, SweepCell, folder_of_sweeps, read
from launch.sweep.snapshot import Listing
from launch.sweep.squeue import Queued
from results.identity import new_run_id as new_sweep_id
from results.words import ConfigError, printable

__all__ = ["again", "dispatch", "submit"]

# Of what sbatch says where it does not know whether Slurm has taken a job.
UNKNOWN = re.compile(r"timed? ?out|connect|contact|communicat|zero bytes", re.I)
NO_ANSWER = f"sbatch timed out: it does not answer within {SBATCH_S:g} s"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


def dispatch(plan: Plan) -> int:
    """Print, test or submit a plan.

    Returns:
        Exit status.

    Raises:
        BatchError: Slurm refuses.
        ConfigError: the code cannot be copied, or what was submitted before cannot be read.
    """
    if plan.mode == "print":
        print(script(plan.cells[0]))
    elif plan.mode == "test":
        done.check_saves(plan.cells, {})
        for group in arrays.grouped(plan.cells, arrays.labels(plan.cells)):
            answer = arrays.check(group)
            count = f" ({len(group.cells)} configurations)" if len(group.cells) > 1 else ""
            print(f"{group.name}{count}: {answer}", flush=True)
    else:
        submit(plan)
    return 0


def submit(plan: Plan) -> None:
    """Submit what is neither done nor queued, and say what jobs there are.

    Raises:
        BatchError: Slurm refuses, all of it or what is left; the message says how much that is.
        ConfigError: the code cannot be copied, or what was submitted before cannot be read.
    """
    results = plan.cells[0].config.results
    labels = dict(zip((identity(cell.config) for cell in plan.cells), arrays.labels(plan.cells), strict=True))
    with _alone(results):
        cells = list(plan.cells)
        known: list[Manifest] = []
        taken: Mapping[Identity, Queued] = {}
        if not plan.rerun:
            known, taken = _known(results)
            cells = done.without_done(done.without_queued(cells, labels, taken))
        if not cells:
            return
        done.check_saves(cells, taken)
        groups, most = _checked(cells, [labels[identity(cell.config)] for cell in cells])
        code = snapshot.listing(Path(results))
        for notice in code.notices:
            print(f"launch: {notice}", file=sys.stderr, flush=True)
        before = _left_of(known, cells, code) or _new(plan, cells, labels, code)
        try:
            if not before.code.exists():
                snapshot.copy(code, before.code)
            places = {cell.identity: place for place, cell in enumerate(before.cells)}
            sweep, refused = _hand_over(before, groups, most, [places[identity(cell.config)] for cell in cells])
            if not sweep.arrays:
                shutil.rmtree(sweep.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                before.folder.rmdir()  # where nothing is in it
            raise BatchError(f"{error.filename or before.folder}: {error.strerror or error}") from None
    _conclude(sweep, before, len(cells), refused)


def again(path: Path, choose: Callable[[Manifest], Sequence[int]]) -> int:
    """Submit cells of a sweep again, with what they ran the last time, and say what jobs there are.

    Args:
        path: of the manifest.
        choose: returns the places of the cells; no other command submits to the store meanwhile.

    Returns:
        How many of them cannot run, which is said of each.

    Raises:
        BatchError: Slurm refuses, all of it or what is left.
        ConfigError: the manifest, or what a cell ran, cannot be read.
    """
    with _alone(read(path).results):
        known, taken = _known(read(path).results)
        before = next(sweep for sweep in known if sweep.sweep_id == path.parent.name)
        places, cells, unfit = [], [], 0
        for place in choose(before):
            swept, ran = before.cells[place], _resubmitted(before, place)
            try:
                cell = done.beginning_again(swept, ran, taken)
            except ConfigError as error:
                print(printable(f"launch: {swept.label} is not submitted: {error}"), file=sys.stderr, flush=True)
                unfit += 1
                continue
            if cell:
                places.append(place)
                cells.append(cell)
        if not places:
            return unfit
        groups, most = _checked(cells, [before.cells[place].label for place in places])
        try:
            sweep, refused = _hand_over(before, groups, most, places)
        except OSError as error:
            raise BatchError(f"{error.filename or before.folder}: {error.strerror or error}") from None
    _conclude(sweep, before, len(cells), refused)
    return unfit


def _known(results: str) -> tuple[list[Manifest], Mapping[Identity, Queued]]:
    """The sweeps of a store, the newest first, and which job has which of their configurations.

    Raises:
        BatchError: Slurm does not say.
        ConfigError: a manifest cannot be read.
    """
    jobs = squeue.ask()  # before rows are read: what has ended since then has left its own
    known = [squeue.settled(sweep, jobs) for sweep in squeue.sweeps(results)]
    return known, squeue.taken_cells(known, jobs)


def _checked(cells: Sequence[Cell], labels: Sequence[str]) -> tuple[list[Group], int]:
    """Cells in groups, all of which Slurm could run, and how many tasks an array may have.

    Raises:
        BatchError: one can never run.
    """
    groups = arrays.grouped(cells, labels)
    for group in groups:
        arrays.check(group)
    return groups, arrays.most_tasks() if any(len(group.cells) > 1 for group in groups) else 1


def _conclude(sweep: Manifest, before: Manifest, count: int, refused: "_Refused | None") -> None:
    """Print a sweep's new jobs, and what comes next.

    Raises:
        BatchError: Slurm has refused some of the `count` configurations.
    """
    _say(sweep, before)
    if refused:
        raise BatchError(f"{refused.what}: {refused.words}; {refused.rest(count)}")


def _resubmitted(sweep: Manifest, place: int) -> Cell:
    """What a cell ran, under the site profile as it is now.

    Raises:
        ConfigError: it cannot be read.
    """
    path = sweep.logs(place) / arrays.JOB_FILE
    try:
        config = vars(DelayedSubmission.load(path))["function"].config
    except Exception as error:  # whatever unpickling raises: of a damaged file, or of classes that are gone
        raise ConfigError(f"{path}: what {sweep.cells[place].label} ran cannot be read ({error})") from None
    return Cell(LaunchKeys(cluster=sweep.cluster), config, clusters.load(sweep.cluster))


@dataclass(frozen=True)
class _Refused:
    """What Slurm has not taken.

    Attributes:
        what: it refused.
        words: of the reason.
        left: configurations, with those that it was not asked for any more.
    """

    what: str
    words: str
    left: int

    def rest(self, count: int) -> str:
        """What became of all the configurations, and what to do."""
        if UNKNOWN.search(self.words):
            return "whether Slurm has it is not known; the same command finds out, and submits what is left"
        if arrays.FULL.search(self.words):
            return f"{self.left} of {count} configurations remain; the same command submits them, once Slurm takes more"
        return "nothing was submitted" if self.left == count else f"{self.left} of {count} configurations remain"


def _hand_over(
    sweep: Manifest, groups: Sequence[Group], most: int, places: Sequence[int]
) -> tuple[Manifest, _Refused | None]:
    """Submit groups until Slurm refuses one.

    Args:
        most: tasks of an array.
        places: in the sweep, of the cells from which the groups were made.
    """
    left = sum(len(group.cells) for group in groups)
    for group in groups:
        begin, size = 0, most
        while begin < len(group.cells):
            piece = arrays.part(group, begin, begin + size)
            sweep, words = _submit(sweep, piece, [places[at] for at in piece.places])
            if not words:
                begin += len(piece.cells)
                left -= len(piece.cells)
            elif arrays.FULL.search(words) and len(piece.cells) > 1:
                size = len(piece.cells) // 2  # an array is refused whole where fewer jobs are allowed than it has
            else:
                return sweep, _Refused(str(piece), words, left)
    return sweep, None


def _submit(sweep: Manifest, group: Group, places: Sequence[int]) -> tuple[Manifest, str]:
    """Submit one array.

    Args:
        places: of its cells in the sweep.

    Returns:
        The sweep, and why Slurm has not taken it; empty where it has.

    Raises:
        OSError: the disk refuses.
    """
    number = len(list(sweep.folder.glob("array-*.sh")))
    run_ids = tuple(new_run_id(cell.config) for cell in group.cells)
    array = Array(script=f"array-{number}.sh", cells=tuple(places), run_ids=run_ids)
    path, folder = sweep.folder / array.script, sweep.folder / f"array-{number}"
    for task, (cell, label, place) in enumerate(zip(group.cells, group.labels, places, strict=True)):
        logs = sweep.logs(place)
        logs.mkdir(parents=True, exist_ok=True)
        DelayedSubmission(Job(config=cell.config, run_id=run_ids[task])).dump(logs / arrays.JOB_FILE)
        (logs / arrays.LABEL_FILE).write_text(f"{label}, of sweep {sweep.sweep_id}, run {run_ids[task]}\n")
        if len(group.cells) > 1:
            folder.mkdir(exist_ok=True)
            (folder / str(task)).symlink_to(os.path.relpath(logs, folder))
    root = folder if len(group.cells) > 1 else sweep.logs(places[0])
    path.write_bytes(os.fsencode(arrays.array_script(group, root, sweep.code)))
    begun = sweep.begun(array)
    begun.write()
    done = sbatch(str(path))
    if done is None:
        return begun, NO_ANSWER
    if taken := re.search(r"job ([0-9]+)", done.stdout):
        if done.stderr.strip():
            print(f"launch: {' '.join(done.stderr.split())}", file=sys.stderr, flush=True)
        known = begun.taken(array, taken[1])
        known.write()
        return known, ""
    words = " ".join((done.stderr + done.stdout).split()) or f"sbatch ended with status {done.returncode}"
    if UNKNOWN.search(words):  # it stays written down, and is found in the queue or is not there
        return begun, words
    sweep.write()
    shutil.rmtree(folder, ignore_errors=True)
    path.unlink()
    return sweep, words


def _new(plan: Plan, cells: Sequence[Cell], labels: Mapping[Identity, str], code: Listing) -> Manifest:
    """A sweep of which nothing is submitted yet."""
    return Manifest(
        sweep_id=new_sweep_id("sweep"),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        words=plan.words,
        cluster=cluster_of(cells[0]).name,
        results=cells[0].config.results,
        commit=code.code.commit or "",
        dirty=code.code.dirty,
        snapshot=code.code.snapshot or "",
        synthetic=any(cell.config.loader == "synthetic" and cell.keys.loader is None for cell in cells),
        cells=tuple(
            SweepCell(
                label=labels[identity(cell.config)],
                name=cell.config.name(),
                config_hash=cell.config.config_hash(),
                seed=cell.config.seed,
                nodes=cell.config.nodes,
                ranks_per_node=cell.config.ranks_per_node,
                data=cell.config.data,
                save=cell.config.save,
                resume=cell.config.resume,
            )
            for cell in cells
        ),
    )


def _left_of(known: Sequence[Manifest], cells: Sequence[Cell], code: Listing) -> Manifest | None:
    """The sweep of the same code that these configurations are left of; None where there is none."""
    wanted = {identity(cell.config) for cell in cells}
    for sweep in known:
        left = {cell.identity for cell in sweep.cells if not cell.submissions}
        whole = {cell.identity for cell in sweep.cells}
        if sweep.snapshot == code.code.snapshot and left & wanted and wanted <= whole:
            return sweep
    return None


@contextlib.contextmanager
def _alone(results: str) -> Iterator[None]:
    """Let no other command submit to a store meanwhile: neither would know of the other's jobs."""
    path = folder_of_sweeps(results) / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                print(f"launch: {path.parent}: no locks there; submit one command at a time", file=sys.stderr)
        except OSError as error:
            raise BatchError(f"{path}: {error.strerror or error}") from None
        yield


def _say(sweep: Manifest, before: Manifest) -> None:
    """Print a sweep's new jobs, and what comes next."""
    new = [array for array in sweep.arrays if array not in before.arrays and array.job_id]
    for array in new:
        first, count = sweep.cells[array.cells[0]], len(array.cells)
        has = f"nodes={first.nodes} ranks_per_node={first.ranks_per_node}"
        if count > 1:
            print(f"job {array.job_id}_[0-{count - 1}]  {count} configurations  {has}")
        else:
            print(f"job {array.job_id}  run {array.run_ids[0]}  {has}")
    if not new:
        return
    count = sum(len(array.cells) for array in new)
    single = sum(len(array.cells) == 1 for array in new)
    jobs = [_number(len(new) - single, "array"), _number(single, "job")]
    what = " and ".join(text for text in jobs if not text.startswith("0"))
    print(f"sweep {sweep.sweep_id}: {_number(count, 'configuration')} in {what}")
    if sweep.synthetic:
        print("images are SYNTHETIC, for there were none: throughput alone is measured; data=PATH names real ones")
    code = f"commit {sweep.commit[:12]}{' with changes' if sweep.dirty else ''}" if sweep.commit else "the checkout"
    print(f"code {sweep.code}, a copy of {code}")
    print(f"logs {sweep.logs()}")
    # Where it would not be looked for: see `choose.stores`.
    where = "" if sweep.results in stores() else f" {shlex.quote(f'results={sweep.results}')}"
    here = Path(sys.executable).is_relative_to(Path.cwd())
    python = shlex.quote(os.path.relpath(sys.executable) if here else sys.executable)
    print(
        f"next {shlex.quote(python)} launch/slurm.py status {sweep.sweep_id}{where}  (or wait, tail, cancel, retry)",
        flush=True,
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
