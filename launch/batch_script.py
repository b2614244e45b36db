"""Batch scripts for Slurm: written out, tested, or submitted through submitit."""

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _make_sbatch_string

from bench.config.environment import JobEnvironment, ShellExpression, without
from bench.config.paths import ROOT
from bench.config.resolve import words
from bench.config.run_config import RunConfig
from bench.config.slurm import OF_RANKS, of_submitter
from launch.cluster import ClusterConfig
from launch.job import Job, new_run_id
from launch.plan import Cell, Plan
from resnet.data import DataError, open_dataset
from results.store.files import read_rows

# Of the options that a profile may name, those that sbatch takes from a variable first, and those that each script has.
NAMED = ("account", "partition", "qos", "constraint", "reservation")
OVERRIDES = (
    "SBATCH_TIMELIMIT", "SBATCH_REQUEUE", "SBATCH_NO_REQUEUE", "SBATCH_SIGNAL", "SBATCH_JOB_NAME", "SBATCH_OPEN_MODE",
    "SBATCH_ARRAY_INX",
)  # fmt: skip
# Variables that no job may have from the shell that submits it, and those among them that Slurm sets for each job.
FOREIGN = "|".join(["(SLURM|SBATCH|SALLOC|SRUN|SUBMITIT)_.*", *sorted(OF_RANKS)])
OWN = (
    "SLURM_(CONF|CONF_SERVER|CLUSTER_NAME|CPUS_ON_NODE|CPUS_PER_TASK|GPUS_ON_NODE|GPUS_PER_NODE|JOBID|JOB_.*|NNODES|"
    "NODELIST|NTASKS_PER_NODE|SUBMIT_DIR|SUBMIT_HOST|TASKS_PER_NODE|TOPOLOGY_ADDR|TOPOLOGY_ADDR_PATTERN)"
)


class BatchError(RuntimeError):
    """Slurm is missing or refuses; the message is one line."""


def check_slurm(mode: str) -> None:
    """Raise a BatchError where a mode needs Slurm and there is none."""
    if mode != "print" and shutil.which("sbatch") is None:
        raise BatchError(
            "no sbatch on this machine: mode=print writes the batch script, and launch/local.py runs here without Slurm"
        )


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
        for cell in plan.cells if plan.rerun else _without_done(plan.cells):
            job_id, run_id = submit(cell)
            ranks = f"nodes={cell.config.nodes} ranks_per_node={cell.config.ranks_per_node}"
            print(f"job {job_id}  run {run_id}  {ranks}", flush=True)
    return 0


def script(cell: Cell) -> str:
    """The batch script of one configuration, complete in itself: the job composes the configuration again.

    Only the line of --nodes depends on the number of nodes; the job asks Slurm for it.
    """
    config, cluster = cell.config, _cluster(cell)
    logs = f'{shlex.quote(str(_jobs(config)))}/"$SLURM_JOB_NAME-$SLURM_JOB_ID"'
    job = " \\\n    ".join(["-m launch.job", *map(shlex.quote, words(cell.keys, config))])
    # Slurm makes no folders: its own log, of the batch script, goes to where the script is submitted from.
    options = sbatch_options(config, cluster, logs, "%x-%j.out")
    return _make_sbatch_string(
        command=f"{srun(config, cluster)} {job}", folder=_jobs(config), use_srun=False, **options
    )


def test(cell: Cell) -> str:
    """What Slurm says of a configuration's batch script without taking it.

    Raises:
        BatchError: it would refuse it.
    """
    with without(of_submitter(os.environ)):
        asked = subprocess.run(["sbatch", "--test-only"], input=script(cell), capture_output=True, text=True)
    answer = " ".join((asked.stderr + asked.stdout).split())
    if asked.returncode:
        raise BatchError(f"{cell.config.name()}: {answer}")
    return answer


def submit(cell: Cell) -> tuple[str, str]:
    """Hand one configuration to Slurm.

    Returns:
        Job id, run id.

    Raises:
        BatchError: Slurm refuses.
    """
    config, cluster = cell.config, _cluster(cell)
    run_id = new_run_id(config)
    folder = _jobs(config) / run_id
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


def sbatch_options(config: RunConfig, cluster: ClusterConfig, logs: str, output: str) -> dict[str, Any]:
    """A job's options in submitit's words.

    Args:
        logs: folder of the ranks' logs, as the shell reads it.
        output: the batch script's own log, with sbatch's patterns.
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
        "setup": [*_defence(cluster), *cluster.setup, *_exports(cluster), f"LOGS={logs}", 'mkdir -p "$LOGS"'],
    }


def srun(config: RunConfig, cluster: ClusterConfig) -> str:
    """The line that starts the ranks, up to and with Python, as the shell reads it.

    One rank's end ends the step; since 22.05 srun takes the cores of a task from its own line alone. What the script
    has exported reaches the ranks, also where it was submitted with SBATCH_EXPORT=NONE.
    """
    files = [os.path.dirname(path) for path in (config.save, config.resume) if path]
    mounts = [*dict.fromkeys(filter(None, [str(ROOT), config.data, config.results, *files])), *cluster.mounts]
    command = [
        "srun --unbuffered --export=ALL --kill-on-bad-exit=1 --wait=60",
        f"--cpus-per-task={cluster.cpus_per_task}",
        '--output="$LOGS/%x-%j.${SLURM_RESTART_COUNT:-0}-%t.log"',
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


def _defence(cluster: ClusterConfig) -> list[str]:
    """Lines by which a script undoes what the shell that submitted it says otherwise.

    Sbatch takes some variables before the script's own lines: where one of them is about what the script names too, the
    script submits itself again without them. Of Slurm's other variables those stay that Slurm sets for each job.
    """
    named = [f"SBATCH_{name.upper()}" for name in NAMED if getattr(cluster, name)]
    overrides = "|".join([*OVERRIDES, *named, *(["SBATCH_GPUS_PER_NODE"] if cluster.gpus_per_node else [])])
    return [
        "# What the submitting shell has of other jobs, or in place of the options above, must not change this one.",
        "# This is its name where Slurm starts it; a script that is run within an allocation has what its caller says.",
        'if [ "${0##*/}" = slurm_script ]; then',
        f"  overrides=$(compgen -e | grep -xE '{overrides}')",
        f"  unset $(compgen -e | grep -xE '{FOREIGN}' | grep -vxE '{OWN}')",
        '  if [ -n "$overrides" ]; then',
        '    echo "job $SLURM_JOB_ID was not submitted as written, but under" $overrides"; it is submitted again" >&2',
        '    exec sbatch "$0"',
        "  fi",
        # Slurm sets it from the first restart on: before that it may be that of the job which submitted this one.
        '  restarts=$(scontrol show job --oneliner "$SLURM_JOB_ID" | grep -o "Restarts=[0-9]*" | cut -d= -f2)',
        "  export SLURM_RESTART_COUNT=${restarts:-0}",
        "fi",
    ]


def _exports(cluster: ClusterConfig) -> list[str]:
    job = JobEnvironment(
        # As Slurm itself reaches it: some distributions give a host's own name the loopback.
        address=ShellExpression(
            '$(scontrol show node "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" | '
            "grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)"
        ),
        # Another one for each job and each of its restarts: the last one's may still be taken.
        port=ShellExpression("$((10000 + (SLURM_JOB_ID + 1009 * ${SLURM_RESTART_COUNT:-0}) % 20000))"),
        threads=cluster.cpus_per_task,
        accelerator=None if cluster.gpus_per_node else "cpu",
        interface=cluster.interface or None,
    )
    free = 'while (: < "/dev/tcp/$MASTER_ADDR/$MASTER_PORT") 2> /dev/null; do MASTER_PORT=$((MASTER_PORT + 1)); done'
    return [*job.to_shell(), f"{free}  # this is the node of rank 0"]


def _without_done(cells: Sequence[Cell]) -> list[Cell]:
    """Leave out configurations that have a completed row, and say so."""
    done: dict[str, dict[str, set[str | None]]] = {}  # by folder of rows and configuration: hashes of images
    for root in {cell.config.results for cell in cells}:
        rows, _ = read_rows(root, "runs")
        images = done.setdefault(root, {})
        for row in rows:
            if row["status"] == "completed":
                images.setdefault(row["config_hash"], set()).add(row["dataset_hash"])
    wanted = []
    for cell in cells:
        # A row holds no path: whether it left these weights cannot be told from it.
        found = done[cell.config.results].get(cell.config.config_hash())
        if found and cell.config.save is None and _same_images(cell.config, found):
            what = f"{cell.config.name()} nodes={cell.config.nodes} seed={cell.config.seed}"
            where = f"has a completed result in {cell.config.results}"
            print(f"launch: {what} {where} and is not submitted; rerun=true submits it again", file=sys.stderr)
        else:
            wanted.append(cell)
    return wanted


def _same_images(config: RunConfig, hashes: set[str | None]) -> bool:
    """Whether runs whose images have these hashes have read those of a configuration; no where that is not known."""
    if config.data is None or config.loader == "synthetic":
        return True
    try:
        # All names and many sizes are read for it, which takes seconds on millions of files.
        splits = open_dataset(config.dataset, config.data, image_size=config.image_size)
    except DataError:  # not on this machine
        return False
    return splits.hash in hashes


def _cluster(cell: Cell) -> ClusterConfig:
    assert cell.cluster, "slurm.py composes every cell with a profile"
    return cell.cluster


def _jobs(config: RunConfig) -> Path:
    return Path(config.results) / "jobs"


def _pairs(mounts: Sequence[str]) -> list[str]:
    return [mount if ":" in mount else f"{mount}:{mount}" for mount in mounts]
