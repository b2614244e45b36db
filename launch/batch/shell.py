"""Shell lines that every batch script has: against the shell that submits it, and for its ranks."""

from pathlib import Path

from bench.config.environment import JobEnvironment, ShellExpression
from bench.config.paths import ROOT
from bench.config.slurm import OF_RANKS
from launch.cluster import ClusterConfig

__all__ = ["NAMED", "defence", "exports", "this_job"]

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


def defence(cluster: ClusterConfig, array: bool = False) -> list[str]:
    """Lines by which a script undoes what the shell that submitted it says otherwise.

    Sbatch takes some variables before the script's own lines: where one of them is about what the script names too, the
    script submits itself again without them. Of Slurm's other variables those stay that Slurm sets for each job, and
    with `array` for each task of an array.
    """
    own = OWN.replace("(", "(ARRAY_.*|", 1) if array else OWN
    named = [f"SBATCH_{name.upper()}" for name in NAMED if getattr(cluster, name)]
    overrides = "|".join([*OVERRIDES, *named, *(["SBATCH_GPUS_PER_NODE"] if cluster.gpus_per_node else [])])
    return [
        "# What the submitting shell has of other jobs, or in place of the options above, must not change this one.",
        "# This is its name where Slurm starts it; a script that is run within an allocation has what its caller says.",
        'if [ "${0##*/}" = slurm_script ]; then',
        f"  overrides=$(compgen -e | grep -xE '{overrides}')",
        f"  unset $(compgen -e | grep -xE '{FOREIGN}' | grep -vxE '{own}')",
        '  if [ -n "$overrides" ]; then',
        '    echo "job $SLURM_JOB_ID was not submitted as written, but under" $overrides"; it is submitted again" >&2',
        '    exec sbatch "$0"',
        "  fi",
        # Slurm sets it from the first restart on: before that it may be that of the job which submitted this one.
        f'  restarts=$(scontrol show job --oneliner "{this_job(array)}" | grep -o "Restarts=[0-9]*" | cut -d= -f2)',
        "  export SLURM_RESTART_COUNT=${restarts:-0}",
        "fi",
    ]


def this_job(array: bool) -> str:
    """What Slurm calls a job, in the shell: the last task of an array has the number of the whole as its own."""
    return "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if array else "$SLURM_JOB_ID"


def exports(cluster: ClusterConfig, root: Path = ROOT) -> list[str]:
    job = JobEnvironment(
        # As Slurm itself reaches it: some distributions give a host's own name the loopback.
        address=ShellExpression(
            '$(scontrol show node "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" | '
            "grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)"
        ),
        # Another one for each job and each of its restarts: the last one's may still be taken.
        port=ShellExpression("$((10000 + (SLURM_JOB_ID + 1009 * ${SLURM_RESTART_COUNT:-0}) % 20000))"),
        threads=cluster.cpus_per_task,
        python_path=(str(root),),
        accelerator=None if cluster.gpus_per_node else "cpu",
        interface=cluster.interface or None,
    )
    free = 'while (: < "/dev/tcp/$MASTER_ADDR/$MASTER_PORT") 2> /dev/null; do MASTER_PORT=$((MASTER_PORT + 1)); done'
    return [*job.to_shell(), f"{free}  # this is the node of rank 0"]
