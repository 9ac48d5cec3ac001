"""Staple as a component: which configurations make the model, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from seg import Candidate, best_candidate, option, running_mean

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class Staple:
    """Every configuration that is nearly as good as the best one, with equal weight."""

    tolerance: float = option(0.01, "how far below the best mean Dice a configuration may be", ge=0.0, le=1.0)

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """The names of the configurations to combine; pairs (`a+b`) are left out."""
        single = [candidate for candidate in candidates if "+" not in candidate.name]
        best = best_candidate(single)
        limit = _dice(best) - self.tolerance
        return tuple(one.name for one in single if one.name == best.name or _dice(one) >= limit)

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the folds' logits (K, Z, Y, X), float32."""
        return running_mean(logits)

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of the configurations' probabilities (K, Z, Y, X), float32."""
        return running_mean(probabilities)


def _dice(candidate: Candidate) -> float:
    return candidate.evaluation.mean.get("dice") or 0.0
