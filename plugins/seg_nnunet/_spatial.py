"""Cutting, rotating, scaling and mirroring of patches.

B batch, n samples that are transformed together, C channels, D transformed axes, P voxels of n patches along them, V
voxels of n boxes along them. Where D is two, the slices of a volume share one transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg import CaseArrays, Position, cut_patch, cut_previous, to_device

SLAB = 131072  # voxels that are interpolated at once on a processor
SLACK = 1e-2  # voxels by which a box is wider than its samples, against rounding
MIXED = -32768  # no label
BORDER = 2  # voxels outside a case that stand for all that is outside: linear interpolation reads two


def patches(
    cases: Sequence[CaseArrays],
    positions: Sequence[Position],
    patch: Sequence[int],
    matrix: NDArray[np.float64],
    device: torch.device,
    *,
    nearest: bool = False,
) -> list[Tensor]:
    """The patches at `positions`, transformed about their centres where `matrix` (B, D, D) is not the identity.

    Where D is less than three, the transform is within slices. `nearest` gives each voxel the nearest label, else the
    one with the largest linearly interpolated share. Returns image float32 (B, C, *patch) and label int16
    (B, *patch), -1 outside the case; then, where cases have one, the previous stage's labels in the same form, 0
    outside.
    """
    patch3 = (1, *patch) if len(patch) == 2 else tuple(patch)
    channels = cases[positions[0].case].image.shape[0]
    maps = 1 if cases[positions[0].case].previous is None else 2
    made = [torch.empty((len(positions), channels, *patch3), device=device),
            *(torch.empty((len(positions), *patch3), dtype=torch.int16, device=device) for _ in range(maps))]
    moved = (matrix != np.eye(matrix.shape[-1])).any(axis=(1, 2))
    for entry in np.flatnonzero(~moved).tolist():
        where = positions[entry]
        for into, patch_of_one in zip(made, _cut(cases[where.case], where.start, patch3), strict=True):
            into[entry] = to_device(patch_of_one, device)
    for entries, group in _groups(np.flatnonzero(moved), device):
        found = [(cases[positions[entry].case], positions[entry].start) for entry in entries.tolist()]
        for into, patches_of_group in zip(made, _transformed(found, patch3, matrix[entries], device, nearest=nearest),
                                           strict=True):
            into[group] = patches_of_group
    image, *labels = made
    return [image.view(len(positions), channels, *patch), *(one.view(len(positions), *patch) for one in labels)]


def mirror(arrays: Sequence[Tensor], flips: NDArray[np.bool_]) -> None:
    """Flip arrays (B, …, *patch) in place along the axes that `flips` (B, axes) names."""
    for combination in np.unique(flips, axis=0):
        if combination.any():
            rows = np.flatnonzero((flips == combination).all(axis=1))
            axes = [int(axis) - flips.shape[1] for axis in np.flatnonzero(combination)]
            for _, group in _groups(rows, arrays[0].device):
                for array in arrays:
                    array[group] = array[group].flip(axes)


def _cut(case: CaseArrays, start: Sequence[int], size: Sequence[int]) -> list[Tensor]:
    """Image (C, *size), label (*size), and the previous stage's labels where there are any."""
    return [*cut_patch(case, start, size), *([] if case.previous is None else [cut_previous(case, start, size)])]


def _groups(rows: NDArray[np.int64], device: torch.device) -> list[tuple[NDArray[np.int64], slice | Tensor]]:
    """Samples to work on together, and what takes them out of a batch.

    One by one on a processor, whose cache is small, else all at once, by an index that is on the device: for a list the
    host would wait.
    """
    if device.type == "cpu":
        return [(rows[at : at + 1], slice(row, row + 1)) for at, row in enumerate(rows.tolist())]
    return [(rows, torch.from_numpy(rows).to(device, non_blocking=True))] if len(rows) else []


def _transformed(
    found: Sequence[tuple[CaseArrays, Sequence[int]]],
    patch: Sequence[int],
    matrix: NDArray[np.float64],
    device: torch.device,
    *,
    nearest: bool = False,
) -> list[Tensor]:
    """Image (n, C, Z, Y, X) and label maps (n, Z, Y, X) of transformed patches, each read from the box that it reaches.

    `found` gives case and start of each patch. Images are interpolated linearly, labels as `patches` says.
    """
    dims = matrix.shape[-1]
    shapes = np.array([case.image.shape[1:] for case, _ in found])
    starts = np.array([start for _, start in found])
    low, size = _boxes(shapes, starts, patch, matrix)
    cut = [_cut(case, first, size) for (case, _), first in zip(found, low.tolist(), strict=True)]
    boxes = [to_device(torch.stack(one, one[0].dim() - dims), device)
             for one in zip(*cut, strict=True)]  # (C, [Z], n, *box), ([Z], n, *box), …
    centre = (starts + (np.array(patch) - 1) / 2 - low)[:, 3 - dims :]
    inner, box = patch[3 - dims :], size[3 - dims :]
    voxels = len(found) * math.prod(box)
    strides = [math.prod(box[axis + 1 :]) for axis in range(dims)]
    made = [box.new_empty((*box.shape[:-dims], *inner)) for box in boxes]
    by_cell = device.type == "cpu" and not nearest  # elsewhere, to ask which cells are mixed would make the host wait
    uniform = [_cells(box, dims).view(-1, voxels) if by_cell and not box.is_floating_point() else None for box in boxes]
    for first, slab in _slabs(inner, device):
        shift = np.zeros(dims)
        shift[0] = first + (slab[0] - inner[0]) / 2
        place, fraction = _places(matrix, centre + matrix @ shift, slab, box, device)
        for source, cells, target in zip(boxes, uniform, made, strict=True):
            targets = target.view(-1, len(found), *inner).narrow(2, first, slab[0])
            for number, (row, into) in enumerate(zip(source.view(-1, voxels), targets, strict=True)):
                value = (_interpolated if source.is_floating_point() else _nearest if nearest
                         else partial(_voted, cells=None if cells is None else cells[number]))
                into.copy_(value(row, place, fraction, strides).view(into.shape))
    return [one.movedim(one.dim() - dims - 1, 0) for one in made]


def _slabs(patch: Sequence[int], device: torch.device) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The patch in pieces along its first axis: where each begins, and its size.

    On a processor they are small: what the corners of neighbouring cells share then lies in the cache.
    """
    step = max(1, SLAB * patch[0] // math.prod(patch)) if device.type == "cpu" else patch[0]
    for first in range(0, patch[0], step):
        yield first, (min(step, patch[0] - first), *patch[1:])


def _boxes(
    shapes: NDArray[np.int64], starts: NDArray[np.int64], patch: Sequence[int], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.int64], tuple[int, int, int]]:
    """What transformed patches read: the first voxels of the boxes (n, 3) and their common size.

    Of what is outside a case, a border is enough: all of it looks the same.
    """
    dims = matrix.shape[-1]
    low, high = starts.copy(), starts + np.array(patch)
    half = (np.array(patch[3 - dims :]) - 1) / 2
    reach = np.abs(matrix) @ half + SLACK
    middle, end = starts[:, 3 - dims :] + half, shapes[:, 3 - dims :]
    low[:, 3 - dims :] = np.clip(np.floor(middle - reach), -BORDER, end).astype(np.int64)
    last = np.clip(np.floor(middle + reach) + 2, 0, end + BORDER).astype(np.int64)
    high[:, 3 - dims :] = np.maximum(last, low[:, 3 - dims :] + 2)
    z, y, x = (high - low).max(axis=0).tolist()
    return low, (z, y, x)


def _places(
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    patch: Sequence[int],
    box: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, list[Tensor]]:
    """Where the voxels of n patches, about `centre` (n, D) and turned by `matrix` (n, D, D), lie in n boxes.

    Returns the flat index of the voxel below, int32 (P,), and how far it is along each axis to the next one, D times
    float32 (P,).
    """
    n, dims = centre.shape
    table = np.concatenate([matrix, (centre - matrix @ ((np.array(patch) - 1) / 2))[..., None]], axis=-1)
    factors = torch.from_numpy(table.astype(np.float32)).to(device, non_blocking=True)
    place = torch.arange(n, dtype=torch.int32, device=device).view(n, *[1] * dims)
    fraction = []
    for axis, length in enumerate(box):
        where = factors[:, axis, dims].view(n, *[1] * dims)
        for other, steps in enumerate(patch):
            shape = [steps if one == other else 1 for one in range(dims)]
            line = torch.arange(steps, dtype=torch.float32, device=device).view(1, *shape)
            where = where + factors[:, axis, other].view(n, *[1] * dims) * line
        where.clamp_(0, length - 1 - SLACK)
        below = where.to(torch.int32)  # the floor, as none is negative
        place = place * length + below
        fraction.append(where.sub_(below).view(-1))
    return place.view(-1), fraction


def _interpolated(image: Tensor, place: Tensor, fraction: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Linear interpolation of an image (V,) at P places: float32 (P,)."""
    if not strides:
        return image.index_select(0, place)
    first = _interpolated(image, place, fraction[1:], strides[1:])
    second = _interpolated(image[strides[0] :], place, fraction[1:], strides[1:])
    return first.lerp_(second, fraction[0])


def _nearest(label: Tensor, place: Tensor, fraction: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """The nearest label to P places, from a label map (V,): int16 (P,)."""
    steps = sum((part >= 0.5).int() * stride for part, stride in zip(fraction, strides, strict=True))
    return label.index_select(0, place + steps)


def _cells(labels: Tensor, dims: int) -> Tensor:
    """For each voxel the label that all corners of the cell above it hold, MIXED where they differ, as `labels` lies.

    `labels` int16 (…, *box) with D axes; the last voxels along an axis have no cell and are MIXED too.
    """
    low = high = labels
    for axis in range(labels.dim() - dims, labels.dim()):
        count = labels.shape[axis] - 1
        low = torch.minimum(low.narrow(axis, 0, count), low.narrow(axis, 1, count))
        high = torch.maximum(high.narrow(axis, 0, count), high.narrow(axis, 1, count))
    cells = torch.full_like(labels, MIXED)
    inner: tuple[Any, ...] = (..., *(slice(0, count) for count in low.shape[labels.dim() - dims :]))
    cells[inner] = torch.where(low == high, low, MIXED)
    return cells


def _voted(
    label: Tensor, place: Tensor, fraction: Sequence[Tensor], strides: Sequence[int], cells: Tensor | None = None
) -> Tensor:
    """The label of the largest linearly interpolated share at P places, from a label map (V,): int16 (P,).

    The same as the arg-max over interpolated indicator maps of all labels, whatever their number: where all corners
    of the cell hold one label it is that, where they hold two the share of one decides, elsewhere the corners vote.
    With `cells` (see `_cells`) only the corners of mixed ones are looked at.
    """
    if cells is None:
        return _vote(_corners(label, place, strides), fraction)
    found = cells.index_select(0, place)
    mixed = (found == MIXED).nonzero().squeeze(1)
    held = _corners(label, place.index_select(0, mixed), strides)
    part = [one.index_select(0, mixed) for one in fraction]
    two, other = _folded(held, torch.minimum), _folded(held, torch.maximum)
    is_other = held == other
    winner = torch.where(_share(is_other, part) > 0.5, other, two)
    several = _folded(is_other | (held == two), torch.logical_and).logical_not_().nonzero().squeeze(1)
    if len(several):
        corners = held.index_select(1, several)
        winner.index_copy_(0, several, _vote(corners, [one.index_select(0, several) for one in part]))
    return found.index_copy_(0, mixed, winner)


def _folded(corners: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The corners (2^D, P) combined to one row (P,); several times as fast as a reduction along the first axis."""
    while len(corners) > 1:
        corners = combine(*corners.chunk(2))
    return corners[0]


def _corners(label: Tensor, place: Tensor, strides: Sequence[int]) -> Tensor:
    """The labels at the 2^D corners of the cells at P places, int16 (2^D, P), the first axis slowest."""
    steps = product(*[(0, stride) for stride in strides])
    return torch.stack([label[sum(step) :].index_select(0, place) for step in steps])


def _vote(held: Tensor, fraction: Sequence[Tensor]) -> Tensor:
    """The label with the largest share of P cells, int16 (P,), among those that their corners (2^D, P) hold."""
    best, most = held[0], torch.zeros_like(fraction[0])
    for one in held:
        share = _share(held == one, fraction)
        best = torch.where(share > most, one, best)
        most = torch.maximum(most, share)
    return best


def _share(corners: Tensor, fraction: Sequence[Tensor]) -> Tensor:
    """Linear interpolation between the corners (2^D, P) of P cells: float32 (P,)."""
    values = corners.float()
    for part in fraction:
        half = len(values) // 2
        values = torch.lerp(values[:half], values[half:], part)
    return values[0]
