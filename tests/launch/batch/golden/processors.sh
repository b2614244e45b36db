#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=2
#SBATCH --job-name=resnet20A-digits
#SBATCH --no-requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
#SBATCH --signal=USR2@120
#SBATCH --time=240

# setup
# What the submitting shell has of other jobs, or in place of the options above, must not change this one.
# This is its name where Slurm starts it; a script that is run within an allocation has what its caller says.
if [ "${0##*/}" = slurm_script ]; then
  overrides=$(compgen -e | grep -xE 'SBATCH_TIMELIMIT|SBATCH_REQUEUE|SBATCH_NO_REQUEUE|SBATCH_SIGNAL|SBATCH_JOB_NAME|SBATCH_OPEN_MODE|SBATCH_ARRAY_INX')
  unset $(compgen -e | grep -xE '(SLURM|SBATCH|SALLOC|SRUN|SUBMITIT)_.*|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|RANK|RESNET_BENCH_CORES|RESNET_BENCH_HOSTS|RESNET_BENCH_RUN_ID|WORLD_SIZE' | grep -vxE 'SLURM_(CONF|CONF_SERVER|CLUSTER_NAME|CPUS_ON_NODE|CPUS_PER_TASK|GPUS_ON_NODE|GPUS_PER_NODE|JOBID|JOB_.*|NNODES|NODELIST|NTASKS_PER_NODE|SUBMIT_DIR|SUBMIT_HOST|TASKS_PER_NODE|TOPOLOGY_ADDR|TOPOLOGY_ADDR_PATTERN)')
  if [ -n "$overrides" ]; then
    echo "job $SLURM_JOB_ID was not submitted as written, but under" $overrides"; it is submitted again" >&2
    exec sbatch "$0"
  fi
  restarts=$(scontrol show job --oneliner "$SLURM_JOB_ID" | grep -o "Restarts=[0-9]*" | cut -d= -f2)
  export SLURM_RESTART_COUNT=${restarts:-0}
fi
export PYTHONPATH=/checkout${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=2
export MASTER_ADDR=$(scontrol show node "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
export MASTER_PORT=$((10000 + (SLURM_JOB_ID + 1009 * ${SLURM_RESTART_COUNT:-0}) % 20000))
export DS_ACCELERATOR=cpu
while (: < "/dev/tcp/$MASTER_ADDR/$MASTER_PORT") 2> /dev/null; do MASTER_PORT=$((MASTER_PORT + 1)); done  # this is the node of rank 0
LOGS=/scratch/rows/jobs/"$SLURM_JOB_NAME-$SLURM_JOB_ID"
mkdir -p "$LOGS"

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --export=ALL --kill-on-bad-exit=1 --wait=60 \
    --cpus-per-task=2 \
    --output="${LOGS//%/%%}/%x-%j.${SLURM_RESTART_COUNT:-0}-%t.log" \
    /python -m launch.job \
    depth=20 \
    dataset=digits \
    loader=dali \
    kernels=torch \
    seed=0 \
    ranks_per_node=1 \
    results=/scratch/rows
