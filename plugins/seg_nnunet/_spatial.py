"""Cutting, rotating, scaling and mirroring of patches.

B batch, n samples that are transformed together, C channels, S slices that share one transform, D transformed axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seg import CaseArrays, Position, cut_patch

MIXED = -32768  # stands for "several labels" in a map of cells
SLACK = 1e-2  # voxels by which a box is wider than its samples, against rounding


def patches(
    cases: Sequence[CaseArrays],
    positions: Sequence[Position],
    patch: Sequence[int],
    matrix: NDArray[np.float64],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """The patches at `positions`, transformed about their centres where `matrix` (B, D, D) is not the identity.

    Where D is less than three, the transform is within slices. Returns image float32 (B, C, *patch) and label int16
    (B, *patch), -1 outside the case.
    """
    patch3 = (1, *patch) if len(patch) == 2 else tuple(patch)
    channels = cases[positions[0].case].image.shape[0]
    image = torch.empty((len(positions), channels, *patch3), device=device)
    label = torch.empty((len(positions), *patch3), dtype=torch.int16, device=device)
    moved = (matrix != np.eye(matrix.shape[-1])).any(axis=(1, 2))
    for entry in np.flatnonzero(~moved):
        where = positions[entry]
        image[entry], label[entry] = cut_patch(cases[where.case], where.start, patch3)
    for group in _groups(np.flatnonzero(moved), device):
        found = [(cases[positions[entry].case], positions[entry].start) for entry in group]
        image[group], label[group] = _transformed(found, patch3, matrix[group], device)
    return image.view(len(positions), channels, *patch), label.view(len(positions), *patch)


def mirror(image: Tensor, label: Tensor, flips: NDArray[np.bool_]) -> None:
    """Flip image (B, C, *patch) and label (B, *patch) in place along the axes that `flips` (B, axes) names."""
    for combination in np.unique(flips, axis=0):
        if combination.any():
            rows = np.flatnonzero((flips == combination).all(axis=1)).tolist()
            axes = [int(axis) - flips.shape[1] for axis in np.flatnonzero(combination)]
            for array in (image, label):
                array[rows] = array[rows].flip(axes)


def _groups(rows: NDArray[np.int64], device: torch.device) -> list[list[int]]:
    """Samples to transform together: one by one on a processor, whose cache is small, else all at once."""
    if device.type == "cpu":
        return [[int(row)] for row in rows]
    return [rows.tolist()] if len(rows) else []


def _transformed(
    found: Sequence[tuple[CaseArrays, Sequence[int]]],
    patch: Sequence[int],
    matrix: NDArray[np.float64],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Image (n, C, Z, Y, X) and label (n, Z, Y, X) of transformed patches, each read from the box that it reaches."""
    dims = matrix.shape[-1]
    offset, size = _box(patch, matrix)
    cut = [
        cut_patch(case, [a + b for a, b in zip(start, shift, strict=True)], size)
        for (case, start), shift in zip(found, offset.tolist(), strict=True)
    ]
    image = torch.stack([one for one, _ in cut]).to(device, non_blocking=True)
    label = torch.stack([one for _, one in cut]).to(device, non_blocking=True)
    n, channels = image.shape[:2]
    centre = (np.array(patch) - 1) / 2 - offset
    inner, box = tuple(patch[3 - dims :]), tuple(size[3 - dims :])
    sampled = _sample_image(image.reshape(n, -1, *box), matrix, centre[:, 3 - dims :], inner)
    voted = _sample_label(label.reshape(n, -1, *box), matrix, centre[:, 3 - dims :], inner)
    return sampled.view(n, channels, *patch), voted.view(n, *patch)


def _box(patch: Sequence[int], matrix: NDArray[np.float64]) -> tuple[NDArray[np.int64], tuple[int, int, int]]:
    """What transformed patches read: the offset of each box from the patch's start (n, 3), and their common size.

    Every sample lies between two voxels of the box along each transformed axis.
    """
    half = (np.array(patch) - 1) / 2
    offset = np.zeros((len(matrix), 3), dtype=np.int64)
    size = np.array(patch)
    dims = matrix.shape[-1]
    reach = np.abs(matrix) @ half[3 - dims :] + SLACK
    low = np.floor(half[3 - dims :] - reach).astype(np.int64)
    high = np.floor(half[3 - dims :] + reach).astype(np.int64) + 2
    offset[:, 3 - dims :] = low
    size[3 - dims :] = (high - low).max(axis=0)
    z, y, x = size.tolist()
    return offset, (z, y, x)


def _coordinates(
    matrix: NDArray[np.float64], centre: NDArray[np.float64], patch: Sequence[int], device: torch.device
) -> Tensor:
    """Where each voxel of the patch lies: float32 (n, D, *patch) from matrix (n, D, D) and centre (n, D)."""
    n, dims = centre.shape
    half = (np.array(patch) - 1) / 2
    origin = centre - matrix @ half
    parts = np.concatenate([origin[..., None], matrix], axis=-1)
    table = torch.from_numpy(parts.astype(np.float32)).to(device, non_blocking=True)
    total = table[..., 0].view(n, dims, *[1] * dims)
    for axis, length in enumerate(patch):
        shape = [length if other == axis else 1 for other in range(dims)]
        steps = torch.arange(length, dtype=torch.float32, device=device).view(1, 1, *shape)
        total = total + table[..., axis + 1].view(n, dims, *[1] * dims) * steps
    return total


def _sample_image(
    image: Tensor, matrix: NDArray[np.float64], centre: NDArray[np.float64], patch: Sequence[int]
) -> Tensor:
    """Linear interpolation of image (n, C·S, *box): (n, C·S, *patch)."""
    box = np.array(image.shape[2:])[::-1]
    # grid_sample counts from -1 to 1 over the box, last axis first
    scaled = matrix[:, ::-1] * (2 / box)[None, :, None]
    shifted = (centre[:, ::-1] + 0.5) * (2 / box) - 1
    grid = _coordinates(scaled, shifted, patch, image.device).movedim(1, -1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _sample_label(
    label: Tensor, matrix: NDArray[np.float64], centre: NDArray[np.float64], patch: Sequence[int]
) -> Tensor:
    """The label of largest linearly interpolated share, from label (n, S, *box): int16 (n, S, *patch).

    The same as the arg-max over interpolated indicator maps of all labels, whatever their number: the cells between
    voxels that hold one label are looked up, the others are voted on by their corners.
    """
    n, slices = label.shape[:2]
    where = _coordinates(matrix, centre, patch, label.device)
    base = where.to(torch.int32)  # coordinates are positive, so this is the floor
    strides = label.stride()[2:]
    place = base[:, 0] * strides[0]
    for axis, stride in enumerate(strides[1:], start=1):
        place += base[:, axis] * stride
    place = place.view(n, 1, -1).expand(n, slices, -1).long()
    cells = _cells(label)
    found = cells.reshape(n, slices, -1).gather(2, place)
    mixed = found == MIXED
    if label.device.type == "cpu":
        rows = mixed.view(-1).nonzero().squeeze(1)
    else:  # asking where they are would make the host wait
        rows = torch.arange(mixed.numel(), device=label.device)
    fraction = (where - base).view(n, len(strides), 1, -1).expand(-1, -1, slices, -1)
    start = torch.arange(n * slices, device=label.device).view(n, slices, 1) * label.stride(1)
    voted = _vote(
        label.reshape(-1),
        (place + start).view(-1)[rows],
        [fraction[:, axis].reshape(-1)[rows] for axis in range(len(strides))],
        strides,
    )
    if label.device.type == "cpu":
        found.view(-1)[rows] = voted
        return found
    return torch.where(mixed.view(-1), voted, found.view(-1)).view(found.shape)


def _cells(label: Tensor) -> Tensor:
    """For each voxel the label of the cell between it and its next neighbours, `MIXED` where they differ.

    The last ones along each axis have no cell; what stands there is not looked up.
    """
    cells = label.clone()
    for axis in range(2, label.ndim):
        length = label.shape[axis] - 1
        first, second = cells.narrow(axis, 0, length), cells.narrow(axis, 1, length)
        cells.narrow(axis, 0, length).copy_(first.where(first == second, MIXED))
    return cells


def _vote(label: Tensor, place: Tensor, fraction: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """The label with the largest sum of corner weights, for points at flat `place` with `fraction` along each axis."""
    corners, weights = [], []
    for corner in product((0, 1), repeat=len(strides)):
        corners.append(label[place + sum(bit * stride for bit, stride in zip(corner, strides, strict=True))])
        weight = torch.ones_like(fraction[0])
        for bit, part in zip(corner, fraction, strict=True):
            weight = weight * (part if bit else 1 - part)
        weights.append(weight)
    held, weigh = torch.stack(corners), torch.stack(weights)
    best, most = held[0], torch.zeros_like(weigh[0])
    for one in held:
        votes = (weigh * (held == one)).sum(0)
        best = torch.where(votes > most, one, best)
        most = torch.maximum(most, votes)
    return best
