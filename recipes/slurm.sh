#!/bin/bash
# One search over all nodes of a Slurm job: starts Ray on each, and is queued again until the search has ended.
#
#   sbatch recipes/slurm.sh --space lora.yaml --data data --model large --checkpoint sam2.1_hiera_large.pt
#
# Submit it in the clone, with the virtual environment active. The clone, the environment, the data and STORAGE (by
# default runs; or a URL for the checkpoints) lie where every node reads them. STORAGE and ON_END, a command to be run
# when the search ends or is interrupted, are variables of the environment. Adjust the lines below to your cluster.
#SBATCH --job-name=sam2-search
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=2
#SBATCH --mem=96G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

for word in "$@"; do
    case "$word" in
    --storage | --storage=* | --name | --name=* | --on-end | --on-end=* | --time-budget | --time-budget=*)
        echo "slurm.sh: ${word%%=*} would be lost after a requeue. Set the variable STORAGE or ON_END in place of" \
            "--storage or --on-end; the name is slurm- and the job's number; #SBATCH --time limits the time." >&2
        exit 2
        ;;
    esac
done

storage="${STORAGE:-runs}"
searches=runs # of a URL, which holds the checkpoints alone
if [[ "$storage" != *://* ]]; then
    storage="$(realpath -m "$storage")" # an absolute path says that all nodes share it
    searches="$storage"
fi
name="slurm-$SLURM_JOB_ID" # the same after a requeue
export RAY_USAGE_STATS_ENABLED=0
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun does not take it from sbatch since Slurm 22.05
# Whoever reaches the ports of a Ray without a token runs code as you.
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node keep apart
address="${nodes[0]}:$port"

start_ray() { # NODE, then arguments of ray start
    local node="$1"
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$node" \
        ray start "$@" --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block &
}

start_ray "${nodes[0]}" --head --port="$port" --include-dashboard=false \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID"
# The head answers after some seconds; the search takes the GPUs that are there when it begins.
wait_for() { # NUMBER of nodes
    timeout 600 python - "$address" "$1" <<'PYTHON'
import sys
import time

import ray

address, wanted = sys.argv[1], int(sys.argv[2])
while True:
    try:
        ray.init(address, logging_level="CRITICAL", log_to_driver=False)
        break
    except (ConnectionError, RuntimeError):
        time.sleep(2)
while sum(node["Alive"] for node in ray.nodes()) < wanted:
    time.sleep(1)
PYTHON
}
wait_for 1
for node in "${nodes[@]:1}"; do
    start_ray "$node" --address="$address"
done
wait_for "${#nodes[@]}"

if [ -f "$searches/$name/search.json" ]; then
    search=(--resume "$name")
else
    search=(--name "$name" "$@")
fi
python -m search.run "${search[@]}" --storage "$storage" --address "$address" ${ON_END:+--on-end "$ON_END"} &
driver=$!
# Five minutes before the time limit: the search stops between two steps and says how it is resumed.
trap 'kill -TERM "$driver" 2>/dev/null || true' TERM
code=0
wait "$driver" || code=$?
if [ "$code" -gt 128 ]; then # perhaps the signal ended the waiting, and not yet the search
    code=0
    wait "$driver" || code=$?
fi
if [ "$code" -eq 130 ]; then # interrupted
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
