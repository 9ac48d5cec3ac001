"""Generated data sets in nnU-Net's layout, and plans that both programs follow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from attrs import frozen
from scipy import ndimage

Size3 = tuple[int, int, int]
SEG = Path(sys.executable).with_name("seg")


@frozen(kw_only=True)
class Cases:
    """A data set to generate: so many CT of one size (z, y, x) and spacing (mm), with smooth structures."""

    shape: Size3
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    classes: int = 2
    count: int = 1

    def write(self, folder: Path) -> Path:
        """Write it; the classes lie within each other, and each is a little brighter than the one around it."""
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        for number in range(self.count):
            image, label = self._case(np.random.default_rng(number))
            _write(folder / "imagesTr" / f"ct{number}_0000.nii.gz", image, self.spacing)
            _write(folder / "labelsTr" / f"ct{number}.nii.gz", label, self.spacing)
        labels = {"background": 0, **{f"class {index}": index for index in range(1, self.classes + 1)}}
        (folder / "dataset.json").write_text(json.dumps({
            "name": "Dataset001_CT", "channel_names": {"0": "CT"}, "labels": labels, "numTraining": self.count,
            "file_ending": ".nii.gz"}))
        return folder

    def _case(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        coarse = (8, 12, 12)
        field = ndimage.zoom(rng.standard_normal(coarse), [n / m for n, m in zip(self.shape, coarse, strict=True)])
        cuts = np.quantile(field, np.linspace(0.6, 1, self.classes + 1))
        label = np.searchsorted(cuts[:-1], field, side="right").astype(np.uint8)
        return (60 * field + rng.normal(0, 20, self.shape) + 20 * label - 100).astype(np.int16), label


@frozen(kw_only=True)
class Network:
    """What a plan is told of its network: patch (z, y, x), batch, features of the stages; two convolutions in each."""

    patch: Size3
    batch: int
    features: tuple[int, ...]

    def change(self, file: Path) -> Path:
        """Put it into the 3d_fullres of a plan in nnU-Net's format, each axis halved while it is even and over 4."""
        plan = json.loads(file.read_text())
        configuration = plan["configurations"]["3d_fullres"]
        stages, size, strides = len(self.features), list(self.patch), [[1, 1, 1]]
        for _ in range(stages - 1):
            strides.append([2 if axis % 2 == 0 and axis > 4 else 1 for axis in size])
            size = [axis // step for axis, step in zip(size, strides[-1], strict=True)]
        configuration.update(patch_size=list(self.patch), batch_size=self.batch)
        configuration["architecture"]["arch_kwargs"].update(
            n_stages=stages, features_per_stage=list(self.features), strides=strides,
            kernel_sizes=[[3, 3, 3]] * stages, n_conv_per_stage=[2] * stages,
            n_conv_per_stage_decoder=[2] * (stages - 1))
        file.write_text(json.dumps(plan, indent=2))
        return file


def plan(data: Path, spacing: Sequence[float] = ()) -> Path:
    """The plan of a data set in nnU-Net's format, beside its fingerprint in the same; `spacing` in mm, z, y, x."""
    chosen = ["--set", "planner.spacing=" + ",".join(map(str, spacing))] if spacing else []
    seg("fingerprint", data, "-o", data / "fingerprint.json", "--export-nnunet", data / "dataset_fingerprint.json")
    seg("plan", "--fingerprint", data / "fingerprint.json", "--dataset", data / "dataset.json", *chosen,
        "--export-nnunet", data / "nnUNetPlans.json")
    return data / "nnUNetPlans.json"


def seg(*arguments: object) -> None:
    """One command of seg, whose failure ends the benchmark."""
    subprocess.run([SEG, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def agreement(one: Path, other: Path) -> float:
    """Mean Dice of the classes of two label maps, background left out."""
    a, b = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (one, other))
    ids = [label for label in np.union1d(a, b) if label]
    return float(np.mean([2 * np.sum((a == k) & (b == k)) / (np.sum(a == k) + np.sum(b == k)) for k in ids] or [1.0]))


def _write(file: Path, array: np.ndarray, spacing: Sequence[float]) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(file))
