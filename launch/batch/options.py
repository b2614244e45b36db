"""What sbatch and srun are told of a job."""

import shlex
import sys
from pathlib import Path
from typing import Any

from bench.config.paths import ROOT
from bench.config.run_config import RunConfig
from bench.config.slurm import NUMA, OVERSUBSCRIBE
from launch.arguments import CACHES, split
from launch.batch.shell import GUARDED, NAMED, defence, exports, guard, this_job
from launch.cluster import GPUS, ClusterConfig, folders

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
        extra["reservation"] = _for_sbatch(cluster.reservation)
    for name, value in map(split, cluster.sbatch_args):
        extra[name] = True if value is None else _for_sbatch(value)
    named = {name: getattr(cluster, name) for name in (*NAMED, "exclude") if name != "reservation"}
    gpus = config.ranks_per_node if cluster.gpus_per_node else None
    gres = cluster.gres.replace(GPUS, str(gpus)) if cluster.gres else None
    return {
        "job_name": config.name(),
        "nodes": config.nodes,
        "exclusive": cluster.exclusive or None,
        "mem": cluster.mem or ("0" if cluster.exclusive else None),
        "ntasks_per_node": config.ranks_per_node,
        "gpus_per_node": None if gres else gpus,
        "gres": _for_sbatch(gres),
        "cpus_per_task": cluster.cpus_per_task,
        "time": cluster.time_min,
        "signal_delay_s": cluster.signal_lead_s,
        "stderr_to_stdout": True,
        "wckey": None,
        **{name: _for_sbatch(value) for name, value in named.items()},
        "additional_parameters": extra,
        "setup": [
            *defence(cluster, array),
            *cluster.setup,
            *exports(cluster, root),
            *_said_of_the_job(cluster, array),
            f"LOGS={logs}",
            'mkdir -p "$LOGS"',
            *guard(),
        ],
    }


def _for_sbatch(text: str | None) -> str | None:
    """What sbatch reads as this text where it stands in quotes: unlike a shell, it takes a backslash there too."""
    return text and text.replace("\\", "\\\\")


def _said_of_the_job(cluster: ClusterConfig, array: bool) -> list[str]:
    """Lines that tell the ranks, which may be in a container without Slurm's commands, of their job."""
    job = f'scontrol show job --oneliner "{this_job(array)}"'
    lines = [f"export {OVERSUBSCRIBE}=$({job} | grep -o 'OverSubscribe=[A-Z]*' | cut -d= -f2)"]
    if cluster.numa:
        lines.append(f"export {NUMA}=1")
    if cluster.caches:
        lines.append(f"mkdir -p {shlex.join(_caches(cluster).values())}")
    return lines


def srun(config: RunConfig, cluster: ClusterConfig, *, root: Path = ROOT, array: bool = False) -> str:
    """The line that starts the ranks, up to and with Python, as the shell reads it.

    One rank's end ends the step; since 22.05 srun takes the cores of a task from its own line alone. What the script
    has exported reaches the ranks, also where it was submitted with SBATCH_EXPORT=NONE.

    Args:
        root: of the code that they run.
        array: whether the job is one of an array.
    """
    variables = {**_caches(cluster), **cluster.env}
    command = [shlex.quote(f"{name}={value}") for name, value in variables.items()]
    command = [GUARDED, *(["env", *command] if command else [])]
    command += [
        "srun --unbuffered --export=ALL --kill-on-bad-exit=1 --wait=60",
        f"--cpus-per-task={cluster.cpus_per_task}",
        # Slurm takes % in a name for the beginning of a pattern.
        f'--output="${{LOGS//%/%%}}/%x-{"%A_%a" if array else "%j"}.${{SLURM_RESTART_COUNT:-0}}-%t.log"',
    ]
    if cluster.numa:
        command.append("--cpu-bind=none")  # Slurm's own choice of cores may be on the other side of the machine
    command += map(shlex.quote, cluster.srun_args)
    mounts = [str(root), *folders(config).values(), *filter(None, [cluster.caches])]
    if cluster.container == "pyxis":
        command += map(shlex.quote, _pyxis(cluster, mounts, [*variables]))
    if cluster.container == "apptainer":
        command.append(shlex.join(_apptainer(cluster, mounts)))
    command.append(shlex.quote(cluster.python or (sys.executable if cluster.container == "none" else "python3")))
    return " \\\n    ".join(command)


def _caches(cluster: ClusterConfig) -> dict[str, str]:
    """The compilers' cache folders, by the variable that names each."""
    base = cluster.caches
    return {name: f"{base}/{folder}" for name, folder in CACHES.items()} if base else {}


def _pyxis(cluster: ClusterConfig, mounts: list[str], names: list[str]) -> list[str]:
    """Options of srun with pyxis.

    Args:
        mounts: paths that are the same inside and outside.
        names: of further variables for the ranks.
    """
    pairs = [mount if ":" in mount else f"{mount}:{mount}" for mount in (*dict.fromkeys(mounts), *cluster.mounts)]
    lines = [*exports(cluster), *_said_of_the_job(cluster, array=False)]
    own = [line.removeprefix("export ").partition("=")[0] for line in lines if line.startswith("export ")]
    return [
        f"--container-image={cluster.image}",
        f"--container-mounts={','.join(pairs)}",
        "--container-mount-home" if cluster.mount_home else "--no-container-mount-home",
        *([f"--container-workdir={cluster.container_workdir}"] if cluster.container_workdir else []),
        # Else what the image sets under these names would win.
        f"--container-env={','.join([*own, *names])}",
    ]


def _apptainer(cluster: ClusterConfig, mounts: list[str]) -> list[str]:
    """The command that runs another in an image, up to and with the image."""
    assert cluster.image
    return [
        *("apptainer", "exec", "--nv"),
        *([] if cluster.mount_home else ["--no-home"]),
        *(["--pwd", cluster.container_workdir] if cluster.container_workdir else []),
        *("--bind", ",".join([*dict.fromkeys(mounts), *cluster.mounts]), cluster.image),
    ]
