"""What Slurm's environment variables say: to a rank that srun started, and to what merely runs in an allocation.

Srun's variables describe each of its tasks. What a task starts inherits them though they are not about it: a run of
launch/local.py in an allocation is no job of Slurm's, and its ranks are no tasks. What is true of such a process all
the same is in which allocation it runs, and how many cores there are for the task and all that it starts.
"""

import os
import re
from collections.abc import Mapping

from bench.config.environment import CORES_VARIABLE, HOSTS_VARIABLE, RUN_ID_VARIABLE, VariableError

CPUS = "SLURM_CPUS_PER_TASK"
# Those of submitit too, by which a job that it handed to Slurm knows its ranks.
_OF_SLURM = re.compile(r"(SLURM|SLURMD|SBATCH|SALLOC|SRUN|SCONTROL|SQUEUE|SACCT|SCANCEL|SUBMITIT)_.*")
_OF_SITE = {"SLURM_CONF", "SLURM_CONF_SERVER"}
# Slurm's word for who else may use a job's nodes: the batch script asks for it, as a container has no scontrol.
OVERSUBSCRIBE = "RESNET_BENCH_OVERSUBSCRIBE"
# Whether each rank is to bind itself to the NUMA node of its GPU: "1".
NUMA = "RESNET_BENCH_NUMA"
OF_RANKS = {
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    HOSTS_VARIABLE, CORES_VARIABLE, RUN_ID_VARIABLE, OVERSUBSCRIBE, NUMA,
}  # fmt: skip
_SET_BY = "Slurm sets it; unset it outside of an allocation"


def is_task(environ: Mapping[str, str]) -> bool:
    """Whether this process is a rank that srun started, in a job of launch/slurm.py or a script that it printed."""
    return environ.get("SUBMITIT_EXECUTOR") == "slurm"


def allocation(environ: Mapping[str, str]) -> tuple[str | None, int | None]:
    """Return the Slurm job in which a process runs, and its task of a job array; None where there is none.

    Raises:
        VariableError: the task is no number.
    """
    if not (is_task(environ) or _on_node(environ)):  # as in a shell of salloc, which may be on a login node
        return None, None
    job = environ.get("SLURM_ARRAY_JOB_ID") or environ.get("SLURM_JOB_ID") or None
    return job, None if job is None else number(environ, "SLURM_ARRAY_TASK_ID", least=0)


def this_job(environ: Mapping[str, str]) -> str:
    """Return what Slurm's commands call a rank's job: the last task of an array has the number of the whole."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environ.get("SLURM_JOB_ID", "")


def node_shared(environ: Mapping[str, str]) -> bool | None:
    """Return whether Slurm may have run other jobs beside this one on its nodes; None where nobody asked it.

    It may wherever the job has not got them for itself ("NO"), whoever asked for that: then nobody knows what else ran.
    """
    said = environ.get(OVERSUBSCRIBE) if is_task(environ) else None
    return said != "NO" if said else None


def gpus(environ: Mapping[str, str]) -> str | None:
    """Return which GPUs of the job's first node Slurm gave to it, such as "0-3"; None where it gave none."""
    return environ.get("SLURM_JOB_GPUS") or None if is_task(environ) else None


def restarts(environ: Mapping[str, str]) -> int:
    """Return how often Slurm started this job again.

    Raises:
        VariableError: the count is no number.
    """
    return (number(environ, "SLURM_RESTART_COUNT", least=0) or 0) if is_task(environ) else 0


def task_cores(environ: Mapping[str, str]) -> int | None:
    """Return the cores that Slurm gave to a task and to all that it starts; None where it does not say.

    Raises:
        VariableError: SLURM_CPUS_PER_TASK is no number from 1 on.
    """
    return number(environ, CPUS, least=1)


def cores_here(environ: Mapping[str, str]) -> int:
    """Return how many cores this process and all that it starts may keep busy.

    Those that it is bound to, and no more than Slurm gave to its task: not every Slurm binds.

    Raises:
        VariableError: SLURM_CPUS_PER_TASK is no number from 1 on.
    """
    bound = len(os.sched_getaffinity(0))
    return min(bound, task_cores(environ) or bound)


def of_a_task(environ: Mapping[str, str]) -> set[str]:
    """Return the names of variables that are about a task of Slurm, and not about what it starts.

    All of Slurm's, but for those that `allocation` reads where they are true.
    """
    named = {name for name in environ if _OF_SLURM.fullmatch(name)}
    true = {"SLURMD_NODENAME", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"}
    return named - true if _on_node(environ) else named


def of_submitter(environ: Mapping[str, str]) -> set[str]:
    """Return the names of variables that must not reach a job from the shell that submits it.

    Slurm's own but for where its configuration lies: sbatch takes SBATCH_PARTITION and the like before a script's own
    lines, and a job inherits what srun reads (SLURM_CPU_BIND, SLURM_MEM_PER_CPU) and what names the job and the task
    that the shell may itself run in. And those by which the ranks of another run find each other.
    """
    return {name for name in environ if _OF_SLURM.fullmatch(name) or name in OF_RANKS} - _OF_SITE


def number(environ: Mapping[str, str], name: str, *, least: int) -> int | None:
    """Return the value of one of Slurm's variables; None where it is missing or empty.

    Raises:
        VariableError: it is no whole number, or less than the least.
    """
    text = environ.get(name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):  # Python refuses to read thousands of digits
        raise VariableError(f"{name}={text}: expected a whole number, at least {least}; {_SET_BY}")
    if int(text) < least:
        raise VariableError(f"{name}={text}: expected at least {least} (nearest: {least}); {_SET_BY}")
    return int(text)


def _on_node(environ: Mapping[str, str]) -> bool:
    """Whether Slurm started this process, or what it descends from, on a node: it then says which."""
    return bool(environ.get("SLURMD_NODENAME"))
