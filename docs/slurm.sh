#!/bin/bash
#SBATCH --job-name=inade
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --cpus-per-task=$SLURM_CPUS_PER_TASK torchrun --nnodes=$SLURM_NNODES --nproc_per_node=4 --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint=$head:29500 --rdzv-id=$SLURM_JOB_ID-$SLURM_RESTART_COUNT \
    --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
    train.py --name EXP --dataset_mode ade20k --dataroot DATA --use_vae --batchSize 32 --nThreads 6 \
    --save_latest_freq 2000 --continue_train
status=$?
# Not all epochs are done, mostly because of the time limit: queue again, and the same line continues. After 20 tries
# it must be a mistake: look at the log.
[ $status -eq 0 ] || [ "${SLURM_RESTART_COUNT:-0}" -ge 20 ] || scontrol requeue "$SLURM_JOB_ID"
