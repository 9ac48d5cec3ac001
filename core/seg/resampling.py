"""From one grid to another, as nnU-Net does it: splines in the plane, nearest neighbour across thick slices.

Axes: C channels, Z Y X voxels; spacings in mm, in the order of the axes. Works on a CPU and a GPU alike, one channel at
a time, so that what is needed beside input and output is of the size of one channel.

A cubic spline is linear in its input: along each axis it is one matrix, made once for each pair of sizes. Far from the
diagonal its entries fall off as 0.268^distance, so blocks of it are multiplied with what they can see alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from seg.models import Size3, Spacing3

ANISOTROPY = 3.0  # above this ratio of spacings the thickest axis is treated apart (Isensee et al. 2021)
_PAD = 12  # edge voxels around the input; what lies beyond has a weight of 0.268^12 = 1e-7
_REACH = 16  # voxels to both sides that a block of the matrix keeps: 0.268^15 = 3e-9
_BLOCK = 64  # output voxels a block
_TIE = 1e-5  # two labels whose shares are this near are tied: the weights are float32
_VOTES_AT_ONCE = 1 << 16  # voxels
_SLICES_AT_ONCE = 16


def resampled_shape(shape: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float]) -> Size3:
    """The size at `spacing_to` of what has `shape` at `spacing_from`: rounded half to even, at least one voxel.

    The order of the operations is nnU-Net's, because it decides some halves.
    """
    z, y, x = (max(1, round(float(old) / float(new) * int(size)))
               for old, new, size in zip(spacing_from, spacing_to, shape, strict=True))
    return z, y, x


def separate_axis(spacing_from: Sequence[float], spacing_to: Sequence[float]) -> int | None:
    """The axis that is resampled apart from the other two, or None.

    The present spacing decides if it is anisotropic, else the new one; where two axes share the largest spacing there
    is none (nnU-Net 2.8).
    """
    for spacing in (spacing_from, spacing_to):
        if max(spacing) / min(spacing) > ANISOTROPY:
            thickest = [axis for axis in range(3) if spacing[axis] == max(spacing)]
            return thickest[0] if len(thickest) == 1 else None
    return None


def resample(
    array: Tensor, shape: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float], order: int
) -> Tensor:
    """`array` on a grid of size `shape`.

    Order 3 equals SciPy's `zoom(grid_mode=True, mode="nearest")` clipped to the range of its input, which is what
    scikit-image's `resize(mode="edge", anti_aliasing=False)` does, to 1e-5 of the standard deviation; it needs matrix
    products in full float32 (no TF32). Along a separate axis: order `order` in each slice, then nearest neighbour.

    Args:
        array: float (C, Z, Y, X).
        shape: the new size in voxels, of Z, Y, X.
        spacing_from: spacing of `array`, mm.
        spacing_to: spacing of the result, mm; the two decide only whether an axis is separate.
        order: 0 nearest, 1 linear, 3 cubic.

    Returns:
        (C, *shape) of the type of `array`; `array` itself where it has that shape already.
    """
    if tuple(array.shape[1:]) == tuple(shape):
        return array
    axis = separate_axis(spacing_from, spacing_to)
    if array.shape[0] == 1:
        return _resize_volume(array[0], shape, axis, order)[None].to(array.dtype)
    result = array.new_empty((array.shape[0], *shape))
    for channel in range(array.shape[0]):
        result[channel] = _resize_volume(array[channel], shape, axis, order)
    return result


@frozen(kw_only=True, eq=False)
class Slab:
    """Slices `target` of a volume on a new grid along `axis`, and those of the old grid that they come from."""

    axis: int
    target: slice
    source: slice
    _shape: Size3  # of the whole volume on the new grid
    _separate: bool
    _order: int
    _taps: tuple[Tensor, ...] = ()  # into `source`: the slice, or the ones before and after and the latter's weight

    @property
    def where(self) -> tuple[slice, ...]:
        """The place of `source` in a volume (Z, Y, X) of the old grid."""
        return (*(slice(None),) * self.axis, self.source)

    def resample(self, part: Tensor) -> Tensor:
        """The slab, float32 (Z, Y, X), from its source (Z, Y, X) of any float type on the old grid."""
        if not self._taps and self.target == slice(0, self._shape[self.axis]):
            return _resize_volume(part, self._shape, self.axis if self._separate else None, self._order)
        slices = part.movedim(self.axis, 0)
        plane = [size for other, size in enumerate(self._shape) if other != self.axis]
        slices = _clipped(slices.float(), (slices.shape[0], *plane), self._order, dims=(1, 2))
        if self._taps:
            first, *more = (slices.index_select(0, taps) for taps in self._taps[:2])
            slices = torch.lerp(first, more[0], self._taps[2][:, None, None]) if more else first
        return slices.movedim(0, self.axis)


def slabs(
    old: Sequence[int], new: Size3, spacings: tuple[Spacing3, Spacing3], how: tuple[int, torch.device], voxels: int
) -> Iterator[Slab]:
    """The grid `new` in slabs of about `voxels` voxels, which together are what `resample` makes of a channel.

    That is up to rounding: products of matrices and linear interpolation along the slabs' axis are added up otherwise.
    There is one slab where a cubic spline runs along all axes, since that sees the whole volume.

    Args:
        old: size (Z, Y, X) of what is resampled.
        new: size (Z, Y, X) of the result.
        spacings: of both, as `resample` takes them.
        how: the order, and the device of what is resampled.
        voxels: of a slab; it has at least one slice.
    """
    order, device = how
    separate = separate_axis(*spacings)
    axis = separate or 0
    count = max(1, voxels * new[axis] // max(1, new[0] * new[1] * new[2]))
    if separate is None and order > 1:
        count = new[axis]
    for first in range(0, new[axis], count):
        last = min(first + count, new[axis])
        source, taps = slice(0, old[axis]), tuple[Tensor, ...]()
        if count < new[axis]:
            nearest = separate is not None or order == 0
            source, taps = _slab_taps((old[axis], new[axis]), (first, last), device, nearest=nearest)
        yield Slab(axis=axis, target=slice(first, last), source=source, shape=new, separate=separate is not None,
                   order=order, taps=taps)


def _slab_taps(
    sizes: tuple[int, int], ends: tuple[int, int], device: torch.device, *, nearest: bool
) -> tuple[slice, tuple[Tensor, ...]]:
    """Which old slices the new ones from `ends[0]` to `ends[1]` come from, and how; nothing: one for one."""
    (old, new), mine = sizes, slice(*ends)
    if old == new:
        return mine, ()
    if nearest:
        middle = _nearest_places(old, new)[mine]
        low, high = int(middle[0]), int(middle[-1]) + 1
        return slice(low, high), ((middle - low).to(device),)
    before, after, weight = (taps[mine] for taps in _linear_taps(old, new, torch.device("cpu")))
    low, high = int(before[0]), int(after[-1]) + 1
    return slice(low, high), ((before - low).to(device), (after - low).to(device), weight.to(device))


def resample_label(
    label: Tensor, shape: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float], order: int = 1
) -> Tensor:
    """`label` on a grid of size `shape`: the indicator of each label is resampled, the largest wins.

    Exact ties go to the label of the nearest voxel (batchgenerators 0.25.5). Order 0 takes that one everywhere.

    Args:
        label: integers (Z, Y, X), negative ones included.
        shape: the new size in voxels.
        spacing_from: spacing of `label`, mm.
        spacing_to: spacing of the result, mm.
        order: spline order of the indicators.

    Returns:
        (*shape), the type of `label`.
    """
    if tuple(label.shape) == tuple(shape):
        return label
    axis = separate_axis(spacing_from, spacing_to)
    if axis is None:
        return _vote(label, shape, order)
    slices = label.movedim(axis, 0)
    plane = [size for other, size in enumerate(shape) if other != axis]
    slices = _vote(slices, (slices.shape[0], *plane), order)
    return _nearest(slices, 0, shape[axis]).movedim(0, axis)


def _vote(label: Tensor, shape: Sequence[int], order: int) -> Tensor:
    """(Z, Y, X) → `shape`; slices are not mixed where Z keeps its size."""
    if tuple(label.shape) == tuple(shape):
        return label
    if order <= 1:
        nearest = label
        for axis in range(3):
            nearest = _nearest(nearest, axis, shape[axis])
        return nearest if order == 0 else _linear_vote(label, nearest)
    winner = best = torch.empty(0)
    for position, value in enumerate(torch.unique(label).tolist()):
        share = _resize((label == value).float(), shape, order)
        if position == 0:
            winner, best = torch.full_like(share, value, dtype=label.dtype), share
        winner.masked_fill_(share > best, value)
        torch.maximum(best, share, out=best)
    return winner


def _linear_vote(label: Tensor, nearest: Tensor) -> Tensor:
    """Overwrite `nearest`, the nearest label at each new voxel, where the old voxels around it disagree.

    Those are few, and there the old voxels vote with their weights in linear interpolation, which costs the same for
    any number of labels and gives what the indicators of all labels would.
    """
    taps = [_linear_taps(old, new, label.device) for old, new in zip(label.shape, nearest.shape, strict=True)]
    mixed = _disagreeing(label, [axis for axis in range(3) if label.shape[axis] != nearest.shape[axis]])
    for axis, (first, _, _) in enumerate(taps):
        if label.shape[axis] != nearest.shape[axis]:
            mixed = mixed.index_select(axis, first)
    for place in _few_at_once(mixed):
        nearest[place] = _count_votes(label, taps, place, nearest[place])
    return nearest


def _few_at_once(mixed: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Indices (z, y, x) of the voxels that are set, some slices and at most _VOTES_AT_ONCE voxels at a time."""
    for first in range(0, len(mixed), _SLICES_AT_ONCE):
        z, y, x = torch.nonzero(mixed[first : first + _SLICES_AT_ONCE], as_tuple=True)
        yield from zip(*(torch.split(one, _VOTES_AT_ONCE) for one in (z + first, y, x)), strict=True)


def _disagreeing(label: Tensor, axes: Sequence[int]) -> Tensor:
    """Where a voxel of `label` differs from the next one along any of `axes`, or those from each other; bool."""
    least, most = label.clone(), label.clone()
    for axis in axes:
        inner = label.shape[axis] - 1
        for extreme, function in ((least, torch.minimum), (most, torch.maximum)):
            here, behind = extreme.narrow(axis, 0, inner), extreme.narrow(axis, 1, inner)
            here.copy_(function(here, behind))
    return least != most


def _count_votes(label: Tensor, taps: list[Taps], place: tuple[Tensor, ...], nearest: Tensor) -> Tensor:
    """The labels (N) with most of the weight among the corners around N new voxels; `nearest` where two are tied."""
    flat, steps = label.reshape(-1), (label.shape[1] * label.shape[2], label.shape[2], 1)
    corners, shares = [torch.zeros_like(place[0])], []
    for (first, second, weight), where, step in zip(taps, place, steps, strict=True):
        sides = [(side * step).index_select(0, where) for side in (first, second)]
        corners = [corner + side for corner in corners for side in sides]
        shares.append(weight.index_select(0, where))
    voters = torch.stack([flat.index_select(0, corner) for corner in corners])  # (8, N), the first axis slowest
    low, high = voters.amin(0), voters.amax(0)
    lead = 2 * _interpolated((voters == high).float(), shares) - 1  # of the higher label, where there are two
    winner = torch.where(lead.abs() < _TIE, nearest, torch.where(lead > 0, high, low))
    several = ((voters != low) & (voters != high)).any(0).nonzero().squeeze(1)
    if len(several):
        chosen = [share.index_select(0, several) for share in shares]
        winner[several] = _most_voted(voters[:, several], chosen, nearest[several])
    return winner


def _interpolated(corners: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """Linear interpolation between values (8, N) at the corners of N cells, float32 (N)."""
    for share in shares:
        half = len(corners) // 2
        corners = torch.lerp(corners[:half], corners[half:], share)
    return corners[0]


def _most_voted(voters: Tensor, shares: Sequence[Tensor], nearest: Tensor) -> Tensor:
    """The label with most of the weight among any number of labels (8, N); `nearest` where two are tied."""
    votes = torch.stack([_interpolated((voters == voter).float(), shares) for voter in voters])
    most, which = votes.max(0)
    winner = voters.gather(0, which[None])[0]
    tied = ((votes > most - _TIE) & (voters != winner)).any(0)
    return torch.where(tied, nearest, winner)


Taps = tuple[Tensor, Tensor, Tensor]


def _linear_taps(old: int, new: int, device: torch.device) -> Taps:
    """For each new sample along an axis the old one before, the one after, and the weight of the latter."""
    position = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    before = np.floor(position).astype(np.int64)
    after = (before + 1).clip(max=old - 1)
    first, second, weight = (torch.from_numpy(part).to(device)
                             for part in (before, after, (position - before).astype(np.float32)))
    return first, second, weight


def _resize_volume(volume: Tensor, shape: Sequence[int], axis: int | None, order: int) -> Tensor:
    """(Z, Y, X) → `shape`, float32."""
    if axis is None:
        return _clipped(volume.float(), shape, order, dims=(0, 1, 2))
    slices = volume.movedim(axis, 0)
    plane = [size for other, size in enumerate(shape) if other != axis]
    slices = _clipped(slices.float(), (slices.shape[0], *plane), order, dims=(1, 2))
    return _nearest(slices, 0, shape[axis]).movedim(0, axis)


def _clipped(volume: Tensor, shape: Sequence[int], order: int, dims: tuple[int, ...]) -> Tensor:
    """Resize, and clip the overshoot of a cubic spline to the range of the input over `dims`."""
    if tuple(volume.shape) == tuple(shape):
        return volume
    resized = _resize(volume, shape, order)
    if order <= 1:
        return resized
    return resized.clamp_(volume.amin(dims, keepdim=True), volume.amax(dims, keepdim=True))


def _resize(volume: Tensor, shape: Sequence[int], order: int) -> Tensor:
    """(Z, Y, X) float32 → `shape`, neither clipped nor separate."""
    if order == 1:
        if volume.shape[0] == shape[0]:
            return F.interpolate(volume[None], tuple(shape[1:]), mode="bilinear", align_corners=False)[0]
        return F.interpolate(volume[None, None], tuple(shape), mode="trilinear", align_corners=False)[0, 0]
    axes = sorted(range(3), key=lambda axis: shape[axis] / volume.shape[axis])  # shrink first: less to do later
    for axis in axes:
        volume = _nearest(volume, axis, shape[axis]) if order == 0 else _spline(volume, axis, shape[axis])
    return volume


def _nearest(array: Tensor, axis: int, size: int) -> Tensor:
    """Nearest neighbour along one axis."""
    old = array.shape[axis]
    return array if old == size else array.index_select(axis, _nearest_places(old, size).to(array.device))


def _nearest_places(old: int, new: int) -> Tensor:
    """The old voxel nearest to each new one, int64 (new,). Ties fall as SciPy's float64 does, whose steps these are."""
    places = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5
    return places.add_(0.5).floor_().long().clamp_(0, old - 1)


def _spline(volume: Tensor, axis: int, size: int) -> Tensor:
    """A cubic spline along one axis of (Z, Y, X), block by block of its matrix."""
    old = volume.shape[axis]
    if old == size:
        return volume
    before, after = volume.shape[:axis].numel(), volume.shape[axis + 1 :].numel()
    columns = volume.reshape(before, old, after)
    result = volume.new_empty((before, size, after))
    for start, stop, low, high, weights in _blocks(old, size, volume.device):
        if after == 1:
            result[:, start:stop, 0] = columns[:, low:high, 0] @ weights.T
        else:
            result[:, start:stop] = torch.matmul(weights, columns[:, low:high])
    return result.reshape(*volume.shape[:axis], size, *volume.shape[axis + 1 :])


@lru_cache(maxsize=128)
def _blocks(old: int, new: int, device: torch.device) -> tuple[tuple[int, int, int, int, Tensor], ...]:
    """The matrix (new, old) of a cubic spline, as blocks: rows [start, stop), columns [low, high), weights."""
    matrix = spline_matrix(old, new)
    blocks = []
    for start in range(0, new, _BLOCK):
        stop = min(start + _BLOCK, new)
        low = max(0, int((start + 0.5) * old / new - 0.5) - _REACH)
        high = min(old, int((stop - 0.5) * old / new - 0.5) + 1 + _REACH)
        block = np.ascontiguousarray(matrix[start:stop, low:high], dtype=np.float32)
        blocks.append((start, stop, low, high, torch.from_numpy(block).to(device)))
    return tuple(blocks)


def spline_matrix(old: int, new: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The cubic B-spline interpolation from `old` to `new` samples with edge values outside, float64 (new, old).

    Samples lie at the middle of their voxels. Coefficients c of the samples s solve (c[i-1] + 4 c[i] + c[i+1]) / 6 =
    s[i]; the value at x is the sum of four coefficients, weighted by the B-spline (Unser 1999).
    """
    coefficients = _coefficients(old + 2 * _PAD)
    position = (np.arange(new) + 0.5) * (old / new) - 0.5 + _PAD
    left = np.floor(position).astype(int)
    t = position - left
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3]) / 6
    sampled = sum(weights[tap][:, None] * coefficients[left - 1 + tap] for tap in range(4))
    matrix = np.array(sampled[:, _PAD:-_PAD])
    matrix[:, 0] += sampled[:, :_PAD].sum(axis=1)  # the edge voxels are copies of the first and the last
    matrix[:, -1] += sampled[:, -_PAD:].sum(axis=1)
    return matrix


def _coefficients(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The coefficients of `size` samples as a matrix: Gauss's elimination of three diagonals, mirrored at both ends.

    SciPy has it too, but to import that takes 0.1 s and 15 MB, more than all that is done here.
    """
    below, above = np.full((2, size - 1), 1 / 6)
    above[0] = below[-1] = 2 / 6
    middle, result = np.full(size, 4 / 6), np.eye(size)
    for row in range(1, size):
        factor = below[row - 1] / middle[row - 1]
        middle[row] -= factor * above[row - 1]
        result[row] -= factor * result[row - 1]
    result[-1] /= middle[-1]
    for row in range(size - 2, -1, -1):
        result[row] = (result[row] - above[row] * result[row + 1]) / middle[row]
    return result
