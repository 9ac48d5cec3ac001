#!/usr/bin/env bash
# Peak memory on large images: two cases of 160×512×512, five steps of the planned network, both predicted whole. Without mirror
# images and with tiles side by side the prediction takes an hour less, and as much memory.
#     benchmarks/memory.sh [FOLDER]
set -euo pipefail
folder=${1:-runs/memory}
seg phantom "$folder/data" --cases 2 --shape 160,512,512
/usr/bin/time -f "run: %e s, %M kB at most" seg run "$folder/data" -o "$folder/run" --fold full --epochs 1 \
  --set train.steps_per_epoch=5 --set predict.mirroring=false --set predict.step=1 --device cpu
