"""STAPLE as a component: its options, and which configurations take part; the combination is in `_combine`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from seg import Candidate, Labels, best_candidate, option, running_mean

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class Staple:
    """Networks as raters: STAPLE estimates how reliable each is, and where each class is, from all of them.

    A network votes for the class of its largest logit or probability, or for each region whose probability is above
    one half. STAPLE makes of the votes for a class a probability W of it in each voxel, in the box around them. The
    answer is a map like those that were combined: their mean where all votes are the same, else
    `lowest + W · (highest - lowest)` of their values, class by class.
    """

    tolerance: float = option(0.01, "how far below the best mean Dice a configuration may be", ge=0.0, le=1.0)
    iterations: int = option(50, "the most steps of the estimate, for each class", ge=1)

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """The names of the configurations to combine; pairs (`a+b`) are left out."""
        single = [candidate for candidate in candidates if "+" not in candidate.name]
        best = best_candidate(single)
        limit = _dice(best) - self.tolerance
        return tuple(one.name for one in single if one.name == best.name or _dice(one) >= limit)

    def for_labels(self, labels: Labels) -> Combiner:
        """The ensembler of maps of these labels: what a vote is depends on whether they are regions."""
        return Combiner(staple=self, labels=labels)

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean, for want of labels (see `for_labels`)."""
        return running_mean(logits)

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean, for want of labels (see `for_labels`)."""
        return running_mean(probabilities)


@frozen(kw_only=True)
class Combiner:
    """STAPLE of maps whose labels are known."""

    staple: Staple
    labels: Labels

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """As STAPLE chooses."""
        return self.staple.select(candidates)

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """Logits (K, Z, Y, X), float32, from those of the folds; a region is voted for above 0."""
        from segplug_staple._combine import combined

        return combined(logits, self.labels, 0.0, self.staple.iterations)

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """Probabilities (K, Z, Y, X), float32, from those of the configurations; a region is voted for above ½."""
        from segplug_staple._combine import combined

        return combined(probabilities, self.labels, 0.5, self.staple.iterations)


def _dice(candidate: Candidate) -> float:
    return candidate.evaluation.mean.get("dice") or 0.0
