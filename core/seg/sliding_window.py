"""Prediction of a whole case, tile by tile (Isensee et al. 2021).

C channels, K outputs, Z Y X voxels of the preprocessed grid. A 2-D network sees one slice after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, groupby, product
from math import ceil
from operator import itemgetter
from typing import TypeVar

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seg.room import FileMaps, Room

KEPT_BYTES = 1 << 27  # of logits of uniform tiles, beyond which only the last ones are kept
MAPS_AT_ONCE = 16  # are turned back at a time: a copy of all would be of the size of the network's largest output
T = TypeVar("T")
Network = Callable[[Tensor], Sequence[Tensor]]


@frozen(kw_only=True)
class Window:
    """How a case is covered: patches of the network, their distance, and the axes along which they are mirrored.

    With `half_sums` tiles are added up in 16 bits, as nnU-Net does. That tells at the borders of an image, where the
    weights of all tiles are near the least number of that kind.
    """

    patch: tuple[int, ...]
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    batch: int = 1
    half_sums: bool = False


def sliding_window(
    network: Network, image: Tensor, window: Window, outputs: int, room: Room | None = None
) -> Tensor | FileMaps:
    """Logits (K, Z, Y, X) of `image` float32 (C, Z, Y, X), where `room` says, or on the image's device.

    They are float32, or float16 with `half_sums`. The image is padded with zeros to at least one patch. Tiles overlap;
    each voxel takes the mean of its tiles' logits with Gaussian weights, each tile the mean over its mirror images.
    """
    room = room or Room(device=image.device)
    kind = torch.float16 if window.half_sums else torch.float32
    spatial = image.shape[2:] if len(window.patch) == 2 else image.shape[1:]
    padded, inner = _padding(spatial, window.patch)
    if len(window.patch) == 3:
        maps = room.zeros((outputs, *padded), kind)
        _window(network, image, window, maps)
        return _cropped(maps, inner)
    maps = room.zeros((outputs, image.shape[1], *padded), kind)
    for z in range(image.shape[1]):
        _window(network, image[:, z], window, maps, z)
    return _cropped(maps, (slice(None), *inner))


def tile_starts(size: int, patch: int, step: float) -> list[int]:
    """Where tiles start along one axis: evenly spread, at most `step` patches apart; `size` ≥ `patch`."""
    count = ceil((size - patch) / (patch * step)) + 1
    distance = (size - patch) / (count - 1) if count > 1 else 0.0
    return [round(index * distance) for index in range(count)]


@lru_cache(maxsize=8)
def gaussian_weights(patch: tuple[int, ...]) -> Tensor:
    """Weights float32 of the voxels of a tile: a Gaussian of σ = patch / 8, at most 10, never 0.

    Held in 16 bits as nnU-Net does, so that its models give its results.
    """
    weights = np.ones(())
    for size in patch:
        weights = np.multiply.outer(weights, _gaussian(size))
    half = (weights / weights.max() * 10).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    with torch.inference_mode(mode=False):  # kept, and perhaps used outside of it
        return torch.from_numpy(half.astype(np.float32))


def _gaussian(size: int) -> NDArray[np.float64]:
    """A unit impulse at size // 2 after a Gaussian filter that is cut at 4 σ."""
    sigma = size / 8
    reach = int(4 * sigma + 0.5)
    distance = np.arange(size) - size // 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside = np.abs(distance) <= reach
    return np.asarray(np.where(inside, np.exp(-0.5 * (distance / sigma) ** 2), 0.0) / kernel.sum(), np.float64)


def _window(network: Network, image: Tensor, window: Window, maps: Tensor | FileMaps, place: int | None = None) -> None:
    """Fill `maps` (K, *size), or their slice `place`, with the logits of `image` (C, *size)."""
    file, total = (maps, maps.tensor) if isinstance(maps, FileMaps) else (None, maps)
    total = total if place is None else total[:, place]
    size = total.shape[1:]
    padded = _padded(image, size)
    weights = gaussian_weights(window.patch).to(total.device)
    at_once = MAPS_AT_ONCE if file else len(total)
    for boxes, logits in _predicted(network, padded, window):
        for box, one in zip(boxes, logits, strict=True):
            for first in range(0, len(total), at_once):
                some = slice(first, first + at_once)
                total[(some, *box)].addcmul_(one[some].to(total.device), weights)
                if file:
                    file.rest()
    norm = torch.zeros(size, device=total.device, dtype=total.dtype)  # when the network's maps are gone
    for box in _tiles(size, window):
        norm[box] += weights
    for index in range(len(total)):
        total[index].div_(norm)
        if file:
            file.rest()


def _predicted(
    network: Network, image: Tensor, window: Window
) -> Iterator[tuple[list[tuple[slice, ...]], Tensor]]:
    """Boxes of tiles, in their order, and their logits (B, K, *patch).

    Where each channel of a tile has one value throughout, in the air around a body mostly, the logits of another such
    tile of the same values are taken again: they are the same.
    """
    def logits(boxes: Sequence[tuple[slice, ...]]) -> Tensor:
        tiles = torch.stack([image[(slice(None), *box)] for box in boxes])
        return _mirrored(network, tiles, window)

    tiles, known = list(_tiles(image.shape[1:], window)), dict[tuple[float, ...], Tensor]()
    for value, some in groupby(zip(_uniform(image, tiles), tiles, strict=True), key=itemgetter(0)):
        boxes = [box for _, box in some]
        if value is None:
            yield from ((batch, logits(batch)) for batch in _batched(boxes, window.batch))
            continue
        if value not in known:
            if sum(one.nbytes for one in known.values()) > KEPT_BYTES:
                known.clear()
            known[value] = logits(boxes[:1])
        yield from (([box], known[value]) for box in boxes)


def _uniform(image: Tensor, boxes: Sequence[tuple[slice, ...]]) -> list[tuple[float, ...] | None]:
    """For each box of `image` (C, *size), its value in each channel, or None where one of them varies."""
    axes = tuple(range(1, image.dim()))
    parts = (image[(slice(None), *box)] for box in boxes)
    low, high = torch.stack([torch.stack([part.amin(axes), part.amax(axes)]) for part in parts]).unbind(1)
    same = (low == high).all(1).tolist()  # the one time that the host waits for the device
    return [tuple(one) if uniform else None for one, uniform in zip(low.tolist(), same, strict=True)]


def _cropped(maps: Tensor | FileMaps, inner: tuple[slice, ...]) -> Tensor | FileMaps:
    """What lies over the image."""
    if isinstance(maps, Tensor):
        return maps[(slice(None), *inner)]
    size = maps.tensor[0][inner].shape
    if maps.shape[1:] == size:
        return maps
    result = FileMaps.zeros((maps.shape[0], *size), maps.tensor.dtype)
    for target, one in zip(result.tensor, maps.tensor, strict=True):
        target.copy_(one[inner])
        maps.rest()
        result.rest()
    return result


def _tiles(size: Sequence[int], window: Window) -> Iterator[tuple[slice, ...]]:
    starts = [tile_starts(n, p, window.step) for n, p in zip(size, window.patch, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(start, start + length) for start, length in zip(corner, window.patch, strict=True))


def _batched(items: list[T], count: int) -> Iterator[list[T]]:
    for start in range(0, len(items), count):
        yield items[start : start + count]


def _padding(size: Sequence[int], patch: Sequence[int]) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """The size of at least one patch, and where the image then lies: in the middle, the odd voxel behind."""
    padded = tuple(max(p, n) for p, n in zip(patch, size, strict=True))
    inner = tuple(slice((m - n) // 2, (m - n) // 2 + n) for m, n in zip(padded, size, strict=True))
    return padded, inner


def _padded(image: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros around the image up to `size`."""
    missing = [m - n for m, n in zip(size, image.shape[1:], strict=True)]
    pads = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]
    return F.pad(image, pads) if any(pads) else image


def _mirrored(network: Network, tiles: Tensor, window: Window) -> Tensor:
    """Mean logits float32 (B, K, *patch) over every combination of mirrored axes."""
    axes = [axis + 2 for axis in window.mirror_axes]
    choices = [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]
    total: Tensor | None = None
    for flips in choices:
        logits = network(tiles.flip(flips) if flips else tiles)[0]
        if total is None:
            total = logits.to(torch.float32, copy=True)  # the network's tensors stay as they are
        else:
            for first in range(0, total.shape[1], MAPS_AT_ONCE):
                maps = slice(first, first + MAPS_AT_ONCE)
                total[:, maps].add_(logits[:, maps].flip(flips))
        del logits  # of the size of the largest thing there is, before the next of them is made
    assert total is not None  # noqa: S101 - no mirror is a choice too
    return total.div_(len(choices))
