"""Hand the configurations of a command line to Slurm."""

import contextlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from bench.config import grammar
from bench.config.environment import without
from bench.config.slurm import of_submitter
from launch.batch.options import sbatch_options, srun
from launch.batch.script import BatchError, cluster_of, script, test
from launch.job import Job, new_run_id
from launch.plan import Cell, LaunchKeys, Plan
from launch.sweep.done import without_done
from launch.sweep.manifest import Manifest, Submission, SweepCell
from results import identity

__all__ = ["dispatch", "labels", "submit"]


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
    elif cells := plan.cells if plan.rerun else without_done(plan.cells):
        submit_sweep(cells, plan.words)
    return 0


def submit_sweep(cells: Sequence[Cell], words: tuple[str, ...]) -> None:
    """Hand configurations to Slurm, and write down which job has which.

    Raises:
        BatchError: Slurm refuses.
    """
    manifest = Manifest(
        sweep_id=identity.new_run_id("sweep"),
        created=now(),
        words=words,
        cluster=cluster_of(cells[0]).name,
        results=cells[0].config.results,
        commit="",
        dirty=None,
        snapshot="",
        synthetic=any(cell.config.loader == "synthetic" and cell.keys.loader is None for cell in cells),
        cells=tuple(
            SweepCell(
                label=label,
                name=cell.config.name(),
                config_hash=cell.config.config_hash(),
                seed=cell.config.seed,
                nodes=cell.config.nodes,
                ranks_per_node=cell.config.ranks_per_node,
            )
            for cell, label in zip(cells, labels(cells), strict=True)
        ),
    )
    for index, cell in enumerate(cells):
        label = re.sub(r"[^0-9A-Za-z=.,_+-]+", "-", manifest.cells[index].label)
        folder = manifest.folder / "logs" / f"{index:03d}-{label}"
        one = submit(cell, folder)
        written = replace(manifest.cells[index], submissions=(one,))
        manifest = replace(manifest, cells=(*manifest.cells[:index], written, *manifest.cells[index + 1 :]))
        manifest.write()
        ranks = f"nodes={cell.config.nodes} ranks_per_node={cell.config.ranks_per_node}"
        print(f"job {one.job_id}  run {one.run_id}  {ranks}", flush=True)


def submit(cell: Cell, folder: Path) -> Submission:
    """Hand one configuration to Slurm.

    Args:
        folder: of its logs.

    Raises:
        BatchError: Slurm refuses.
    """
    config, cluster = cell.config, cluster_of(cell)
    run_id = new_run_id(config)
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
    return Submission(job_id=job.job_id, run_id=run_id, submitted=now(), log=str(folder))


def labels(cells: Sequence[Cell]) -> list[str]:
    """The words in which each of some configurations differs from the others; its name where there are none."""
    names = [option.name for option in fields(LaunchKeys) if option.name not in ("repeats", "rerun", "mode")]
    varied = [name for name in names if len({repr(getattr(cell.keys, name)) for cell in cells}) > 1]
    return [
        " ".join(grammar.word(name, getattr(cell.keys, name)) for name in varied) or cell.config.name()
        for cell in cells
    ]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
