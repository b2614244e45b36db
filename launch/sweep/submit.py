"""Hand the configurations of a command line to Slurm."""

import contextlib
import io
import os
import shlex
import shutil

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from bench.config.environment import without
from bench.config.slurm import of_submitter
from launch.batch.options import sbatch_options, srun
from launch.batch.script import BatchError, cluster_of, jobs_folder, script, test
from launch.job import Job, new_run_id
from launch.plan import Cell, Plan
from launch.sweep.done import without_done

__all__ = ["dispatch", "submit"]


def dispatch(plan: Plan) -> int:
    """Print, test or submit a plan.

    Returns:
        Exit status.

    Raises:
        BatchError: Slurm refuses.
    """
    if plan.mode == "print":
        print(script(plan.cells[0]))
    elif plan.mode == "test":
        for cell in plan.cells:
            print(f"{cell.config.name()}: {test(cell)}", flush=True)
    else:
        for cell in plan.cells if plan.rerun else without_done(plan.cells):
            job_id, run_id = submit(cell)
            ranks = f"nodes={cell.config.nodes} ranks_per_node={cell.config.ranks_per_node}"
            print(f"job {job_id}  run {run_id}  {ranks}", flush=True)
    return 0


def submit(cell: Cell) -> tuple[str, str]:
    """Hand one configuration to Slurm.

    Returns:
        Job id, run id.

    Raises:
        BatchError: Slurm refuses.
    """
    config, cluster = cell.config, cluster_of(cell)
    run_id = new_run_id(config)
    folder = jobs_folder(config) / run_id
    folder.mkdir(parents=True)
    executor = submitit.SlurmExecutor(folder, max_num_timeout=0, python=srun(config, cluster))
    executor.update_parameters(
        use_srun=False, **sbatch_options(config, cluster, shlex.quote(str(folder)), str(folder / "%x-%j.out"))
    )
    said = io.StringIO()  # submitit repeats sbatch's complaint on stderr
    try:
        with contextlib.redirect_stderr(said), without(of_submitter(os.environ)):
            job = executor.submit(Job(config=config, run_id=run_id))
    except (FailedJobError, FailedSubmissionError) as error:
        shutil.rmtree(folder)
        raise BatchError(f"{config.name()}: {error}") from None
    return job.job_id, run_id
