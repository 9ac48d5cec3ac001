"""Dice plus cross-entropy, under deep supervision (Isensee et al. 2021).

B batch, K outputs, then the axes of the patch. Labels are ids, int64 (B, *patch).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from seg.models import Labels

SMOOTH = 1e-5


@frozen(kw_only=True)
class DiceCrossEntropy:
    """The sum of both, over all outputs of a network, each with its weight.

    Classes (softmax): cross-entropy, and soft Dice over the foreground. Regions (sigmoid): binary cross-entropy, and
    soft Dice over all outputs. Voxels with the ignore label count nowhere. `batch_dice` takes the Dice over the batch
    as a whole instead of sample by sample.
    """

    labels: Labels
    weights: tuple[float, ...]
    batch_dice: bool = False

    def __call__(self, outputs: Sequence[Tensor], label: Tensor) -> Tensor:
        """The loss, a float32 scalar; coarser outputs meet the label at their own size (nearest)."""
        total = torch.zeros((), device=label.device)
        for logits, weight in zip(outputs, self.weights, strict=True):
            if weight:
                total = total + weight * self._one(logits.float(), _resized(label, logits.shape[2:]))
        return total

    def _one(self, logits: Tensor, label: Tensor) -> Tensor:
        ignore = self.labels.ignore
        valid = None if ignore is None else label != ignore
        if valid is not None:
            label = label * valid
        if self.labels.has_regions:
            target = region_maps(label, self.labels)
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
            probabilities = logits.sigmoid()
        else:
            logarithms = F.log_softmax(logits, 1)
            entropy = F.nll_loss(logarithms, label, reduction="none")
            probabilities = logarithms.exp()[:, 1:]
            target = one_hot(label, logits.shape[1])[:, 1:]
        if valid is None:
            return entropy.mean() + self._dice(probabilities, target)
        mask = valid.unsqueeze(1)
        return _masked_mean(entropy, valid) + self._dice(probabilities * mask, target * mask)

    def _dice(self, probabilities: Tensor, target: Tensor) -> Tensor:
        axes = tuple(range(2, target.dim()))
        if self.batch_dice:
            axes = (0, *axes)
        overlap = (probabilities * target).sum(axes)
        size = probabilities.sum(axes) + target.sum(axes)
        return -((2 * overlap + SMOOTH) / (size + SMOOTH).clamp_min(1e-8)).mean()


def one_hot(label: Tensor, outputs: int) -> Tensor:
    """Ids (B, *patch) as float32 indicator maps (B, outputs, *patch)."""
    maps = torch.zeros((label.shape[0], outputs, *label.shape[1:]), device=label.device)
    return maps.scatter_(1, label.unsqueeze(1), 1.0)


def region_maps(label: Tensor, labels: Labels) -> Tensor:
    """Ids (B, *patch) as float32 maps (B, R, *patch), one for each region in declared order."""
    maps = [torch.isin(label, torch.tensor(ids, device=label.device)) for ids in labels.foreground.values()]
    return torch.stack(maps, 1).float()


def _resized(label: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(label.shape[1:]) == tuple(size):
        return label
    return F.interpolate(label.unsqueeze(1).float(), size=tuple(size), mode="nearest-exact").squeeze(1).long()


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    return (values * valid).sum() / valid.sum().clamp_min(1)
