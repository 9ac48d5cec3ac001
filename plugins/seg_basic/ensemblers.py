"""The two ends of ensembling: everything that was trained, and only the best of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Candidate, best_candidate, option, running_mean

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class MeanEnsembler:
    """All configurations with equal weight, whatever their validation says."""

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """Every configuration among the candidates, in their order; pairs (`a+b`) are taken apart."""
        return tuple(dict.fromkeys(name for candidate in candidates for name in candidate.name.split("+")))

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the folds' logits (K, Z, Y, X), float32."""
        return running_mean(logits)

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the configurations' probabilities (K, Z, Y, X), float32."""
        return running_mean(probabilities)


@frozen(kw_only=True)
class NoEnsembler:
    """The best configuration alone. Folds of it, where several are given, are still averaged."""

    metric: str = option("dice", "the mean that chooses: dice, nsd, hd95_mm (the smallest), or one of metrics.also")

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """The single configuration of the best mean; pairs (`a+b`) are left out."""
        single = [candidate for candidate in candidates if "+" not in candidate.name]
        return (best_candidate(single, self.metric).name,)

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the folds' logits (K, Z, Y, X), float32."""
        return running_mean(logits)

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the configurations' probabilities (K, Z, Y, X), float32."""
        return running_mean(probabilities)
