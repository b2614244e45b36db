"""What rank 0 finds out about the end of a run before it writes it down, and whom it tells."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.config.environment import END_VARIABLE, RankEnvironment
from bench.config.slurm import is_task, this_job
from bench.measure.failure import NAMELESS, SAVED, Failure

SCONTROL_S = 5.0
SHOWN = 8  # ranks that a message names


def explained(
    failure: Failure, place: RankEnvironment, gone: Callable[[], Sequence[int]], environ: Mapping[str, str] = os.environ
) -> Failure:
    """Say more of a failure than the rank could that saw it first.

    Slurm sends one signal for all that it does: what it knows of the job tells a preemption, a cancel and its time
    limit from each other, and from the end of a rank, after which srun ends the others.

    Args:
        gone: finds the ranks that have ended without a word; takes seconds.
    """
    by_slurm = failure.kind == "interrupted" and is_task(environ)
    job = _job(environ) if by_slurm else {}
    head, saved, where = failure.message.partition(SAVED)
    said, saved = head.partition(", which Slurm")[0], saved + where
    if job.get("PreemptTime", "None") != "None":
        return replace(failure, kind="preempted", message=f"{said}: a job of a higher priority takes the nodes{saved}")
    if job.get("Reason") == "TimeLimit":
        return replace(failure, kind="timeout", message=f"{said}: the job has met its time limit{saved}")
    if by_slurm and job.get("JobState") != "RUNNING":
        return replace(failure, message=f"{said}: the job was cancelled{saved}") if job else failure
    if not (by_slurm or failure.message.startswith(NAMELESS)):
        return failure
    ranks = gone()
    if not ranks:
        return failure
    more = f" and {len(ranks) - SHOWN} more" if len(ranks) > SHOWN else ""
    who = f"{', '.join(map(place.named, ranks[:SHOWN]))}{more} ended without a word"
    # Of a signal that followed from it, what else Slurm sends it for would lead astray.
    detail = said.removeprefix(f"{NAMELESS}: ")
    where = " (killed, by its log or Slurm's account)" if is_task(environ) else ""  # the launcher itself says how else
    return Failure("failed", "rank_lost", f"{who}{where}: {detail}", failure.rank)


def _job(environ: Mapping[str, str]) -> dict[str, str]:
    """What scontrol knows of this job; nothing where it is not there, as in a container, or does not answer."""
    command = ["scontrol", "show", "job", "--oneliner", this_job(environ)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=SCONTROL_S, check=True).stdout
        return dict(word.partition("=")[::2] for word in said.split() if "=" in word)
    return {}


def note_end(status: int, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the batch script that the run has ended and with which status, and which step of Slurm's it was.

    Where the disk refuses what is said, a name in its folder still says that it has ended.
    """
    path = environ.get(END_VARIABLE)
    if path and is_task(environ):
        step = f"{this_job(environ)}.{environ.get('SLURM_STEP_ID', '')}"
        with contextlib.suppress(OSError):
            Path(path).write_text(f"{status} {step}\n")
