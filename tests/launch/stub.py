"""A run that trains nothing, in place of bench.training.run, for tests of what starts, follows and ends one.

The environment variable STUB says what the ranks do; each leaves its process id in RESULTS/pids/RANK.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

from bench.config.run_config import RunConfig
from bench.measure.failure import Stopped
from launch.job import Job
from results.store.writer import RunWriter

# What srun and sbatch leave in the environment of a task of an array that was requeued, and of all that it starts.
OF_A_TASK = {
    "SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_NUM_NODES": "4",
    "SLURM_NNODES": "4", "SLURM_JOB_NODELIST": "n[1-4]", "SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2", "SLURM_RESTART_COUNT": "2", "SLURM_CPUS_PER_TASK": "1", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_MEM_PER_CPU": "1", "SLURM_JOB_NAME": "other", "SLURM_EXPORT_ENV": "NONE", "SBATCH_PARTITION": "none",
    "SBATCH_EXPORT": "NONE", "SALLOC_QOS": "none", "SRUN_DEBUG": "3", "SUBMITIT_EXECUTOR": "slurm",
    "SUBMITIT_LOCAL_NTASKS": "9", "SUBMITIT_PREEMPT_SIGNAL": "USR1",
}  # fmt: skip


class StubJob(Job):
    """A job that calls `run` below where the real one calls bench.training.run.run."""

    def __call__(self) -> None:
        module = ModuleType("bench.training.run")
        module.run = run  # type: ignore[attr-defined]
        sys.modules["bench.training.run"] = module
        super().__call__()


def run(config: RunConfig, *, run_id: str, restart: int) -> None:
    """One rank, from its row to its end."""
    rank, does = int(os.environ["RANK"]), os.environ["STUB"]
    pids = Path(config.results) / "pids"
    pids.mkdir(parents=True, exist_ok=True)
    if does == "crash":
        raise RuntimeError("no row was written")
    row = {
        "run_id": run_id,
        "restart_count": restart,
        "config_hash": config.config_hash(),
        "config_json": config.to_json(),
        "depth": config.depth,
        "seed": config.seed,
    }
    writer = RunWriter(config.results, row) if rank == 0 else None
    names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS"]
    names += ("RESNET_BENCH_CORES", "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR")
    seen: dict[str, object] = {name: os.environ.get(name) for name in names}
    seen["slurm"] = sorted(name for name in os.environ if name.startswith(("SLURM", "SBATCH", "SRUN", "SALLOC")))
    (pids / f"environment.{rank}.json").write_text(json.dumps(seen))
    (pids / str(rank)).write_text(str(os.getpid()))  # the last thing: whoever sees it may begin
    if does == "complete":
        _emit(event="start", about="a stub", epochs=1, steps=1, target=None)
        _emit(event="end", status="completed")
    elif does == "deaf" and rank == 0:  # as in a collective that no signal reaches
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])
        time.sleep(600)
    elif does == "data" and rank == 0:
        assert writer
        writer.finish("failed", failure_kind="data", failure_message="/images/cat/1.jpg: truncated")
        os._exit(1)
    elif not (does == "data" and rank == 1):
        try:
            time.sleep(600)
        except Stopped as stopped:
            time.sleep(0.5 * (does == "slow"))  # as one that has to leave a step first
            if writer:
                writer.finish("killed", failure_kind=stopped.kind, failure_message=str(stopped))
            os._exit(1)
    else:
        os._exit(1)
    if writer:
        writer.finish("completed", images_per_s=100.0)


def _emit(**event: object) -> None:
    with open(os.environ["RESNET_BENCH_PROGRESS"], "a") as file:
        file.write(json.dumps(event) + "\n")
