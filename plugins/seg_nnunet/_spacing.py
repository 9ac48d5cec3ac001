"""Spacing, order of the axes and median shape of a whole data set (Isensee et al. 2021; nnU-Net 2.8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg import Fingerprint, usage_error
from seg_nnunet._words import AXES, by, counted

ANISOTROPY = 3  # an axis is coarse if its spacing is more than this times that of any other, and its shape as much less
COARSE_PERCENTILE = 10


def target_spacing(fingerprint: Fingerprint, override: Sequence[float]) -> tuple[NDArray[np.float64], str]:
    """The spacing (z, y, x) in mm that all cases are brought to, and why.

    It is the median of the cases. Where one axis is much coarser than the others (in mm and in voxels), the 10th
    percentile of that axis is taken, so that the finer cases are not blurred, but never less than the other axes.

    Raises:
        SegError: `override` is not three positive numbers (exit 2).
    """
    if override:
        if len(override) != 3 or min(override) <= 0:
            raise usage_error(f"planner.spacing is {list(override)}", expected="three positive numbers (z, y, x) in mm")
        rules, _ = target_spacing(fingerprint, ())
        return np.array(override, dtype=np.float64), f"Set by planner.spacing; the rules would give {by(rules)} mm."
    spacings, shapes = np.array(fingerprint.spacings, dtype=np.float64), np.array(fingerprint.shapes)
    target, shape = np.median(spacings, axis=0), np.median(shapes, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    low = float(np.percentile(spacings[:, coarse], COARSE_PERCENTILE))
    finest, short = float(target[others].max()), float(shape[others].min())
    why = (f"The median spacing of {counted(len(spacings), 'case')}, {by(target)} mm (z, y, x of the files).",
           f"{AXES[coarse]} has {target[coarse]:.6g} mm beside {finest:.6g}, {shape[coarse]:g} voxels beside {short:g}",
           f"the {COARSE_PERCENTILE}th percentile, {low:.6g} mm")
    if not (target[coarse] > ANISOTROPY * finest and ANISOTROPY * shape[coarse] < short):
        return target, (f"{why[0]} {why[1]}: not both {ANISOTROPY} times coarser and {ANISOTROPY} times shorter, else "
                        f"it would be {why[2]}.")
    target[coarse] = low if low >= finest else finest + 1e-5
    floor = "" if low >= finest else f", but no less than {finest:.6g}"
    return target, (f"{why[0]} {why[1]}: {ANISOTROPY} times coarser and {ANISOTROPY} times shorter, so instead of the "
                    f"median it is {why[2]}{floor}.")


def order_reason(order: Sequence[int], spacing: NDArray[np.float64]) -> str:
    """Why the axes stand in `order`; `spacing` (z, y, x) is as the files have it."""
    first, *others = order
    turned = ("which is the order of the files" if first == 0 else
              f"where the order of the files would cut slices across {AXES[0]}")
    return (f"The axis of the largest target spacing comes first, the earliest of equals: {AXES[first]} of the files, "
            f"{spacing[first]:.6g} mm beside {by(spacing[others])}. 2d takes its slices across it, {turned}.")


def axis_order(spacing: NDArray[np.float64]) -> tuple[int, int, int]:
    """The axis of the largest spacing first, the others after it as they stand."""
    first = int(np.argmax(spacing))
    second, third = (axis for axis in range(3) if axis != first)
    return first, second, third


def median_shape(fingerprint: Fingerprint, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the cases of the shape (z, y, x) at `spacing`; it may end in .5."""
    spacings, shapes = np.array(fingerprint.spacings, dtype=np.float64), np.array(fingerprint.shapes)
    resampled: NDArray[np.float64] = np.median(np.rint(spacings / spacing * shapes), axis=0)
    return resampled


def original_medians(
    fingerprint: Fingerprint, order: Sequence[int]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Median spacing (mm) and rounded median shape of the cases as they are, axes in `order`."""
    spacing = np.median(np.array(fingerprint.spacings, dtype=np.float64), axis=0)[list(order)]
    shape = np.rint(np.median(np.array(fingerprint.shapes), axis=0))[list(order)]
    a, b, c = spacing.tolist()
    z, y, x = shape.tolist()
    return (a, b, c), (z, y, x)
