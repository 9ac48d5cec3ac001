#!/usr/bin/env bash
# nnU-Net itself trains, for one epoch, with a plan that seg made and exported.
#     benchmarks/nnunet_trains.sh ENV [FOLDER]     (ENV: a virtual environment with nnunetv2)
set -euo pipefail
env=$(realpath "$1") folder=$(realpath -m "${2:-runs/nnunet}")
export nnUNet_raw=$folder/raw nnUNet_preprocessed=$folder/preprocessed nnUNet_results=$folder/results
export nnUNet_compile=f nnUNet_n_proc_DA=1 OMP_NUM_THREADS=1
data=$nnUNet_raw/Dataset001_Phantom prepared=$nnUNet_preprocessed/Dataset001_Phantom
mkdir -p "$prepared"
seg phantom "$data" --cases 6 --shape 24,32,32
seg fingerprint "$data" -o "$folder/fingerprint.json" --export-nnunet "$prepared/dataset_fingerprint.json"
seg plan --fingerprint "$folder/fingerprint.json" --dataset "$data/dataset.json" --set planner.vram_gb=1 \
  --export-nnunet "$prepared/nnUNetPlans.json"
cp "$data/dataset.json" "$prepared/"
"$env/bin/nnUNetv2_preprocess" -d 1 -plans_name nnUNetPlans -c 3d_fullres -np 1
"$env/bin/nnUNetv2_train" 1 3d_fullres 0 -tr nnUNetTrainer_1epoch -device cpu
ls "$nnUNet_results"/Dataset001_Phantom/*/fold_0/checkpoint_final.pth
