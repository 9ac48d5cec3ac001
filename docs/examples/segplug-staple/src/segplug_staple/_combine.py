"""What STAPLE makes of maps (K, Z, Y, X): votes, the estimate, and a map between the lowest and the highest values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
import torch
from numpy.typing import NDArray
from seg import Labels, bounding_box
from torch import Tensor

Votes = NDArray[np.uint8]


def combined(maps: Iterable[Tensor], labels: Labels, threshold: float, iterations: int) -> Tensor:
    """One map, float32 (K, Z, Y, X), of several; `threshold` is where a region begins.

    Of each map only the votes are kept, a byte for each voxel (for each voxel and region), beside three sums.

    Raises:
        ValueError: there is no map.
    """
    votes: list[Votes] = []
    total = lowest = highest = torch.zeros(0)
    for one in maps:
        values = one.float()
        voted = values > threshold if labels.has_regions else values.argmax(0)
        total = total + values if votes else values.clone()
        lowest = torch.minimum(lowest, values) if votes else values.clone()
        highest = torch.maximum(highest, values) if votes else values.clone()
        votes.append(voted.to(torch.uint8).cpu().numpy())
    if not votes:
        raise ValueError("no maps to combine")
    agreed = torch.from_numpy(reduce(np.logical_and, [one == votes[0] for one in votes])).to(total.device)
    result = total.div_(len(votes))
    for index in range(result.shape[0]):
        ours = [one[index] if labels.has_regions else (one == index).astype(np.uint8) for one in votes]
        share = torch.from_numpy(staple(ours, iterations)).to(result.device)
        between = lowest[index] + share * (highest[index] - lowest[index])
        result[index] = torch.where(agreed[index] if labels.has_regions else agreed, result[index], between)
    return result


def staple(votes: Sequence[Votes], iterations: int) -> NDArray[np.float32]:
    """The probability (Z, Y, X) of one class from the votes for it (0 or 1) of several raters.

    It is estimated in the box around all votes and a voxel more: how much empty space there is around must not count.
    """
    found = np.zeros(votes[0].shape, np.float32)
    any_vote = reduce(np.bitwise_or, votes)
    if not any_vote.any():
        return found
    start, stop = bounding_box(any_vote > 0)
    box = tuple(slice(first, last) for first, last in zip(start, stop, strict=True))
    images = [sitk.GetImageFromArray(np.pad(one[box], 1)) for one in votes]
    estimate = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0, 1.0, iterations))
    inner = estimate[1:-1, 1:-1, 1:-1]
    majority = np.mean([one[box] for one in votes], axis=0)
    found[box] = np.where(np.isfinite(inner), inner, majority)  # where all but nothing is known, it has no estimate
    return found
