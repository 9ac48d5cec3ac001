"""Dice plus cross-entropy as a component: its options; the calculation itself is in `_dice_entropy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Configuration, Labels, option

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class DiceCrossEntropy:
    """The sum of soft Dice (negative) and cross-entropy, each with its weight (Isensee et al. 2021).

    The options are those in which the losses of nnU-Net's trainers differ (Ma et al. 2021 compare them).
    """

    dice: float = option(1.0, "weight of the Dice", ge=0.0)
    entropy: float = option(1.0, "weight of the cross-entropy", ge=0.0)
    smooth: float = option(1e-5, "added to overlap and size of the Dice, so that an empty class has one", ge=0.0)
    batch: str = option("auto", "Dice over the batch as a whole instead of sample by sample; auto: as planned",
                        choices=("auto", "on", "off"))
    top_k: float = option(100.0, "percent of the voxels, those of the largest cross-entropy, that count in it",
                          ge=0.01, le=100.0)
    label_smoothing: float = option(0.0, "part of the target that goes to all classes alike, in the cross-entropy",
                                    ge=0.0, le=0.9)

    def __attrs_post_init__(self) -> None:
        if not (self.dice or self.entropy):
            raise ValueError("one of dice and entropy must be above 0")

    def build(
        self, labels: Labels, configuration: Configuration
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The loss of one output, a float32 scalar, of logits float32 (B, K, *size) and ids int64 (B, *size).

        It works on a batch in parts (`seg.PartedCriterion`), unless the number of voxels that count is that of the
        whole batch: with `top_k`, and with an ignore label.
        """
        from seg_nnunet._dice_entropy import DiceEntropy

        over_batch = configuration.batch_dice if self.batch == "auto" else self.batch == "on"
        criterion = DiceEntropy(labels=labels, batch_dice=over_batch, options=self)
        whole_only = self.top_k < 100 or labels.ignore is not None
        return criterion.__call__ if whole_only else criterion
