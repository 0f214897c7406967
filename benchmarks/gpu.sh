#!/usr/bin/env bash
# Measures on a GPU what docs/performance.md is to say of one, the most valuable first, and stops after 8 minutes:
#
#     PYTHON=python3 TORCH=python3 bash benchmarks/gpu.sh FOLDER
#
# PYTHON has jax for the GPU and this package's dependencies, TORCH has torch and timm; TORCH= leaves PyTorch out. FOLDER
# gets a table, JSON and a log of each part, and summary.md: what was done, in how many seconds, and what was left out.
# The table of depthwise kernels that it makes goes into the package, so that what follows runs with them.
# LIMIT is the number of seconds. SHRUNK=1 makes everything small: a rehearsal on a CPU, which leaves the package alone.
set -u
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
python=${PYTHON:-python3} torch=${TORCH-python3}
end=$(($(date +%s) + ${LIMIT:-480}))
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/cache}
export XLA_PYTHON_CLIENT_PREALLOCATE=false

if [ -n "${SHRUNK:-}" ]; then
  layers="--batch=1 --layers=1 --rounds=1 --times=1" batch=2 images=40 trace=--network=unet flags=
  networks="--size 32 48 --rounds=1 --steps=1" loop="--steps=64 --rounds=1"
else
  layers="--batch=256" batch=256 images=1000 trace=--network=efficientnet_b0
  flags=--xla_gpu_enable_command_buffer= # none: within CUDA graphs a trace does not tell instructions apart
  networks="--bytes_per_value=2 --compile --plain --rounds=5" loop="--steps=200 --rounds=1"
fi

# measure NAME SECONDS COMMAND...: runs it for at most SECONDS, and not beyond the end; what it prints is NAME.md
measure() {
  local name=$1 start left code
  start=$(date +%s)
  left=$((end - start))
  [ -n "${SHRUNK:-}" ] || left=$((left < $2 ? left : $2))
  shift 2
  if [ "$left" -lt 15 ]; then
    echo "- $name: left out, time was up" >> "$out/summary.md"
    return
  fi
  timeout "$left" "$@" > "$out/$name.md" 2> "$out/$name.log"
  code=$?
  echo "- $name: exit status $code (124 is: time was up) after $(($(date +%s) - start)) s" | tee -a "$out/summary.md"
}

cat > "$out/config.py" << CONFIG
from segfusion_jax import config


def get_config():
    made = config.default()
    made.data.collection, made.data.synthetic_images = "synthetic", $images
    ${SHRUNK:+made.classifier.image_size, made.classifier.width, made.classifier.depth = (32, 32), 0.25, 0.25}
    return made
CONFIG

: > "$out/summary.md"
measure layers 150 "$python" benchmarks/depthwise_gpu.py --out="$out" $layers
if [ -z "${SHRUNK:-}" ] && [ -f "$out/depthwise_gpu.json" ]; then
  cp "$out/depthwise_gpu.json" segfusion_jax/ops/depthwise_gpu.json
fi
[ -n "${SHRUNK:-}" ] || measure efficientnet_b0 150 "$python" benchmarks/networks.py --torch="$torch" \
  --network efficientnet_b0 --batch $batch --json="$out/efficientnet_b0.json" $networks
XLA_FLAGS=$flags measure trace_train 60 "$python" benchmarks/trace.py $trace --batch=$batch --out="$out"
measure unet 130 "$python" benchmarks/networks.py --torch="$torch" --network unet --batch $((batch / 2)) \
  --json="$out/unet.json" $networks
measure loop 120 "$python" benchmarks/loop.py --config="$out/config.py" --batch=$batch $loop
if [ -z "${SHRUNK:-}" ]; then
  measure larger 120 "$python" benchmarks/networks.py --torch="$torch" --network efficientnet_b0 --batch 512 \
    --json="$out/larger.json" $networks
  XLA_FLAGS=$flags measure trace_predict 40 "$python" benchmarks/trace.py --mode=predict --batch=$batch --out="$out"
  for flag in xla_gpu_enable_latency_hiding_scheduler=true xla_gpu_autotune_level=0 xla_gpu_enable_command_buffer= \
    xla_gpu_cudnn_gemm_fusion_level=2 xla_gpu_enable_triton_gemm=false; do
    XLA_FLAGS="--$flag" measure "flag_${flag%%=*}" 60 "$python" benchmarks/networks.py \
      --network efficientnet_b0 --mode train --batch $batch --bytes_per_value=2
  done
fi
cat "$out/summary.md"
