#!/usr/bin/env bash
# On a machine with a CUDA device: the tests of it, trainings to a real Dice, and all of it beside nnU-Net.
#     [NNUNET=ENV] benchmarks/gpu.sh DATA [OUT]       (DATA: the hippocampus of the Decathlon, for the figures of docs/benchmarks.md)
set -euo pipefail
data=$1 out=${2:-runs/gpu} here=$(dirname "$0")
mkdir -p "$(dirname "$out")"
python -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"; print(torch.cuda.get_device_name(), torch.__version__)'
failed=0; pytest -q "$here"/../tests/test_cuda_*.py || failed=$?    # the figures are wanted all the same

nvidia-smi --query-gpu=memory.used --format=csv,noheader -lms 500 > "$out.memory" 2>/dev/null & watch=$!
trap 'kill $watch' EXIT
for arch in unet unetpp; do
  TIMEFORMAT="$arch: %R s"; time seg run "$data" -o "$out-$arch" --arch "$arch" --fold 0 --budget 8m --device cuda
  python -c 'import json, sys; print("mean Dice", json.load(open(sys.argv[1]))["mean"]["dice"])' \
    "$out-$arch/validation/3d_fullres/fold_0/metrics.json"
done
sort -n "$out.memory" | tail -n 1

# Beside nnU-Net, where NNUNET is a virtual environment that has it, with the same torch.
if [ -n "${NNUNET:-}" ]; then
  python "$here/side_by_side.py" --nnunet "$NNUNET" --device cuda --data "$data" -o "$out-beside"
fi
exit "$failed"
