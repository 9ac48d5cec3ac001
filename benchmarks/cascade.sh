#!/usr/bin/env bash
# Everything that a plan with a cascade has, on generated data: 12 cases, four configurations, five folds, two epochs of 20
# steps each, the choice among ten candidates, and a prediction with the model.
#     benchmarks/cascade.sh [FOLDER]
set -euo pipefail
folder=${1:-runs/cascade}
seg phantom "$folder/data" --cases 12 --shape 56,72,72
time seg run "$folder/data" -o "$folder/run" --config all --fold all --epochs 2 --set train.steps_per_epoch=20 \
  --set planner.vram_gb=0.05 --set architecture.features=16
time seg predict -m "$folder/run/model" -i "$folder/data/imagesTr/phantom_000_0000.nii.gz" \
  -i "$folder/data/imagesTr/phantom_001_0000.nii.gz" -o "$folder/predictions"
