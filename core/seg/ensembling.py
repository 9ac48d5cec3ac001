"""What ensemblers share: the best of the candidates, and a mean that holds one map at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from seg.kinds import Candidate

if TYPE_CHECKING:
    import torch

BETTER = {"dice": 1, "nsd": 1, "hd95_mm": -1}  # metric → the sign under which more is better


def best_candidate(candidates: Sequence[Candidate], metric: str = "dice") -> Candidate:
    """The candidate of the best mean over the classes, of equal ones the first.

    One without a value (no class is present anywhere) loses against any other.

    Args:
        candidates: at least one.
        metric: `dice` or `nsd`, of which the largest is best, or `hd95_mm`, of which the smallest is.

    Raises:
        ValueError: there is no candidate, or no such metric.
    """
    if not candidates:
        raise ValueError("no candidates to choose among")
    sign = BETTER.get(metric)
    if sign is None:
        raise ValueError(f"no metric {metric!r}, expected one of {', '.join(BETTER)}")

    def worth(candidate: Candidate) -> float:
        value = candidate.evaluation.mean.get(metric)
        return -math.inf if value is None or math.isnan(value) else sign * value

    return max(candidates, key=worth)


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
