"""Intensities on a common scale, channel by channel, before resampling (Isensee et al. 2021).

A plan names a normaliser for each channel; here the names are resolved, once, and applied to cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from seg.contracts import blamed, contract_error, expect, shown
from seg.errors import Record, SegError
from seg.kinds import Normaliser
from seg.models import ComponentUse, Configuration, Intensities
from seg.registry import Registry

Channel = NDArray[np.float32]
OURS = "segplug"  # its normalisers are versioned by `seg.stages.preprocess.VERSION`


@frozen(kw_only=True)
class Normalisers:
    """Normalisers by the names that plans have for them, and the record of each use."""

    built: dict[str, Normaliser] = field(factory=dict)
    uses: dict[str, ComponentUse] = field(factory=dict)

    @classmethod
    def resolve(cls, configurations: Iterable[Configuration], registry: Registry) -> Normalisers:
        """All that `configurations` name, with default options.

        Raises:
            SegError: a name that no plugin offers (exit 2), a plugin that is broken or clashes (exit 6).
        """
        found = {name: registry.build("normaliser", name) for name in names_of(configurations)}
        return cls(built={name: built for name, (built, _) in found.items()},
                   uses={name: use for name, (_, use) in found.items()})

    def use_intensities(self, configuration: Configuration) -> bool:
        """Whether any channel is normalised by the statistics of the data set."""
        return any(self.built[name].uses_intensities for name in configuration.normalization)

    def of_others(self, configuration: Configuration) -> list[ComponentUse]:
        """The uses of normalisers that do not ship with seg, whose versions decide results too."""
        uses = (self.uses[name] for name in names_of([configuration]))
        return [use for use in uses if use.distribution != OURS]


def names_of(configurations: Iterable[Configuration]) -> list[str]:
    """The names of all normalisers, each once."""
    return list(dict.fromkeys(name for one in configurations for name in one.normalization))


def normalise(
    image: NDArray[np.float32],
    configuration: Configuration,
    normalisers: Normalisers,
    intensities: Sequence[Intensities],
    inside: NDArray[np.bool_] | None,
    *,
    overwrite: bool = False,
) -> NDArray[np.float32]:
    """`image` with every channel normalised as the configuration says.

    Args:
        image: float32 (C, Z, Y, X), cropped to the non-zero region; not changed, unless it may be overwritten.
        configuration: names a normaliser for each channel, and says which are of `inside` alone.
        normalisers: those it names.
        intensities: statistics of each channel over the data set, for those that use them.
        inside: bool (Z, Y, X); None where no channel asks for it.
        overwrite: the result takes the place of `image`.

    Returns:
        A new float32 array (C, Z, Y, X), or `image`.

    Raises:
        SegError: the numbers of channels differ, or a channel is not what its normaliser is for (exit 3); a normaliser
            of somebody else's fails, or one gives something else than a finite float32 channel of the same shape
            (SEG-P10, exit 6).
    """
    names, masked = configuration.normalization, configuration.use_mask_for_norm
    _same_channels(len(image), len(names), len(masked))
    result = image if overwrite else None
    for number, name in enumerate(names):
        one = normalisers.built[name]
        statistics = intensities[number] if one.uses_intensities and number < len(intensities) else None
        channel = image[number].view()
        channel.flags.writeable = False
        use = normalisers.uses[name]
        method = f"normalise, for channel {number},"
        with blamed(use, method):
            found = one.normalise(channel, inside if masked[number] else None, statistics)
        _check(found, channel, use, method)
        if result is None and len(names) == 1 and not np.may_share_memory(found, image):  # a copy already
            return np.ascontiguousarray(found)[None]
        result = np.empty(image.shape, np.float32) if result is None else result
        result[number] = found
    assert result is not None  # noqa: S101 - a plan has channels
    return result


def _same_channels(channels: int, names: int, masks: int) -> None:
    if not channels == names == masks:
        raise SegError(Record(code="SEG-D15", found=f"{channels} channels in the image",
                              expected=f"{names}, as many as the plan has normalisations"))


def _check(found: object, channel: Channel, use: ComponentUse, method: str) -> None:
    """What a normaliser gave must be a channel that can be trained on."""
    array = expect(found, np.ndarray, use, method)
    if array.dtype != np.float32 or array.shape != channel.shape:
        raise contract_error(use, f"{method} gave {shown(array)}", f"{channel.shape} float32")
    if not np.isfinite(array).all() and np.isfinite(channel).all():
        raise contract_error(use, f"{method} gave values that are no numbers, of a channel without any", "finite ones")
