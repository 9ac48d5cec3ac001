"""What ensemblers share: the best of the candidates, and a mean that holds one map at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from seg.kinds import Candidate

if TYPE_CHECKING:
    import torch


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate of the largest mean Dice over the classes, of equal ones the first.

    One without a Dice (no class is present anywhere) loses against any other.

    Raises:
        ValueError: there is no candidate.
    """
    if not candidates:
        raise ValueError("no candidates to choose among")

    def dice(candidate: Candidate) -> float:
        value = candidate.evaluation.mean.get("dice")
        return -1.0 if value is None or value != value else value  # noqa: PLR0124 - NaN counts as no Dice

    return max(candidates, key=dice)


def running_mean(maps: Iterable[torch.Tensor]) -> torch.Tensor:
    """The mean of maps of one shape, (K, Z, Y, X) say, as float32. Two maps are held at a time.

    Raises:
        ValueError: there is no map.
    """
    total: torch.Tensor | None = None
    count = 0
    for one in maps:
        total = one.float().clone() if total is None else total.add_(one)
        count += 1
    if total is None:
        raise ValueError("no maps to average")
    return total.div_(count)
