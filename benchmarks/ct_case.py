"""Preprocessing of one CT-sized case, beside nnU-Net v2: processor time and memory, one process against one.

    python benchmarks/ct_case.py --nnunet ENV [--repeats 3]

A generated CT of 128×256×256 voxels is cropped, normalised, resampled to 256×177×209 (order 3, labels of 3 and of 14
classes), searched for class locations and stored; both programs follow the same plan. ENV is a virtual environment with
nnunetv2. Prints, for each, the processor's seconds and how far the peak of the memory rose, imports not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from beside.cases import Cases, Size3, plan
from beside.processes import in_turn, run

SHAPE, SPACING = (128, 256, 256), (3.0, 0.9, 0.9)
TARGET = (1.5, 1.3, 1.1)  # mm, z, y, x: 256×177×209 voxels

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
volume = read_image((data / "imagesTr/ct0_0000.nii.gz",))
label, _ = read_label(data / "labelsTr/ct0.nii.gz", labels)
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
    str(out / "ct"), [str(data / "imagesTr/ct0_0000.nii.gz")], str(data / "labelsTr/ct0.nii.gz"), plans,
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
        report(classes, measure(given.nnunet, classes, given.repeats))


def measure(nnunet: Path, classes: int, repeats: int, shape: Size3 = SHAPE) -> dict[str, list[dict[str, float]]]:
    """The figures of each run of both programs."""
    with tempfile.TemporaryDirectory() as work:
        data = Cases(shape=shape, spacing=SPACING, classes=classes).write(Path(work) / "Dataset001_CT")
        file = plan(data, TARGET)
        sides = {"seg": (Path(sys.executable), OURS), "nnU-Net": (nnunet / "bin/python", THEIRS)}
        return in_turn({name: partial(_one, python, code, [data, file, Path(work) / name])
                        for name, (python, code) in sides.items()}, repeats)


def _one(python: Path, code: str, arguments: list[Path], turn: int) -> dict[str, float]:
    """The figures of one run in a process of its own."""
    data, file, out = arguments
    folders = dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), str(data.parent))
    return run([python, "-c", code + FIGURES, data, file, f"{out}{turn}"], folders).figures


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
