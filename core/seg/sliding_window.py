"""Prediction of a whole case, tile by tile (Isensee et al. 2021).

C channels, K outputs, Z Y X voxels of the preprocessed grid. A 2-D network sees one slice after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product
from math import ceil

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

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


def sliding_window(network: Network, image: Tensor, window: Window, outputs: int) -> Tensor:
    """Logits float32 (K, Z, Y, X) of `image` float32 (C, Z, Y, X), on the image's device.

    The image is padded with zeros to at least one patch. Tiles overlap; each voxel takes the mean of its tiles' logits
    with Gaussian weights, each tile the mean over its mirror images.
    """
    if len(window.patch) == 2:
        slices = [_window(network, image[:, z], window, outputs) for z in range(image.shape[1])]
        return torch.stack(slices, 1)  # (K, Z, Y, X)
    return _window(network, image, window, outputs)


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


def _window(network: Network, image: Tensor, window: Window, outputs: int) -> Tensor:
    """`sliding_window` over all spatial axes of `image` (C, *size)."""
    padded, inner = _padded(image, window.patch)
    size = padded.shape[1:]
    weights = gaussian_weights(window.patch).to(image.device)
    kind = torch.float16 if window.half_sums else torch.float32
    total = torch.zeros((outputs, *size), device=image.device, dtype=kind)
    norm = torch.zeros(size, device=image.device, dtype=kind)
    for boxes in _batched(list(_tiles(size, window)), window.batch):
        tiles = torch.stack([padded[(slice(None), *box)] for box in boxes])
        for box, logits in zip(boxes, _mirrored(network, tiles, window.mirror_axes), strict=True):
            total[(slice(None), *box)].addcmul_(logits.float(), weights)
            norm[box] += weights
    return total.div_(norm)[(slice(None), *inner)].float()


def _tiles(size: Sequence[int], window: Window) -> Iterator[tuple[slice, ...]]:
    starts = [tile_starts(n, p, window.step) for n, p in zip(size, window.patch, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(start, start + length) for start, length in zip(corner, window.patch, strict=True))


def _batched(boxes: list[tuple[slice, ...]], count: int) -> Iterator[list[tuple[slice, ...]]]:
    for start in range(0, len(boxes), count):
        yield boxes[start : start + count]


def _padded(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Zeros around the image up to the patch, the odd one behind; and where the image then lies."""
    missing = [max(0, p - n) for n, p in zip(image.shape[1:], patch, strict=True)]
    inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, image.shape[1:], strict=True))
    pads = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]
    return (F.pad(image, pads) if any(pads) else image), inner


def _mirrored(network: Network, tiles: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean logits (B, K, *patch) over every combination of mirrored axes."""
    total = network(tiles)[0].float()
    choices = [chosen for count in range(1, len(axes) + 1) for chosen in combinations(axes, count)]
    for chosen in choices:
        flips = [axis + 2 for axis in chosen]
        total = total + network(tiles.flip(flips))[0].float().flip(flips)  # the network's tensors stay as they are
    return total / (len(choices) + 1)
