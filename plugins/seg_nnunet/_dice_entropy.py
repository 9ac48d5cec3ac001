"""Dice plus cross-entropy of one output (Isensee et al. 2021).

B batch, K outputs, then the axes of the patch. Labels are ids, int64 (B, *size).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from seg import Labels, masked_mean, one_hot, region_maps

if TYPE_CHECKING:
    from seg_nnunet.loss import DiceCrossEntropy


@frozen(kw_only=True)
class DiceEntropy:
    """The criterion that `options` describe; what it does in parts is `seg.PartedCriterion`.

    Classes (softmax): cross-entropy, and soft Dice over the foreground. Regions (sigmoid): binary cross-entropy, and
    soft Dice over all outputs. Voxels with the ignore label count nowhere. `batch_dice` takes the Dice over the batch
    as a whole instead of sample by sample.
    """

    labels: Labels
    batch_dice: bool
    options: DiceCrossEntropy

    @property
    def takes_sums(self) -> bool:
        """A Dice over the batch is one of all parts together."""
        return self.batch_dice and self.options.dice > 0

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss, a float32 scalar, of logits float32 (B, K, *size) and ids (B, *size)."""
        return self.part(logits, label, 1.0, None)

    def part(self, logits: Tensor, label: Tensor, share: float, sums: Tensor | None) -> Tensor:
        """The same of a part of a batch: `share` of it; `sums` of all parts where the Dice is taken over the batch."""
        entropy, probabilities, target = self._maps(logits, label)
        entropy = self.options.entropy * entropy
        if not self.options.dice:
            return share * entropy
        dice = self.options.dice * self._dice(probabilities, target, sums)
        if sums is None:
            return share * (entropy + dice)
        all_of_it = dice - dice.detach()  # 0, with the gradient: the Dice of the whole is asked of every part
        return share * (entropy + dice) + (1 - share) * all_of_it

    def sums(self, logits: Tensor, label: Tensor) -> Tensor:
        """What a Dice over the batch needs of one part of it: (2, classes), overlap and size."""
        return self._sums(*self._maps(logits, label)[1:])

    def _dice(self, probabilities: Tensor, target: Tensor, whole: Tensor | None) -> Tensor:
        """Minus the mean Dice; with `whole` it is that of all parts, whose gradient is this part's."""
        own, smooth = self._sums(probabilities, target), self.options.smooth
        overlap, size = (own if whole is None else whole + (own - own.detach())).unbind(0)
        dice: Tensor = -((2 * overlap + smooth) / (size + smooth).clamp_min(1e-8)).mean()
        return dice

    def _maps(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean cross-entropy, and probabilities and targets (B, classes, *size) of what the Dice is taken of."""
        ignore, smoothing = self.labels.ignore, self.options.label_smoothing
        valid = None if ignore is None else label != ignore
        if valid is not None:
            label = label * valid
        if self.labels.has_regions:
            target = region_maps(label, self.labels)
            wanted = target * (1 - smoothing) + smoothing / 2 if smoothing else target
            entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)
            probabilities = logits.sigmoid()
        else:
            logarithms = F.log_softmax(logits, 1)
            entropy = F.nll_loss(logarithms, label, reduction="none")
            if smoothing:
                entropy = (1 - smoothing) * entropy - smoothing * logarithms.mean(1)
            probabilities = logarithms.exp()[:, 1:]
            target = one_hot(label, logits.shape[1])[:, 1:]
        if valid is None:
            return self._mean(entropy, valid), probabilities, target
        mask = valid.unsqueeze(1)
        return self._mean(entropy, valid), probabilities * mask, target * mask

    def _mean(self, entropy: Tensor, valid: Tensor | None) -> Tensor:
        """The mean over voxels, or over the share of them where it is largest; how many is known without asking."""
        if self.options.top_k >= 100:
            return entropy.mean() if valid is None else masked_mean(entropy, valid)
        values = (entropy if valid is None else entropy * valid).flatten()
        largest = values.topk(max(1, int(values.numel() * self.options.top_k / 100)), sorted=False).values
        if valid is None:
            return largest.mean()
        return largest.sum() / valid.sum().clamp(1, largest.numel())

    def _sums(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Overlap and size, (2, B, classes) or over the batch (2, classes)."""
        axes = tuple(range(2, target.dim()))
        if self.batch_dice:
            axes = (0, *axes)
        return torch.stack([(probabilities * target).sum(axes), probabilities.sum(axes) + target.sum(axes)])
