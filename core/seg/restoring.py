"""The way back: from logits on the preprocessed grid to labels or probabilities on the case's own grid.

Axes: K outputs, Z Y X voxels. Logits are resampled slab by slab, one map at a time, with the best so far beside them:
labels cost a few slices in floats beside themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg.models import CaseProperties, Configuration, Labels, Plan, Size3, Spacing3
from seg.preprocessing import resampling_of
from seg.resampling import Slab, slabs
from seg.room import Maps

SLAB_VOXELS = 1 << 20  # are resampled at a time: a few MB, that stay in the caches


def restore_labels(
    logits: Maps, properties: CaseProperties, plan: Plan, configuration: Configuration
) -> NDArray[np.integer]:
    """Labels of a case, from its logits.

    Resampled to the cropped image, the largest map wins; regions are painted where their sigmoid is over ½, in
    `regions_class_order`. Outside the crop is background. The transposition is undone (nnU-Net 2.8).

    Args:
        logits: float (K, Z, Y, X) on the preprocessed grid, plan's axes, any float type, any device.
        properties: of the case.
        plan: the model's.
        configuration: the model's.

    Returns:
        Ids (Z, Y, X), reader's axes and size: uint8, or int16 where an id is over 255.
    """
    _, own, wanted = resampling_of(properties, plan, configuration)
    labels = plan.description.labels
    full = torch.zeros(_transposed_shape(properties, plan), dtype=_kind(labels), device=logits[:0].device)
    inner = full[_box(properties)]
    _decide_on(inner, _slabs(logits, properties.cropped_shape, (wanted, own), configuration.order_logits), labels)
    return full.permute(plan.transpose_backward).contiguous().cpu().numpy()


def restore_probabilities(
    logits: Maps, properties: CaseProperties, plan: Plan, configuration: Configuration
) -> NDArray[np.float32]:
    """Probabilities of a case, from its logits; see `restore_labels`.

    Softmax, or sigmoid for regions, after resampling. Outside the crop the background is 1, regions are 0.

    Returns:
        float32 (K, Z, Y, X), reader's axes and size; K × volume in memory.
    """
    _, own, wanted = resampling_of(properties, plan, configuration)
    regions = plan.description.labels.has_regions
    full = torch.zeros((logits.shape[0], *_transposed_shape(properties, plan)))
    if not regions:
        full[0] = 1
    inner = full[:, *_box(properties)]
    for slab, maps in _slabs(logits, properties.cropped_shape, (wanted, own), configuration.order_logits):
        target = _part(inner, slab)
        for index, on_grid in enumerate(maps):
            target[index] = on_grid.cpu()
        if regions:
            target.sigmoid_()
        else:
            target.sub_(target.amax(0)).exp_().div_(target.sum(0))
    return full.permute(0, *(1 + axis for axis in plan.transpose_backward)).contiguous().numpy()


def labels_for_next_stage(
    logits: Maps, properties: CaseProperties, plan: Plan, configuration: Configuration, following: Configuration
) -> Tensor:
    """What the stage `following` of a cascade is given of this stage's logits: labels on its preprocessed grid.

    In training these are the logits of the fold that did not see the case, at prediction those of all folds; otherwise
    both are made alike. (nnU-Net 2.8 resamples logits in training, but the final label map at prediction.)

    Args:
        logits: float (K, Z, Y, X) on the preprocessed grid of `configuration`.
        properties: of the case.
        plan: the model's.
        configuration: of the logits.
        following: the next stage's.

    Returns:
        Ids int16 (Z, Y, X) on the preprocessed grid of `following`, on the device of `logits`.
    """
    size, _, wanted = resampling_of(properties, plan, following)
    found = torch.zeros(size, dtype=torch.int16, device=logits[:0].device)
    spacings = (configuration.spacing, wanted)
    _decide_on(found, _slabs(logits, size, spacings, configuration.order_logits), plan.description.labels)
    return found


def labels_from_probabilities(probabilities: Tensor | NDArray[np.floating], labels: Labels) -> NDArray[np.integer]:
    """Ids (Z, Y, X) from probabilities (K, Z, Y, X), by the rules of `restore_labels`."""
    return _decide(torch.as_tensor(probabilities).unbind(0), labels, threshold=0.5).cpu().numpy()


def _decide(maps: Iterable[Tensor], labels: Labels, threshold: float) -> Tensor:
    """Ids (Z, Y, X) from maps (Z, Y, X), which are looked at once, one after the other."""
    ids = labels.regions_class_order if labels.has_regions else [i for i in labels.ids if i != labels.ignore]
    winner = best = torch.empty(0)
    for position, (label_id, scores) in enumerate(zip(ids, maps, strict=True)):
        if position == 0:
            winner = torch.zeros(scores.shape, dtype=_kind(labels), device=scores.device)
            best = torch.full_like(scores, threshold if labels.has_regions else -torch.inf)
        winner.masked_fill_(scores > best, label_id)
        if not labels.has_regions:
            torch.maximum(best, scores, out=best)
    return winner


def _decide_on(target: Tensor, slabs: Iterable[tuple[Slab, Iterator[Tensor]]], labels: Labels) -> None:
    """Fill `target` (Z, Y, X) with ids, from the maps of its slabs."""
    for slab, maps in slabs:
        _part(target, slab).copy_(_decide(maps, labels, threshold=0.0))


def _slabs(
    logits: Maps, shape: Size3, spacings: tuple[Spacing3, Spacing3], order: int
) -> Iterator[tuple[Slab, Iterator[Tensor]]]:
    """The slabs of a grid of `shape`, each with its maps float32 (Z, Y, X), one after the other.

    They are rounded to the type of `logits`, as nnU-Net's are to its float16: which maps are equal then decides.
    """
    like = logits[:0]
    for slab in slabs(logits.shape[1:], shape, spacings, (order, like.device), SLAB_VOXELS):
        parts = (logits[(slice(index, index + 1), *slab.where)][0] for index in range(logits.shape[0]))
        yield slab, (slab.resample(part).to(like.dtype).float() for part in parts)


def _part(array: Tensor, slab: Slab) -> Tensor:
    """A slab of an array (…, Z, Y, X)."""
    return array.narrow(array.dim() - 3 + slab.axis, slab.target.start, slab.target.stop - slab.target.start)


def _kind(labels: Labels) -> torch.dtype:
    return torch.uint8 if max(labels.ids) < 256 else torch.int16


def _transposed_shape(properties: CaseProperties, plan: Plan) -> list[int]:
    return [properties.shape[axis] for axis in plan.transpose_forward]


def _box(properties: CaseProperties) -> tuple[slice, ...]:
    return tuple(slice(low, high) for low, high in zip(properties.crop_start, properties.crop_stop, strict=True))
