"""What ensemblers share: the best of the candidates, and a mean that holds one map at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from seg.kinds import Candidate

if TYPE_CHECKING:
    import torch

LARGER_IS_BETTER = {"dice": True, "nsd": True, "hd95_mm": False}


def best_candidate(candidates: Sequence[Candidate], metric: str = "dice") -> Candidate:
    """The candidate of the best mean over the classes, of equal ones the first.

    One without a value (no class is present anywhere) loses against any other.

    Args:
        candidates: at least one.
        metric: `dice` or `nsd`, of which the largest is best, `hd95_mm`, of which the smallest is, or a further metric
            of the evaluations, which say of it what is better.

    Raises:
        ValueError: there is no candidate, or no such metric.
    """
    if not candidates:
        raise ValueError("no candidates to choose among")
    known = {**candidates[0].evaluation.larger_is_better, **LARGER_IS_BETTER}
    if metric not in known:
        raise ValueError(f"no metric {metric!r}, expected one of {', '.join(sorted(known))}")
    sign = 1 if known[metric] else -1

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
