"""Does the phantom show a bad pipeline? The same training twice: with the true spacings, and with all of them ignored.

    python benchmarks/control.py [--cases 24] [--epochs 8]

The control is the same phantom whose headers say 1 mm everywhere. Both train a small network for the same number of
steps on fold 0; Dice is counted in voxels, so the spacing plays no role in it. Prints both, and the difference.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

SEG = Path(sys.executable).with_name("seg")
SMALL = ["--fold", "0", "--seed", "0", "--recipe", "budget", "--set", "train.steps_per_epoch=100",
         "--set", "architecture.features=8", "--set", "planner.vram_gb=2"]


def main() -> None:
    """Make both data sets, train on both, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        true, control = Path(work) / "true", Path(work) / "control"
        for folder in (true, control):
            command("phantom", folder, "--cases", given.cases)
        for file in [*control.glob("imagesTr/*"), *control.glob("labelsTr/*")]:
            image = sitk.ReadImage(str(file))
            image.SetSpacing((1.0, 1.0, 1.0))
            sitk.WriteImage(image, str(file))
        dice = [trained(folder, given.epochs) for folder in (true, control)]
    print(f"Dice {dice[0]:.3f} with the spacings, {dice[1]:.3f} without: {dice[0] - dice[1]:.3f} lost")


def trained(data: Path, epochs: int) -> float:
    """Mean Dice of fold 0 after a training."""
    out = data.with_name(f"{data.name}-run")
    command("run", data, "-o", out, "--epochs", epochs, *SMALL)
    found = json.loads((out / "validation/3d_fullres/fold_0/metrics.json").read_text())
    print(data.name, {name: round(means["dice"], 3) for name, means in found["class_means"].items()})
    return float(found["mean"]["dice"])


def command(*arguments: object) -> None:
    """One command of seg, whose failure ends the benchmark."""
    subprocess.run([SEG, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
