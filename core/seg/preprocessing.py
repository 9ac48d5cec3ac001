"""One case from its image to what the network is trained on: cropped, normalised, resampled.

Axes are the reader's (Z, Y, X) up to the transposition, then the plan's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from attrs import define, frozen
from numpy.typing import NDArray
from torch import Tensor

from seg.cropping import bounding_box, nonzero_mask
from seg.models import CaseProperties, Configuration, Labels, Plan, Size3, Spacing3
from seg.normalisation import Normalisers, normalise
from seg.resampling import resample, resample_label, resampled_shape

ANNOTATED = -1  # key of `class_locations` under an ignore label: every voxel somebody looked at
_AT_LEAST, _FRACTION = 10_000, 0.01  # locations kept of each class (nnU-Net 2.8)


@define(eq=False)
class Given:
    """An image float32 (C, Z, Y, X) for whoever takes it, who alone has it then: it goes as soon as it is prepared."""

    _array: NDArray[np.float32] | None

    def take(self) -> NDArray[np.float32]:
        """The image, once."""
        array, self._array = self._array, None
        if array is None:
            raise ValueError("the image was taken before")
        return array


@frozen(kw_only=True)
class Preparation:
    """How the cases of one configuration are prepared: as planned, with the normalisers that the plan names."""

    plan: Plan
    configuration: Configuration
    normalisers: Normalisers


@frozen(kw_only=True, eq=False)
class Prepared:
    """A preprocessed case: image float32 (C, Z, Y, X), label int16 (Z, Y, X) or None, and the way back."""

    image: Tensor
    label: Tensor | None
    properties: CaseProperties


def prepare(
    array: NDArray[np.float32],
    spacing: Spacing3,
    how: Preparation,
    label: NDArray[np.integer] | None = None,
    case: str = "",
    *,
    overwrite: bool = False,
) -> Prepared:
    """Transpose, crop to the non-zero region, normalise, resample; in this order (nnU-Net 2.8).

    Args:
        array: float32 (C, Z, Y, X), the reader's axes; not changed, unless it may be overwritten.
        spacing: of `array`, mm, the reader's axes.
        how: the plan, for the order of the axes and the intensities of the data set; its configuration; normalisers.
        label: ids (Z, Y, X); in the result -1 where it is background outside the non-zero region.
        case: name, for the properties.
        overwrite: normalise in place, where nobody needs the image afterwards.

    Raises:
        SegError: the image does not fit the plan's normalisation, or a normaliser fails (exit 6).
    """
    plan, configuration = how.plan, how.configuration
    forward = plan.transpose_forward
    image = array.transpose(0, *(axis + 1 for axis in forward))
    masked = label is not None or any(configuration.use_mask_for_norm)
    mask = nonzero_mask(image, fill=masked)
    start, stop = bounding_box(mask)
    box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
    image, inside = image[:, *box], mask[box] if masked else None
    del mask  # what is as large as the image goes as soon as it may
    target: NDArray[np.signedinteger[Any]] | None = None
    if label is not None and inside is not None:
        small = label.size and label.max() < 128 and label.min() >= -128
        target = label.transpose(forward)[box].astype(np.int8 if small else np.int16)
        target[(target == 0) & ~inside] = -1
        inside = target >= 0
    normalised = normalise(image, configuration, how.normalisers, plan.intensities, inside, overwrite=overwrite)
    del inside
    shape = (array.shape[1], array.shape[2], array.shape[3])
    properties = CaseProperties(case=case, spacing=spacing, shape=shape, crop_start=start, crop_stop=stop)
    new_shape, old, new = resampling_of(properties, plan, configuration)
    resampled = resample(torch.from_numpy(normalised), new_shape, old, new, configuration.order_image)
    del normalised
    if target is None:
        return Prepared(image=resampled, label=None, properties=properties)
    resampled_target = resample_label(torch.from_numpy(target), new_shape, old, new, configuration.order_label)
    return Prepared(image=resampled, label=resampled_target.contiguous().to(torch.int16), properties=properties)


def resampling_of(
    properties: CaseProperties, plan: Plan, configuration: Configuration
) -> tuple[Size3, Spacing3, Spacing3]:
    """Size of the preprocessed case, the case's own spacing and the spacing it is given, in the plan's axes.

    A 2-D configuration keeps axis 0 as it is: slices are never resampled across.
    """
    a, b, c = (float(properties.spacing[axis]) for axis in plan.transpose_forward)
    own = (a, b, c)
    wanted = configuration.spacing if configuration.dims == 3 else (a, *configuration.spacing[1:])
    return resampled_shape(properties.cropped_shape, own, wanted), own, wanted


def class_locations(
    label: Tensor | NDArray[np.integer], labels: Labels, seed: int = 1234
) -> dict[int, NDArray[np.int32]]:
    """Where each class lies in a preprocessed label, for the samplers.

    Of each class all voxels up to 10,000, else a random 10,000 or one per cent, whichever is more (nnU-Net 2.8).

    Args:
        label: ids (Z, Y, X), -1 outside the non-zero region.
        labels: the classes; a region is the union of its ids.
        seed: of the choice, the same for each case.

    Returns:
        Position of the class in `labels.foreground` → int32 (N, 3), ascending; under an ignore label also
        `ANNOTATED` → voxels that are labelled, background included.
    """
    array = np.asarray(label)
    flat = array.reshape(-1)
    rng = np.random.default_rng(seed)
    locations = {}
    for position, ids in enumerate(labels.foreground.values()):
        mine = flat == ids[0] if len(ids) == 1 else np.isin(flat, ids)
        locations[position] = _choose(np.flatnonzero(mine), array.shape, rng)
    if labels.ignore is not None:
        locations[ANNOTATED] = _choose(np.flatnonzero((flat >= 0) & (flat != labels.ignore)), array.shape, rng)
    return locations


def _choose(found: NDArray[np.intp], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int32]:
    """A part of the flat indices `found`, as int32 (N, 3)."""
    wanted = max(min(_AT_LEAST, found.size), int(np.ceil(_FRACTION * found.size)))
    if wanted < found.size:
        found = np.sort(rng.choice(found, wanted, replace=False, shuffle=False))
    return np.stack(np.unravel_index(found, shape), axis=1).astype(np.int32)
