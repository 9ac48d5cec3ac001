"""What components are tried on: tiny, the same every time, made without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg.models import (
    Case,
    CaseMetrics,
    ClassMetrics,
    Configuration,
    Dataset,
    Description,
    Evaluation,
    Fingerprint,
    Intensities,
    Labels,
    Topology,
)
from seg.topology import doubling_features, stage_voxels

PLAIN = Labels(values={"background": 0, "organ": 1, "tumour": 2})
IGNORING = Labels(values={"background": 0, "organ": 1, "tumour": 2, "ignore": 3})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
STATISTICS = Intensities(mean=90.0, median=80.0, std=30.0, min=0.0, max=255.0, percentile_00_5=2.0,
                         percentile_99_5=250.0)
Shape = tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], tuple[int, ...]]
"""Kernels and strides, one a stage, and a patch."""

SHAPES: dict[str, Shape] = {
    "2-D": (((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), (12, 20)),
    "3-D": (((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)), (8, 12, 8)),
    "anisotropic 3-D": (((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (6, 12, 8)),
    "3-D of an odd number of slices": (((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)), (5, 8, 6)),
}


@frozen(kw_only=True)
class PlainArchitecture:
    """A U-Net as a planner sees it: sizes only, nothing to build."""

    def topology(
        self, kernels: Sequence[Sequence[int]], strides: Sequence[Sequence[int]], in_channels: int, outputs: int
    ) -> Topology:
        """Features doubled from 32 on, two convolutions a stage."""
        return Topology(in_channels=in_channels, outputs=outputs, features=doubling_features(32, 0, kernels),
                        kernels=tuple(map(tuple, kernels)), strides=tuple(map(tuple, strides)),
                        blocks=(2,) * len(kernels), decoder_blocks=(2,) * (len(kernels) - 1))

    def feature_map_size(self, topology: Topology, patch: Sequence[int], classes: int) -> int:
        """Five maps in each stage, and the head's."""
        voxels = stage_voxels(topology, patch)
        return sum(5 * f * n for f, n in zip(topology.features, voxels, strict=True)) + classes * voxels[0]

    def loss_weights(self, topology: Topology) -> tuple[float, ...]:  # noqa: ARG002 - of the contract
        """One output."""
        return (1.0,)

    def build(self, topology: Topology) -> Any:
        """Nothing."""
        raise AssertionError(f"found a planner that builds a network of {topology.stages} stages; expected none")


def configuration(patch: tuple[int, ...], *, batch: int = 2, labels: Labels = PLAIN, **changes: Any) -> Configuration:
    """A configuration of two channels at 1 mm."""
    dims = len(patch)
    topology = Topology(in_channels=2, outputs=labels.outputs, features=(4, 8), kernels=((3,) * dims,) * 2,
                        strides=((1,) * dims, (1,) * dims), blocks=(1, 1), decoder_blocks=(1,))
    values: dict[str, Any] = {
        "name": "sample", "spacing": (1.0, 1.0, 1.0), "median_shape": tuple(map(float, patch)), "patch": patch,
        "batch": batch, "topology": topology, "normalization": ("zscore",) * 2, "use_mask_for_norm": (False,) * 2,
        "mirror_axes": tuple(range(dims)),
    }
    return Configuration(**(values | changes))


def fingerprints() -> dict[str, tuple[Fingerprint, Description]]:
    """Data sets as planners meet them, by what is special about them."""
    sizes: dict[str, tuple[tuple[int, int, int], tuple[float, float, float], int, int]] = {
        "isotropic": ((60, 64, 56), (1.0, 1.0, 1.0), 1, 2),
        "anisotropic": ((20, 256, 240), (5.0, 0.8, 0.8), 1, 1),
        "two-dimensional": ((1, 300, 400), (999.0, 1.0, 1.0), 1, 1),
        "huge": ((600, 512, 512), (0.8, 0.7, 0.7), 1, 2),
        "tiny": ((18, 20, 22), (1.0, 1.0, 1.0), 1, 1),
        "of many channels and classes": ((80, 90, 70), (1.0, 1.0, 1.2), 4, 12),
    }
    return {name: _fingerprint(name, *values) for name, values in sizes.items()}


def _fingerprint(
    name: str, shape: tuple[int, int, int], spacing: tuple[float, float, float], channels: int, classes: int
) -> tuple[Fingerprint, Description]:
    z, y, x = shape
    shapes = (shape, (z, y + y // 8, x), (z, y, x + x // 8))
    names = [f"class {number}" for number in range(1, classes + 1)]
    labels = Labels(values={"background": 0, **{name: index for index, name in enumerate(names, 1)}})
    found = Fingerprint(
        cases=("a", "b", "c"), shapes=shapes, spacings=(spacing,) * 3, relative_size_after_cropping=1.0,
        intensities=(STATISTICS,) * channels, class_voxels=dict.fromkeys(names, 500),
        class_cases=dict.fromkeys(names, 3), orientations={"2D" if z == 1 else "LPS": 3})
    description = Description(name=name, channel_names=tuple(f"MR {c}" for c in range(channels)), labels=labels,
                              training_cases=20)
    return found, description


def dataset(folder: Path) -> Dataset:
    """A generated data set of two cases on disk, in nnU-Net's layout."""
    from seg.convert import load_json
    from seg.nnunet_files import read_description
    from seg.phantom import write_phantom

    write_phantom(folder, cases=2, shape=(12, 16, 14))
    file = folder / "dataset.json"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    cases = tuple(Case(id=name, images=(folder / "imagesTr" / f"{name}_0000.nii.gz",),
                       label=folder / "labelsTr" / f"{name}.nii.gz") for name in names)
    return Dataset(description=read_description(load_json(file), str(file)), root=folder, layout="sample", cases=cases)


def balls(shape: tuple[int, int, int], seed: int) -> NDArray[np.int16]:
    """Ids (Z, Y, X): a ball of the organ (1) somewhere near the middle, one of tumour (2) in it."""
    rng = np.random.default_rng(seed)
    centre = [size / 2 + rng.uniform(-1, 1) for size in shape]
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    distance = sum(((axis - middle) / (size / 3)) ** 2 for axis, middle, size in zip((z, y, x), centre, shape,
                                                                                     strict=True))
    return np.where(distance < 0.3, 2, np.where(distance < 1, 1, 0)).astype(np.int16)


def evaluation(dice: float | None, hd95: float | None = 3.0) -> Evaluation:
    """Metrics of two cases of one class, both the same."""
    one = ClassMetrics(dice=dice, hd95_mm=hd95, nsd=dice, truth_voxels=9, predicted_voxels=9)
    mean = {"dice": dice, "hd95_mm": hd95, "nsd": dice}
    return Evaluation(cases=tuple(CaseMetrics(case=name, classes={"organ": one}) for name in "ab"),
                      class_means={"organ": mean}, mean=mean)
