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

    def __call__(
        self, outputs: Sequence[Tensor], label: Tensor, *, share: float = 1.0, sums: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The loss, a float32 scalar; coarser outputs meet the label at their own size (nearest).

        Args:
            outputs: logits (B, K, *size) of a batch or of a part of it.
            label: ids (B, *patch).
            share: how much of the batch this part is. The parts' losses and gradients add up to those of the whole.
            sums: of all parts together (see `sums`), where the Dice is taken over the batch.
        """
        total = torch.zeros((), device=label.device)
        for index, (logits, weight) in enumerate(zip(outputs, self.weights, strict=True)):
            if weight:
                whole = None if sums is None else sums[index]
                total = total + weight * self._one(logits.float(), _resized(label, logits.shape[2:]), share, whole)
        return total

    def sums(self, outputs: Sequence[Tensor], label: Tensor) -> list[Tensor]:
        """What a Dice over the batch needs of one part of it: (2, classes) for each output, overlap and size."""
        maps = (self._maps(logits.float(), _resized(label, logits.shape[2:]))[1:] for logits in outputs)
        return [self._sums(*pair) for pair in maps]

    def _one(self, logits: Tensor, label: Tensor, share: float, whole: Tensor | None) -> Tensor:
        entropy, probabilities, target = self._maps(logits, label)
        own = self._sums(probabilities, target)
        overlap, size = (own if whole is None else whole + (own - own.detach())).unbind(0)
        dice: Tensor = -((2 * overlap + SMOOTH) / (size + SMOOTH).clamp_min(1e-8)).mean()
        if whole is None:
            return share * (entropy + dice)
        all_of_it = dice - dice.detach()  # 0, with the gradient: the Dice of the whole is asked of every part
        return share * (entropy + dice) + (1 - share) * all_of_it

    def _maps(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cross-entropy, and probabilities and targets (B, classes, *size) of what the Dice is taken of."""
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
            return entropy.mean(), probabilities, target
        mask = valid.unsqueeze(1)
        return _masked_mean(entropy, valid), probabilities * mask, target * mask

    def _sums(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Overlap and size, (2, B, classes) or over the batch (2, classes)."""
        axes = tuple(range(2, target.dim()))
        if self.batch_dice:
            axes = (0, *axes)
        return torch.stack([(probabilities * target).sum(axes), probabilities.sum(axes) + target.sum(axes)])


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
