#!/usr/bin/env bash
# sbatch docs/slurm.sh RECIPE [key=value …]
#
# One torchrun on each machine; the first machine is where they meet. Submitted again, the job goes on where the last
# checkpoint stands: set checkpoint.every.

#SBATCH --job-name=tercet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue

set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun .venv/bin/torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$head:29500" \
    -m tercet train "$@"
