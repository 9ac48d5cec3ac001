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
    return _cut(case.image, start, size, 0.0), _cut(case.label, start, size, -1)


def cut_previous(case: CaseArrays, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """The same box of what the previous stage of a cascade predicted: int16 (*size), 0 outside the case."""
    return _cut(case.previous, start, size, 0)


def previous_channels(previous: Tensor, count: int) -> Tensor:
    """The prediction of a previous stage as further channels of the image, one for each foreground label (nnU-Net 2.8).

    Args:
        previous: ids (B, *patch); ids of labels run from 1 to `count`, anything else is no label.
        count: how many labels there are.

    Returns:
        float32 (B, count, *patch) of zeros and ones, on the same device.
    """
    ids = torch.arange(1, count + 1, device=previous.device, dtype=previous.dtype)
    return (previous.unsqueeze(1) == ids.view(1, -1, *[1] * (previous.dim() - 1))).float()


def with_previous(image: Tensor, previous: Tensor | None, in_channels: int) -> Tensor:
    """A prepared image (C, Z, Y, X) as the network takes it: with the previous stage's channels, if there is one.

    `previous` are ids (Z, Y, X) on the same grid; the result has `in_channels` channels.
    """
    if previous is None:
        return image
    further = previous_channels(previous.unsqueeze(0), in_channels - image.shape[0])
    return torch.cat([image, further[0].to(image.device)])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; what goes from the machine's memory to a CUDA device is waited for by the stream alone.

    For that it is copied to page-locked memory first, which torch keeps until the device has read it. Where there is
    none to be had, and for any other way, it is a plain copy; none at all where it is there already.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        try:
            return tensor.pin_memory().to(device, non_blocking=True)
        except RuntimeError:  # the system locks no more pages; a device without memory fails again below
            return tensor.to(device)
    return tensor.to(device)


def damaged(file: str, error: Exception) -> SegError:
    """What to say of a case file that cannot be read (exit 3)."""
    return SegError(Record(code="SEG-D30", found=f"damaged: {error}", expected="a whole file of the case store",
                           advice="Delete it and run `seg preprocess` again: only this case is redone.", file=file))


def _cut(array: Any, start: Sequence[int], size: Sequence[int], outside: float) -> Tensor:
    """The box of an array (…, Z, Y, X), `outside` where it has none."""
    leading, shape = array.shape[:-3], array.shape[-3:]
    device = array.device if isinstance(array, Tensor) else None
    kind = torch.float32 if len(leading) else torch.int16
    cut = torch.full((*leading, *size), outside, dtype=kind, device=device)
    low = [max(0, first) for first in start]
    high = [min(end, first + length) for end, first, length in zip(shape, start, size, strict=True)]
    if all(bottom < top for bottom, top in zip(low, high, strict=True)):
        source = tuple(slice(bottom, top) for bottom, top in zip(low, high, strict=True))
        target: tuple[Any, ...] = tuple(slice(bottom - first, top - first)
                                        for bottom, top, first in zip(low, high, start, strict=True))
        cut[(..., *target)] = _read(array, (..., *source))
    return cut


def _read(array: Any, where: tuple[Any, ...]) -> Tensor:
    if isinstance(array, Tensor):
        return array[where]
    try:
        return torch.from_numpy(array[where])
    except OSError as error:
        raise damaged(array.file.filename, error) from error
