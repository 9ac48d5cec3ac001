"""Preprocessing of one CT-sized case, beside nnU-Net v2: processor time and memory, one process against one.

    python benchmarks/ct_case.py --nnunet ENV [--repeats 3]

A generated CT of 128×256×256 voxels is cropped, normalised, resampled to 256×177×209 (order 3, labels of 3 and of 14
classes), searched for class locations and stored; both programs follow the same plan. ENV is a virtual environment with
nnunetv2. Prints, for each, the processor's seconds and how far the peak of the memory rose, imports not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from scipy import ndimage

SHAPE, SPACING = (128, 256, 256), (3.0, 0.9, 0.9)
TARGET = "1.5,1.3,1.1"  # z, y, x: 256×177×209 voxels
SEG = Path(sys.executable).with_name("seg")

OURS = """
import json, resource, sys, time
from pathlib import Path
import SimpleITK, filelock, h5py, scipy.linalg, scipy.ndimage, seg._guard, seg._nifti
from seg.images import read_image, read_label
from seg.nnunet_files import read_plan_file
from seg.discovery import discover
from seg.normalisation import Normalisers
from seg.preprocessing import Preparation, class_locations, prepare
from seg.store import Store
data, plan_file, out = map(Path, sys.argv[1:])
plan = read_plan_file(plan_file)
configuration, labels = plan.configurations["3d_fullres"], plan.description.labels
how = Preparation(plan=plan, configuration=configuration, normalisers=Normalisers.resolve([configuration], discover()))
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
volume = read_image((data / "imagesTr/ct_0000.nii.gz",))
label, _ = read_label(data / "labelsTr/ct.nii.gz", labels)
prepared = prepare(volume.array, volume.spacing, how, label, "ct")
Store(out).write("ct", prepared, class_locations(prepared.label, labels), configuration.patch3, "")
"""
THEIRS = """
import json, resource, sys, time
from pathlib import Path
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
data, plan_file, out = map(Path, sys.argv[1:])
plans = PlansManager(str(plan_file))
description = json.loads((data / "dataset.json").read_text())
out.mkdir()
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
DefaultPreprocessor(verbose=False).run_case_save(
    str(out / "ct"), [str(data / "imagesTr/ct_0000.nii.gz")], str(data / "labelsTr/ct.nii.gz"), plans,
    plans.get_configuration("3d_fullres"), description)
"""
FIGURES = """
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"cpu_s": time.process_time() - started, "rise_mb": (after - before) / 1024, "peak_mb": after / 1024}))
"""


def main() -> None:
    """Make the case, run both in turn, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for classes in (3, 14):
        with tempfile.TemporaryDirectory() as work:
            data = make_case(Path(work) / "Dataset001_CT", classes)
            plan = data / "nnUNetPlans.json"
            subprocess.run([SEG, "fingerprint", data, "-o", data / "fingerprint.json"], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run([SEG, "plan", "--fingerprint", data / "fingerprint.json", "--dataset", data / "dataset.json",
                            "--set", f"planner.spacing={TARGET}", "--export-nnunet", plan], check=True,
                           stdout=subprocess.DEVNULL)
            rows: dict[str, list[dict[str, float]]] = {"seg": [], "nnU-Net": []}
            for repeat in range(given.repeats):
                for name, python, code in (("seg", Path(sys.executable), OURS),
                                           ("nnU-Net", given.nnunet / "bin/python", THEIRS)):
                    rows[name].append(one(python, code, [data, plan, Path(work) / f"{name}{repeat}"]))
        report(classes, rows)


def make_case(folder: Path, classes: int) -> Path:
    """A data set of one CT with smooth structures, in nnU-Net's layout."""
    rng = np.random.default_rng(0)
    field = ndimage.zoom(rng.standard_normal((8, 12, 12)), [n / m for n, m in zip(SHAPE, (8, 12, 12), strict=True)])
    cuts = np.quantile(field, np.linspace(0.6, 1, classes + 1))
    label = np.searchsorted(cuts[:-1], field, side="right").astype(np.uint8)
    image = (60 * field + rng.normal(0, 20, SHAPE) + 20 * label - 100).astype(np.int16)
    for name, array in (("imagesTr/ct_0000", image), ("labelsTr/ct", label)):
        (folder / name).parent.mkdir(parents=True)
        written = sitk.GetImageFromArray(array)
        written.SetSpacing(SPACING[::-1])
        sitk.WriteImage(written, str(folder / f"{name}.nii.gz"))
    labels = {"background": 0, **{f"class {index}": index for index in range(1, classes + 1)}}
    (folder / "dataset.json").write_text(json.dumps({
        "name": "CT", "channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}))
    return folder


def one(python: Path, code: str, arguments: list[Path]) -> dict[str, float]:
    """The figures of one run in a process of its own, with one thread."""
    folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), str(arguments[0].parent))
    run = subprocess.run([python, "-c", code + FIGURES, *arguments], check=True, capture_output=True, text=True,
                         env={**os.environ, **folders, "OMP_NUM_THREADS": "1"})
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def report(classes: int, rows: dict[str, list[dict[str, float]]]) -> None:
    """The medians of both, and their ratios."""
    middle = {name: {key: statistics.median(row[key] for row in found) for key in found[0]}
              for name, found in rows.items()}
    for name, found in middle.items():
        print(f"{classes} classes, {name}: {found['cpu_s']:.2f} s of the processor, memory rises by "
              f"{found['rise_mb']:.0f} MB to {found['peak_mb']:.0f} MB")
    ours, theirs = middle["seg"], middle["nnU-Net"]
    print(f"{classes} classes: {theirs['cpu_s'] / ours['cpu_s']:.1f} times less time, "
          f"{theirs['rise_mb'] / ours['rise_mb']:.1f} times less memory")


if __name__ == "__main__":
    main()
