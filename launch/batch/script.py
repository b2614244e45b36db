"""The batch script of one configuration, and what Slurm says of it."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from submitit.slurm.slurm import _make_sbatch_string

from bench.config import grammar
from bench.config.environment import without
from bench.config.resolve import words
from bench.config.run_config import STARTED_KEYS, RunConfig
from bench.config.slurm import of_submitter
from launch.batch.options import sbatch_options, srun
from launch.cluster import ClusterConfig
from launch.plan import Cell

__all__ = ["BatchError", "Refusal", "check_slurm", "cluster_of", "jobs_folder", "sbatch", "script", "test"]

SBATCH_S = 120.0  # a busy controller answers late, and one that is gone never does


class BatchError(RuntimeError):
    """Slurm is missing or refuses; the message is one line."""


class Refusal(BatchError):
    """What Slurm says where it refuses a job."""


def check_slurm(mode: str) -> None:
    """Raise a BatchError where a mode needs Slurm and there is none."""
    if mode != "print" and shutil.which("sbatch") is None:
        raise BatchError(
            "no sbatch on this machine: mode=print writes the batch script, and launch/local.py runs here without Slurm"
        )


def script(cell: Cell) -> str:
    """The batch script of one configuration, complete in itself: the job composes the configuration again.

    Only the line of --nodes depends on the number of nodes; the job asks Slurm for it.
    """
    config, cluster = cell.config, cluster_of(cell)
    logs = f'{shlex.quote(str(jobs_folder(config)))}/"$SLURM_JOB_NAME-$SLURM_JOB_ID"'
    named = [grammar.word(name, value) for name in STARTED_KEYS if (value := getattr(config, name)) is not None]
    job = " \\\n    ".join(["-m launch.job", *map(shlex.quote, [*words(cell.keys, config), *named])])
    # Slurm makes no folders: its own log, of the batch script, goes to where the script is submitted from.
    options = sbatch_options(config, cluster, logs, "%x-%j.out")
    return _make_sbatch_string(
        command=f"{srun(config, cluster)} {job}", folder=jobs_folder(config), use_srun=False, **options
    )


def test(cell: Cell) -> str:
    """What Slurm says of a configuration's batch script without taking it.

    Raises:
        Refusal: it would refuse it.
        BatchError: it does not answer.
    """
    asked = sbatch("--test-only", script=script(cell))
    if asked is None:
        raise BatchError(f"sbatch does not answer within {SBATCH_S:g} s; nothing was submitted")
    answer = " ".join((asked.stderr + asked.stdout).split())
    if asked.returncode:
        raise Refusal(answer or f"sbatch ended with status {asked.returncode}")
    return answer


def sbatch(word: str, script: str = "") -> subprocess.CompletedProcess[str] | None:
    """Run sbatch in the environment of nobody's job; None where it does not answer in time.

    Args:
        word: an option, or the path of a script.
        script: what it reads; bytes that are no UTF-8 come as surrogates, as in paths.

    Raises:
        BatchError: it cannot be run.
    """
    try:
        with without(of_submitter(os.environ)):
            return subprocess.run(
                ["sbatch", word], input=script, capture_output=True, encoding="utf-8", errors="surrogateescape",
                timeout=SBATCH_S,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        raise BatchError(f"sbatch: {error.strerror or error}") from None


def cluster_of(cell: Cell) -> ClusterConfig:
    assert cell.cluster, "slurm.py composes every cell with a profile"
    return cell.cluster


def jobs_folder(config: RunConfig) -> Path:
    return Path(config.results) / "jobs"
