"""Intensity transforms, in place on a batch: image float32 (B, C, *patch). Parameters come from `augmenter.Draw`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Array = NDArray[np.float64]

BLUR_SIGMA_OF_RADIUS = (7 / 12, 11 / 12)  # below the first one voxel either side, below the second two, else three
TINY = 1e-7  # keeps a constant channel from dividing by zero


def noise(image: Tensor, std: Array, seed: NDArray[np.int64]) -> None:
    """Add Gaussian noise of standard deviation `std` (B,), from a generator of the device with `seed` (B,)."""
    for row in np.flatnonzero(std):
        generator = torch.Generator(image.device).manual_seed(int(seed[row]))
        field = torch.randn(image.shape[1:], generator=generator, device=image.device)
        image[row].add_(field, alpha=float(std[row]))


def blur(image: Tensor, sigma: Array) -> None:
    """Gaussian blur with `sigma` (B, C, axes) in voxels, none where 0; three to seven taps, mirrored borders."""
    for row, channel in np.argwhere(sigma.any(axis=-1)):
        part = image[row, channel]
        for axis, width in enumerate(sigma[row, channel]):
            part = _blurred(part, axis, float(width))
        image[row, channel] = part


def brightness(image: Tensor, factor: Array) -> None:
    """Multiply each channel by `factor` (B, C)."""
    _channelwise(image, factor, lambda part, by: part.mul_(by))


def contrast(image: Tensor, factor: Array) -> None:
    """Stretch each channel about its mean by `factor` (B, C), within the range it had."""

    def stretch(part: Tensor, by: Tensor) -> None:
        axes = tuple(range(1, part.ndim))
        mean, low, high = part.mean(axes, keepdim=True), part.amin(axes, keepdim=True), part.amax(axes, keepdim=True)
        part.sub_(mean).mul_(by).add_(mean).clamp_(low, high)

    _channelwise(image, factor, stretch)


def low_resolution(image: Tensor, scale: Array, kept_axes: Sequence[int] = ()) -> None:
    """Sample each channel down by `scale` (B, C) to the nearest voxel, and up linearly; not along `kept_axes`."""
    size = image.shape[2:]
    mode = "trilinear" if len(size) == 3 else "bilinear"
    for row, channel in np.argwhere(scale != 1):
        factor = scale[row, channel]
        small = [n if axis in kept_axes else max(1, round(n * factor)) for axis, n in enumerate(size)]
        part = image[None, row, channel, None]
        coarse = F.interpolate(part, small, mode="nearest-exact")
        image[row, channel] = F.interpolate(coarse, size, mode=mode, align_corners=False)[0, 0]


def gamma(image: Tensor, exponent: Array, *, inverted: bool = False) -> None:
    """Raise each channel, scaled to 0…1, to `exponent` (B, C), keeping its mean and standard deviation.

    `inverted` does so to the negative.
    """

    def bend(part: Tensor, power: Tensor) -> None:
        axes = tuple(range(1, part.ndim))
        if inverted:
            part.neg_()
        low, high = part.amin(axes, keepdim=True), part.amax(axes, keepdim=True)
        mean, spread = _centre(part, axes)
        part.sub_(low - mean).div_((high - low).clamp_(min=TINY)).pow_(power)  # restored from mean and spread below
        _, bent = _centre(part, axes)
        part.mul_(spread / bent.clamp_(min=TINY)).add_(mean)
        if inverted:
            part.neg_()

    _channelwise(image, exponent, bend)


def _centre(part: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Subtract the mean in place; give it, and the root of the sum of squares (much faster than `std_mean`)."""
    mean = part.mean(axes, keepdim=True)
    part.sub_(mean)
    return mean, torch.linalg.vector_norm(part, dim=axes, keepdim=True)


def _channelwise(image: Tensor, factor: Array, change: Callable[[Tensor, Tensor], object]) -> None:
    """Call `change` on the channels whose factor is not 1, as (n, *patch), with the factors as (n, 1, …), in place.

    One by one on a processor, whose cache is small, all at once on other devices.
    """
    channels = image.view(-1, *image.shape[2:])
    flat = factor.reshape(-1)
    rows = np.flatnonzero(flat != 1)
    factors = torch.from_numpy(flat[rows].astype(np.float32)).to(image.device, non_blocking=True)
    factors = factors.view(-1, *[1] * (image.ndim - 2))
    if image.device.type == "cpu":
        for row, value in zip(rows.tolist(), factors, strict=True):
            change(channels[row : row + 1], value[None])
    elif len(rows):
        places = torch.from_numpy(rows).to(image.device, non_blocking=True)  # for a list the host would wait
        part = channels[places]
        change(part, factors)
        channels[places] = part


def _blurred(part: Tensor, axis: int, sigma: float) -> Tensor:
    """One channel (*patch) blurred along one axis."""
    if sigma == 0:
        return part
    radius = 1 + sum(sigma >= limit for limit in BLUR_SIGMA_OF_RADIUS)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    length = part.shape[axis]
    places = torch.from_numpy(np.pad(np.arange(length), radius, mode="reflect")).to(part.device, non_blocking=True)
    wide = part.index_select(axis, places)
    blurred = wide.narrow(axis, 0, length) * float(weights[0])
    for tap in range(1, 2 * radius + 1):
        blurred.add_(wide.narrow(axis, tap, length), alpha=float(weights[tap]))
    return blurred
