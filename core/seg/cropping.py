"""The non-zero region of an image: what lies outside it is air or padding, and is cut away before anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seg.models import Size3

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nonzero_mask(image: NDArray[Any], *, fill: bool = True) -> NDArray[np.bool_]:
    """Where any channel is not zero, with holes filled.

    A hole is a zero region from which no path over voxel faces leads out of the volume, in all three axes at once; a
    single slice therefore has none (nnU-Net 2.8, SciPy's `binary_fill_holes` in three dimensions).

    Args:
        image: (C, Z, Y, X), any number type.
        fill: without, holes stay: where the box is all that is wanted, they make no difference.

    Returns:
        bool (Z, Y, X).
    """
    mask: NDArray[np.bool_] = image[0] != 0
    for channel in image[1:]:
        mask |= channel != 0
    if not fill:
        return mask
    box = _slices(*bounding_box(mask))
    if not mask[box].all():
        mask[box] |= _holes(mask[box])
    return mask


def bounding_box(mask: NDArray[np.bool_]) -> tuple[Size3, Size3]:
    """The smallest box around the true voxels of `mask` (Z, Y, X), as (start, stop), half-open.

    A mask without any true voxel gives the whole volume, so that an empty image stays an image.
    """
    start, stop = [0, 0, 0], list(mask.shape)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        if found.size == 0:
            return (0, 0, 0), (mask.shape[0], mask.shape[1], mask.shape[2])
        start[axis], stop[axis] = int(found[0]), int(found[-1]) + 1
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """False voxels that no path of false voxels joins to the faces of the box, which is tight around the mask."""
    from scipy import ndimage

    regions, count = ndimage.label(~mask)
    inside = np.ones(count + 1, dtype=bool)
    inside[0] = False  # label 0 is the mask itself
    for axis in range(3):
        for end in (0, -1):
            inside[np.take(regions, end, axis=axis)] = False
    holes: NDArray[np.bool_] = inside[regions]
    return holes


def _slices(start: Size3, stop: Size3) -> tuple[slice, slice, slice]:
    z, y, x = (slice(low, high) for low, high in zip(start, stop, strict=True))
    return z, y, x
