"""What sbatch and srun are told of a job."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.config.paths import ROOT
from bench.config.run_config import RunConfig
from launch.batch.shell import NAMED, defence, exports
from launch.cluster import ClusterConfig

__all__ = ["sbatch_options", "srun"]


def sbatch_options(
    config: RunConfig, cluster: ClusterConfig, logs: str, output: str, *, root: Path = ROOT, array: bool = False
) -> dict[str, Any]:
    """A job's options in submitit's words.

    Args:
        logs: folder of the ranks' logs, as the shell reads it.
        output: the batch script's own log, with sbatch's patterns.
        root: of the code that it runs.
        array: whether it is one of an array.
    """
    # A requeue would begin again: until a job knows how to go on from its checkpoint there is none.
    extra: dict[str, Any] = {"output": output, "no-requeue": True}
    if cluster.reservation:
        extra["reservation"] = cluster.reservation
    return {
        "job_name": config.name(),
        "nodes": config.nodes,
        "ntasks_per_node": config.ranks_per_node,
        "gpus_per_node": config.ranks_per_node if cluster.gpus_per_node else None,
        "cpus_per_task": cluster.cpus_per_task,
        "time": cluster.time_min,
        "signal_delay_s": cluster.signal_lead_s,
        "stderr_to_stdout": True,
        "wckey": None,
        **{name: getattr(cluster, name) for name in (*NAMED, "exclude") if name != "reservation"},
        "additional_parameters": extra,
        "setup": [
            *defence(cluster, array),
            *cluster.setup,
            *exports(cluster, root),
            f"LOGS={logs}",
            'mkdir -p "$LOGS"',
        ],
    }


def srun(config: RunConfig, cluster: ClusterConfig, *, root: Path = ROOT, array: bool = False) -> str:
    """The line that starts the ranks, up to and with Python, as the shell reads it.

    One rank's end ends the step; since 22.05 srun takes the cores of a task from its own line alone. What the script
    has exported reaches the ranks, also where it was submitted with SBATCH_EXPORT=NONE.

    Args:
        root: of the code that they run.
        array: whether the job is one of an array.
    """
    files = [os.path.dirname(path) for path in (config.save, config.resume) if path]
    mounts = [*dict.fromkeys(filter(None, [str(root), config.data, config.results, *files])), *cluster.mounts]
    command = [
        "srun --unbuffered --export=ALL --kill-on-bad-exit=1 --wait=60",
        f"--cpus-per-task={cluster.cpus_per_task}",
        # A % of the folder's name is one, and no pattern.
        f'--output="${{LOGS//%/%%}}/%x-{"%A_%a" if array else "%j"}.${{SLURM_RESTART_COUNT:-0}}-%t.log"',
    ]
    if cluster.container == "pyxis":
        command.append(
            shlex.join([f"--container-image={cluster.image}", f"--container-mounts={','.join(_pairs(mounts))}"])
        )
    if cluster.container == "apptainer":
        assert cluster.image
        command.append(shlex.join(["apptainer", "exec", "--nv", "--bind", ",".join(mounts), cluster.image]))
    command.append(shlex.quote(cluster.python or (sys.executable if cluster.container == "none" else "python3")))
    return " \\\n    ".join(command)


def _pairs(mounts: Sequence[str]) -> list[str]:
    return [mount if ":" in mount else f"{mount}:{mount}" for mount in mounts]
