"""nnU-Net's five ways to normalise a channel (Isensee et al. 2021; nnU-Net 2.8)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg import Exit, Intensities, Record, SegError

Channel = NDArray[np.float32]
Mask = NDArray[np.bool_]
_TINY = 1e-8  # the least divisor: a constant image has no spread


@frozen(kw_only=True)
class CTNormaliser:
    """Clipped to the percentiles 0.5 and 99.5 of the foreground of the whole data set, then its mean and spread."""

    uses_intensities: ClassVar[bool] = True

    def normalise(self, channel: Channel, inside: Mask | None, intensities: Intensities | None) -> Channel:
        """The channel in the data set's terms; `inside` changes nothing."""
        del inside
        if intensities is None:
            raise SegError(Record(code="SEG-C09", found="the plan has no intensities of a channel that is ct",
                                  expected="mean, std and percentiles of the foreground", advice="Make the plan anew."),
                           Exit.USAGE)
        result: Channel = np.clip(channel, intensities.percentile_00_5, intensities.percentile_99_5)
        result -= intensities.mean
        result /= max(intensities.std, _TINY)
        return result


@frozen(kw_only=True)
class ZScoreNormaliser:
    """Mean 0 and spread 1 of each image; of the non-zero region alone where the plan says so."""

    uses_intensities: ClassVar[bool] = False

    def normalise(self, channel: Channel, inside: Mask | None, intensities: Intensities | None) -> Channel:
        """The channel by its own mean and spread; outside of `inside` it stays as it is."""
        del intensities
        if inside is None:
            mean, std = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
            return (channel - np.float32(mean)) / np.float32(max(std, _TINY))
        result = channel.copy()
        values = channel[inside]
        if values.size:
            mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
            result[inside] = (values - np.float32(mean)) / np.float32(max(std, _TINY))
        return result


@frozen(kw_only=True)
class NoNormaliser:
    """The channel as it is."""

    uses_intensities: ClassVar[bool] = False

    def normalise(self, channel: Channel, inside: Mask | None, intensities: Intensities | None) -> Channel:
        """`channel` itself."""
        del inside, intensities
        return channel


@frozen(kw_only=True)
class RescaleNormaliser:
    """From the least and the largest value of each image to 0 and 1."""

    uses_intensities: ClassVar[bool] = False

    def normalise(self, channel: Channel, inside: Mask | None, intensities: Intensities | None) -> Channel:
        """The channel between 0 and 1; `inside` changes nothing."""
        del inside, intensities
        low, high = channel.min(), channel.max()
        result: Channel = (channel - low) / max(high - low, np.float32(_TINY))
        return result


@frozen(kw_only=True)
class RGBNormaliser:
    """From 0 and 255 to 0 and 1."""

    uses_intensities: ClassVar[bool] = False

    def normalise(self, channel: Channel, inside: Mask | None, intensities: Intensities | None) -> Channel:
        """The channel over 255.

        Raises:
            SegError: a value below 0 or above 255 (exit 3).
        """
        del inside, intensities
        low, high = float(channel.min()), float(channel.max())
        if low < 0 or high > 255:
            raise SegError(Record(code="SEG-D24", found=f"values from {low:g} to {high:g} in a channel of rgb_to_0_1",
                                  expected="values from 0 to 255",
                                  advice="Give the channel another name, 'zscore' for instance."))
        return channel / np.float32(255)
