#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --constraint=h100
#SBATCH --cpus-per-task=12
#SBATCH --exclude='node[013,027]'
#SBATCH --gpus-per-node=4
#SBATCH --job-name=resnet50B-imagenet
#SBATCH --no-requeue
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --reservation=morning
#SBATCH --signal=USR2@180
#SBATCH --time=1441

# setup
module load cuda/13.0
export PYTHONPATH=/checkout${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1
export OMP_NUM_THREADS=12
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((10000 + (SLURM_JOB_ID + 1009 * ${SLURM_RESTART_COUNT:-0}) % 20000))
export NCCL_SOCKET_IFNAME=ib0
export GLOO_SOCKET_IFNAME=ib0
LOGS=/scratch/rows/jobs/"$SLURM_JOB_NAME-$SLURM_JOB_ID"
mkdir -p "$LOGS"

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --kill-on-bad-exit=1 --wait=60 \
    --cpus-per-task=12 \
    --output="$LOGS/%x-%j.${SLURM_RESTART_COUNT:-0}-%t.log" \
    '--container-image=registry#suite:1' '--container-mounts=/checkout:/checkout,/datasets/image net:/datasets/image net,/scratch/rows:/scratch/rows,/weights:/weights,/scratch:/scratch' \
    python3 -m launch.job \
    depth=50 \
    dataset=imagenet \
    'data=/datasets/image net' \
    recipe=paper \
    loader=dali \
    kernels=auto \
    seed=3 \
    ranks_per_node=4 \
    results=/scratch/rows \
    save=/weights/a.safetensors
