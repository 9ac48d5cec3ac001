"""Check, fingerprint, plan and preprocessing, beside nnU-Net v2 on the same data and machine, in turn.

    python benchmarks/preprocessing.py DATA --nnunet ENV [--repeats 3]

DATA is a data set of the Medical Segmentation Decathlon with one channel; ENV a virtual environment with nnunetv2.
Prints the wall-clock seconds of each run, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEG = Path(sys.executable).with_name("seg")


def main() -> None:
    """Run both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        raw = as_nnunet_raw(given.data.resolve(), Path(work) / "raw")
        for repeat in range(given.repeats):
            ours.append(time_ours(given.data.resolve(), Path(work) / f"ours{repeat}"))
            theirs.append(time_theirs(given.nnunet, raw, Path(work) / f"theirs{repeat}"))
            print(f"seg {ours[-1]:.1f} s, nnU-Net {theirs[-1]:.1f} s")
    print(f"median: seg {statistics.median(ours):.1f} s, nnU-Net {statistics.median(theirs):.1f} s, "
          f"ratio {statistics.median(ours) / statistics.median(theirs):.2f}")


def time_ours(data: Path, out: Path) -> float:
    """Seconds of the four stages, each as its own command, check included in each that reads images."""
    started = time.monotonic()
    fingerprint, plan = out / "fingerprint.json", out / "plan.json"
    out.mkdir()
    command("check", data)
    command("fingerprint", data, "-o", fingerprint)
    command("plan", "--fingerprint", fingerprint, "--dataset", data / "dataset.json", "-o", plan)
    command("preprocess", data, "--plan", plan, "--config", "3d_fullres", "-o", out / "cases")
    return time.monotonic() - started


def command(*arguments: object) -> None:
    """One command of seg, whose failure ends the benchmark."""
    subprocess.run([SEG, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def time_theirs(environment: Path, raw: Path, out: Path) -> float:
    """Seconds of nnU-Net's command for the same, with its check."""
    folders = {"nnUNet_raw": str(raw), "nnUNet_preprocessed": str(out), "nnUNet_results": str(out)}
    started = time.monotonic()
    subprocess.run([environment / "bin" / "nnUNetv2_plan_and_preprocess", "-d", "4", "--verify_dataset_integrity",
                    "-c", "3d_fullres", "-np", "2"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, **folders, "nnUNet_compile": "f"})
    return time.monotonic() - started


def as_nnunet_raw(data: Path, raw: Path) -> Path:
    """The data set in nnU-Net's own layout."""
    description = json.loads((data / "dataset.json").read_text())
    folder = raw / "Dataset004_Benchmark"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in description["training"]:
        image, label = data / case["image"], data / case["label"]
        name = image.name.removesuffix(".nii.gz")
        shutil.copy(image, folder / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(label, folder / "labelsTr" / f"{name}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({
        "channel_names": description["modality"], "numTraining": len(description["training"]), "file_ending": ".nii.gz",
        "labels": {name: int(value) for value, name in description["labels"].items()},
    }))
    return raw


if __name__ == "__main__":
    main()
