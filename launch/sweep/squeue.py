"""What Slurm has queued or runs now, and which configurations of a store these are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.batch.script import BatchError
from launch.sweep.account import SlurmError, call
from launch.sweep.manifest import Array, Manifest, find, read

__all__ = ["Queued", "ask", "settled", "sweeps", "taken_cells"]


JOB_ID = re.compile(r"[0-9]+([_+]\S+)?$")


@dataclass(frozen=True)
class Queued:
    """A job that is queued or runs.

    Attributes:
        job_id: as Slurm says it, "17" or "17_4".
        state: in Slurm's words, such as PENDING.
        script: the batch script that sbatch was given.
    """

    job_id: str
    state: str
    script: str

    def __str__(self) -> str:
        """Which job that is, for a message; a sweep's script lies in the sweep's folder."""
        return f"job {self.job_id} ({self.state}) of sweep {Path(self.script).parent.name}"


def ask() -> list[Queued]:
    """Ask Slurm for all jobs that are not over.

    Raises:
        BatchError: it does not say.
    """
    try:
        said = call("squeue", "--noheader", "--array", "--format=%i|%T|%o")
        lines = [line.split("|", 2) for line in said.splitlines()]
        jobs = [Queued(*line) for line in lines if len(line) == 3 and JOB_ID.match(line[0])]
        if said.strip() and not jobs:  # whoever took it for an empty queue would submit all of it once more
            raise SlurmError(f"squeue says {said.strip()[:60]!r}, which is no list of jobs")
    except SlurmError as error:
        raise BatchError(
            f"what is queued already is not known ({error}); nothing was submitted; rerun=true submits unasked"
        ) from None
    return jobs


def sweeps(results: str) -> list[Manifest]:
    """Read the manifests of a store, the newest first.

    Raises:
        ConfigError: one cannot be read.
    """
    return [read(path) for path in find([results])]


def settled(sweep: Manifest, jobs: Iterable[Queued]) -> Manifest:
    """Find out what became of arrays whose submission was cut short, and write it down.

    Slurm has one where it is queued under its script, or has left a log; any other was never taken.

    Raises:
        OSError: the manifest cannot be written.
    """
    found = sweep
    for array in [one for one in sweep.arrays if not one.job_id]:
        script = str(sweep.folder / array.script)
        ids = [job.job_id for job in jobs if job.script == script] or _logged(sweep, array)
        found = found.taken(array, ids[0].partition("_")[0]) if ids else found.without(array)
    if found != sweep:
        found.write()
    return found


def _logged(sweep: Manifest, array: Array) -> list[str]:
    """Ids of jobs by the names of their logs."""
    before = {one.job_id for place in array.cells for one in sweep.cells[place].submissions}
    names = [path.name for place in array.cells for path in sweep.logs(place).glob("*.out")]
    ids = [match[1] for name in names if (match := re.search(r"-([0-9]+(?:_[0-9]+)?)\.out$", name))]
    return [one for one in ids if one not in before]


def taken_cells(known: Sequence[Manifest], jobs: Iterable[Queued]) -> Mapping[tuple[str | None, ...], Queued]:
    """Return the job of each configuration that is queued or runs, by `SweepCell.identity`."""
    by_id = {job.job_id: job for job in jobs}
    found: dict[tuple[str | None, ...], Queued] = {}
    for sweep in known:
        for cell in sweep.cells:
            for one in cell.submissions:
                job = by_id.get(one.job_id)
                # What is COMPLETING has run, or was cancelled. Numbers begin again where a Slurm is set up anew.
                if job and job.state != "COMPLETING" and Path(job.script).is_relative_to(sweep.folder):
                    found[cell.identity] = job
    return found
