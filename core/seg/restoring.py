"""The way back: from logits on the preprocessed grid to labels or probabilities on the case's own grid.

Axes: K outputs, Z Y X voxels. Logits are resampled one map at a time, with the best so far beside them, so that labels
never cost K × volume in floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg.models import CaseProperties, Configuration, Labels, Plan
from seg.preprocessing import resampling_of
from seg.resampling import resample
from seg.room import Maps


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
    labels = plan.description.labels
    maps = (on_grid[0] for on_grid in _maps(logits, properties, plan, configuration))
    inner = _decide(maps, labels, threshold=0.0)
    full = inner.new_zeros(_transposed_shape(properties, plan))
    full[_box(properties)] = inner
    return full.permute(plan.transpose_backward).contiguous().cpu().numpy()


def restore_probabilities(
    logits: Maps, properties: CaseProperties, plan: Plan, configuration: Configuration
) -> NDArray[np.float32]:
    """Probabilities of a case, from its logits; see `restore_labels`.

    Softmax, or sigmoid for regions, after resampling. Outside the crop the background is 1, regions are 0.

    Returns:
        float32 (K, Z, Y, X), reader's axes and size; K × volume in memory.
    """
    regions = plan.description.labels.has_regions
    full = torch.zeros((logits.shape[0], *_transposed_shape(properties, plan)))
    if not regions:
        full[0] = 1
    inner = full[:, *_box(properties)]
    for index, on_grid in enumerate(_maps(logits, properties, plan, configuration)):
        inner[index] = on_grid[0].cpu()
    if regions:
        inner.sigmoid_()
    else:
        inner.sub_(inner.amax(0)).exp_().div_(inner.sum(0))
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
    maps = (resample(logits[index : index + 1].float(), size, configuration.spacing, wanted,
                     configuration.order_logits)[0] for index in range(logits.shape[0]))
    return _decide(maps, plan.description.labels, threshold=0.0).to(torch.int16)


def labels_from_probabilities(probabilities: Tensor | NDArray[np.floating], labels: Labels) -> NDArray[np.integer]:
    """Ids (Z, Y, X) from probabilities (K, Z, Y, X), by the rules of `restore_labels`."""
    return _decide(torch.as_tensor(probabilities).unbind(0), labels, threshold=0.5).cpu().numpy()


def _decide(maps: Iterable[Tensor], labels: Labels, threshold: float) -> Tensor:
    """Ids (Z, Y, X) from maps (Z, Y, X), which are looked at once, one after the other."""
    kind = torch.uint8 if max(labels.ids) < 256 else torch.int16
    ids = labels.regions_class_order if labels.has_regions else [i for i in labels.ids if i != labels.ignore]
    winner = best = torch.empty(0)
    for position, (label_id, scores) in enumerate(zip(ids, maps, strict=True)):
        if position == 0:
            winner = torch.zeros(scores.shape, dtype=kind, device=scores.device)
            best = torch.full_like(scores, threshold if labels.has_regions else -torch.inf)
        winner.masked_fill_(scores > best, label_id)
        if not labels.has_regions:
            torch.maximum(best, scores, out=best)
    return winner


def _maps(logits: Maps, properties: CaseProperties, plan: Plan, configuration: Configuration) -> Iterator[Tensor]:
    """Each map of `logits` on the grid of the cropped image, float32 (1, Z, Y, X)."""
    _, own, wanted = resampling_of(properties, plan, configuration)
    for index in range(logits.shape[0]):
        one = logits[index : index + 1].float()
        yield resample(one, properties.cropped_shape, wanted, own, configuration.order_logits)


def _transposed_shape(properties: CaseProperties, plan: Plan) -> list[int]:
    return [properties.shape[axis] for axis in plan.transpose_forward]


def _box(properties: CaseProperties) -> tuple[slice, ...]:
    return tuple(slice(low, high) for low, high in zip(properties.crop_start, properties.crop_stop, strict=True))
