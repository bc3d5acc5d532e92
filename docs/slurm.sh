#!/usr/bin/env bash
# sbatch docs/slurm.sh RECIPE [key=value …]
#
# One torchrun on each machine; they meet at the first machine. Slurm sends SIGTERM two minutes before the time is up: the
# run finishes its step, saves and ends. torchrun kills ranks that take longer than 30 s for that, so set checkpoint.every
# as well. Submitted again, the job resumes.

#SBATCH --job-name=tercet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
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
