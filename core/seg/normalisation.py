"""Intensities on a common scale, channel by channel, before resampling (Isensee et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from seg.errors import Exit, Record, SegError, nearest
from seg.models import Intensities

Channel = NDArray[np.float32]
Mask = NDArray[np.bool_]
_TINY = 1e-8  # the least divisor: a constant image has no spread


def normalise(
    image: NDArray[np.float32],
    schemes: Sequence[str],
    use_mask: Sequence[bool],
    intensities: Sequence[Intensities],
    inside: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """`image` with every channel normalised by its scheme.

    Args:
        image: float32 (C, Z, Y, X), cropped to the non-zero region.
        schemes: `ct`, `zscore`, `none`, `rescale_to_0_1` or `rgb_to_0_1`, one for each channel.
        use_mask: whether mean and spread of a z-score are of `inside` alone, and applied there alone.
        intensities: statistics of each channel over the data set; asked for by `ct`.
        inside: bool (Z, Y, X).

    Returns:
        A new float32 array (C, Z, Y, X).

    Raises:
        SegError: a scheme has no such name, or the numbers of channels differ, or a channel of `rgb_to_0_1` leaves
            0…255.
    """
    _same_channels(len(image), len(schemes), len(use_mask))
    channels = []
    for channel, scheme in enumerate(schemes):
        if scheme not in _SCHEMES:
            raise SegError(Record(code="SEG-C09", found=f"normalisation {scheme!r} of channel {channel}",
                                  expected="one of " + ", ".join(_SCHEMES), advice=nearest(scheme, list(_SCHEMES))),
                           Exit.USAGE)
        statistics = intensities[channel] if channel < len(intensities) else None
        mask = inside if use_mask[channel] else None
        channels.append(np.asarray(_SCHEMES[scheme](image[channel], mask, statistics), dtype=np.float32))
    if len(channels) == 1 and scheme != "none":  # a copy already
        return np.ascontiguousarray(channels[0])[None]
    return np.stack(channels)


def _same_channels(channels: int, schemes: int, masks: int) -> None:
    if not channels == schemes == masks:
        raise SegError(Record(code="SEG-D15", found=f"{channels} channels in the image",
                              expected=f"{schemes}, as many as the plan has normalisations"))


def _ct(channel: Channel, _: Mask | None, statistics: Intensities | None) -> Channel:
    if statistics is None:
        raise SegError(Record(code="SEG-C09", found="the plan has no intensities of a channel that is ct",
                              expected="mean, std and percentiles of the foreground", advice="Make the plan anew."),
                       Exit.USAGE)
    result = np.clip(channel, statistics.percentile_00_5, statistics.percentile_99_5)
    result -= statistics.mean
    result /= max(statistics.std, _TINY)
    return result


def _zscore(channel: Channel, inside: Mask | None, _: Intensities | None) -> Channel:
    if inside is None:
        mean, std = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
        return (channel - np.float32(mean)) / np.float32(max(std, _TINY))
    result = channel.copy()
    values = channel[inside]
    if values.size:
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        result[inside] = (values - np.float32(mean)) / np.float32(max(std, _TINY))
    return result


def _none(channel: Channel, _: Mask | None, __: Intensities | None) -> Channel:
    return channel


def _rescale(channel: Channel, _: Mask | None, __: Intensities | None) -> Channel:
    low, high = channel.min(), channel.max()
    result: Channel = (channel - low) / max(high - low, np.float32(_TINY))
    return result


def _rgb(channel: Channel, _: Mask | None, __: Intensities | None) -> Channel:
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > 255:
        raise SegError(Record(code="SEG-D24", found=f"values from {low:g} to {high:g} in a channel of rgb_to_0_1",
                              expected="values from 0 to 255",
                              advice="Give the channel another name, 'zscore' for instance."))
    return channel / np.float32(255)


_SCHEMES: dict[str, Callable[[Channel, Mask | None, Intensities | None], Channel]] = {
    "ct": _ct,
    "zscore": _zscore,
    "none": _none,
    "rescale_to_0_1": _rescale,
    "rgb_to_0_1": _rgb,
}
