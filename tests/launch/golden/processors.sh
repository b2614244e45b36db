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
export PYTHONPATH=/checkout${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=2
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((10000 + (SLURM_JOB_ID + 1009 * ${SLURM_RESTART_COUNT:-0}) % 20000))
export DS_ACCELERATOR=cpu
LOGS=/scratch/rows/jobs/"$SLURM_JOB_NAME-$SLURM_JOB_ID"
mkdir -p "$LOGS"

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --kill-on-bad-exit=1 --wait=60 \
    --cpus-per-task=2 \
    --output="$LOGS/%x-%j.${SLURM_RESTART_COUNT:-0}-%t.log" \
    /python -m launch.job \
    depth=20 \
    dataset=digits \
    loader=dali \
    kernels=torch \
    seed=0 \
    ranks_per_node=1 \
    results=/scratch/rows
