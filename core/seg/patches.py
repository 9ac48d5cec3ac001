"""Plain patches out of cases, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seg.errors import Record, SegError
from seg.kinds import CaseArrays


def cut_patch(case: CaseArrays, start: Sequence[int], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The box [start, start + size) of a case; `start` may be negative, the box may reach beyond the end.

    Args:
        case: tensors, or HDF5 datasets of an open store.
        start: first voxel (z, y, x).
        size: voxels in z, y, x.

    Returns:
        Image float32 (C, *size), 0 outside the case; label int16 (*size), -1 outside. Copies, on the case's device.

    Raises:
        SegError: the file is damaged.
    """
    channels, shape = case.image.shape[0], case.image.shape[1:]
    device = case.image.device if isinstance(case.image, Tensor) else None
    image = torch.zeros((channels, *size), device=device)
    label = torch.full(tuple(size), -1, dtype=torch.int16, device=device)
    low = [max(0, first) for first in start]
    high = [min(end, first + length) for end, first, length in zip(shape, start, size, strict=True)]
    if all(bottom < top for bottom, top in zip(low, high, strict=True)):
        source = tuple(slice(bottom, top) for bottom, top in zip(low, high, strict=True))
        target = tuple(slice(bottom - first, top - first)
                       for bottom, top, first in zip(low, high, start, strict=True))
        image[:, *target] = _read(case.image, (slice(None), *source))
        label[target] = _read(case.label, source)
    return image, label


def _read(array: Any, where: tuple[slice, ...]) -> Tensor:
    if isinstance(array, Tensor):
        return array[where]
    try:
        return torch.from_numpy(array[where])
    except OSError as error:
        raise damaged(array.file.filename, error) from error


def damaged(file: str, error: Exception) -> SegError:
    """What to say of a case file that cannot be read (exit 3)."""
    return SegError(Record(code="SEG-D30", found=f"damaged: {error}", expected="a whole file of the case store",
                           advice="Delete it and run `seg preprocess` again: only this case is redone.", file=file))
