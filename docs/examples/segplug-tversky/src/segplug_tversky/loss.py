"""The Tversky losses as components: their options and how they are built; what they calculate is in `_index`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen
from seg import Configuration, Labels, option

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class Tversky:
    """1 minus the Tversky index, TP / (TP + α FP + β FN), in the mean over the classes (Salehi et al. 2017).

    With α = β = ½ it is the Dice loss. The paper's best for lesions is the default: recall before precision.
    """

    alpha: float = option(0.3, "weight of what is too much (false positives)", ge=0.0)
    beta: float = option(0.7, "weight of what is missed (false negatives)", ge=0.0)
    smooth: float = option(1.0, "voxels added above and below, so that an empty class has an index", ge=1e-5)

    def build(
        self, labels: Labels, configuration: Configuration
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The loss of one output: logits (B, K, *size) and ids (B, *size) to a float32 scalar."""
        from segplug_tversky._index import tversky_index

        def criterion(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            index = tversky_index(logits, ids, labels, (self.alpha, self.beta, self.smooth), configuration.batch_dice)
            return 1 - index.mean()

        return criterion


@frozen(kw_only=True)
class FocalTversky:
    """(1 - Tversky index) to the power 1/γ, in the mean over the classes (Abraham and Khan 2019, equation 4)."""

    alpha: float = option(0.3, "weight of what is too much (false positives)", ge=0.0)
    beta: float = option(0.7, "weight of what is missed (false negatives)", ge=0.0)
    gamma: float = option(4 / 3, "the loss is taken to the power 1/gamma; 1: the Tversky loss", ge=1.0, le=3.0)
    smooth: float = option(1.0, "voxels added above and below, so that an empty class has an index", ge=1e-5)

    def build(
        self, labels: Labels, configuration: Configuration
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The loss of one output: logits (B, K, *size) and ids (B, *size) to a float32 scalar."""
        from segplug_tversky._index import tversky_index

        def criterion(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            index = tversky_index(logits, ids, labels, (self.alpha, self.beta, self.smooth), configuration.batch_dice)
            wrong = (1 - index).clamp_min(1e-6)  # at 0 the slope of the root is infinite
            return (wrong ** (1 / self.gamma)).mean()

        return criterion
