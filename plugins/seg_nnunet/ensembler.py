"""nnU-Net's ensembling: the best configuration or the best pair; logits over folds, probabilities over configurations.

Isensee et al. 2021; nnU-Net 2.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Candidate, best_candidate, option, running_mean

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class NnUNetEnsembler:
    """The single configuration or the pair that is best in cross-validation; nnU-Net's choice is by Dice."""

    metric: str = option("dice", "the mean that chooses: dice, nsd, hd95_mm (the smallest), or one of metrics.also")

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """The configurations of the best candidate: one, or the two of a pair that is named `a+b`.

        Exact ties go to the first, which is the simpler one where single configurations come before pairs.
        """
        return tuple(best_candidate(candidates, self.metric).name.split("+"))

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the folds' logits (K, Z, Y, X), float32."""
        return running_mean(logits)

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the configurations' probabilities (K, Z, Y, X), float32."""
        return running_mean(probabilities)
