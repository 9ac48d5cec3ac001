"""The loss of all outputs of a network, and what losses are made of (the losses themselves are components).

B batch, K outputs, then the axes of the patch. Labels are ids, int64 (B, *patch).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from seg.models import Labels
from seg.training_kinds import PartedCriterion

if TYPE_CHECKING:
    from seg.training_kinds import Criterion


@frozen(kw_only=True)
class DeepSupervision:
    """The sum of a criterion over all outputs of a network, each with its weight (Isensee et al. 2021)."""

    criterion: Criterion
    weights: tuple[float, ...]

    @property
    def takes_parts(self) -> bool:
        """Whether a batch may be worked on in parts."""
        return isinstance(self.criterion, PartedCriterion)

    @property
    def takes_sums(self) -> bool:
        """Whether parts must know something of the whole batch (see `sums`)."""
        return isinstance(self.criterion, PartedCriterion) and self.criterion.takes_sums

    def __call__(
        self, outputs: Sequence[Tensor], label: Tensor, *, share: float = 1.0, sums: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The loss, a float32 scalar; coarser outputs meet the label at their own size (nearest).

        Args:
            outputs: logits (B, K, *size) of a batch or of a part of it.
            label: ids (B, *patch).
            share: how much of the batch this part is. The parts' losses and gradients add up to those of the whole.
            sums: of all parts together (see `sums`), where the criterion takes them.
        """
        total = torch.zeros((), device=label.device)
        for index, (logits, weight) in enumerate(zip(outputs, self.weights, strict=True)):
            if weight:
                whole = None if sums is None else sums[index]
                total = total + weight * self._one(logits.float(), _resized(label, logits.shape[2:]), share, whole)
        return total

    def sums(self, outputs: Sequence[Tensor], label: Tensor) -> list[Tensor]:
        """What the criterion needs to know of one part of a batch, for each output; it adds up over the parts."""
        criterion = self.criterion
        if not isinstance(criterion, PartedCriterion):
            raise TypeError(f"{criterion!r} does not work in parts")
        return [criterion.sums(logits.float(), _resized(label, logits.shape[2:])) for logits in outputs]

    def _one(self, logits: Tensor, label: Tensor, share: float, whole: Tensor | None) -> Tensor:
        if isinstance(self.criterion, PartedCriterion) and share < 1:
            return self.criterion.part(logits, label, share, whole)
        return self.criterion(logits, label)


def one_hot(label: Tensor, outputs: int) -> Tensor:
    """Ids (B, *patch) as float32 indicator maps (B, outputs, *patch)."""
    maps = torch.zeros((label.shape[0], outputs, *label.shape[1:]), device=label.device)
    return maps.scatter_(1, label.unsqueeze(1), 1.0)


def region_maps(label: Tensor, labels: Labels) -> Tensor:
    """Ids (B, *patch) as float32 maps (B, R, *patch), one for each region in declared order."""
    # one comparison for each id: a table of ids would have to come from the host, which then waits for the device
    maps = [reduce(torch.logical_or, [label == one for one in ids]) for ids in labels.foreground.values()]
    return torch.stack(maps, 1).float()


def _resized(label: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(label.shape[1:]) == tuple(size):
        return label
    return F.interpolate(label.unsqueeze(1).float(), size=tuple(size), mode="nearest-exact").squeeze(1).long()


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of float `values` where the boolean `valid`, of the same shape, is true; 0 where it is nowhere."""
    return (values * valid).sum() / valid.sum().clamp_min(1)
