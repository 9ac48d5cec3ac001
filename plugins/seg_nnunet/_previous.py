"""What the second stage of a cascade sees of the first, made less reliable than it is (Isensee et al. 2021).

The first stage is better on what it trained on than elsewhere, and its mistakes must not be copied; so masks are grown,
shrunk or lose a component at random. B batch, L labels; distances in voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from attrs import fields, frozen
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

RADIUS = (1.0, 8.0)
LARGEST_REMOVED = 0.15  # of the patch: a component of more is never removed
P_LABEL = 0.5  # each label of a sample that was drawn


@frozen(kw_only=True, eq=False)
class Disturbance:
    """The random parameters of one batch, for each sample and label."""

    order: NDArray[np.int64]  # (B, L): labels in the order in which they are worked on
    operation: NDArray[np.int64]  # (B, L): 0 none, else one more than the place in OPERATIONS
    radius: NDArray[np.float64]  # (B, L): of the ball
    removal: NDArray[np.float64]  # (B, L): 0 to 1 chooses a component to remove, -1 keeps all

    def sample(self, index: int) -> Disturbance:
        """The parameters of one entry of the batch, as a batch of one."""
        return Disturbance(**{one.name: getattr(self, one.name)[index : index + 1] for one in fields(Disturbance)})


def draw_disturbance(
    samples: int, labels: int, p_operation: float, p_removal: float, rng: np.random.Generator
) -> Disturbance:
    """The parameters of a batch; how many numbers are taken from `rng` depends on the shapes alone."""
    shape = (samples, labels)

    def gate(probability: float) -> NDArray[np.bool_]:
        return (rng.random((samples, 1)) < probability) & (rng.random(shape) < P_LABEL)

    return Disturbance(
        order=rng.random(shape).argsort(axis=1),
        operation=gate(p_operation) * rng.integers(1, len(OPERATIONS) + 1, shape),
        radius=rng.uniform(*RADIUS, shape),
        removal=np.where(gate(p_removal), rng.random(shape), -1.0),
    )


def disturb(channels: Tensor, drawn: Disturbance) -> None:
    """Grow, shrink and thin out masks (B, L, *patch) of zeros and ones, in place.

    What a mask gains is taken from the others; what it loses is no label's.
    """
    for sample, masks in enumerate(channels):
        for label in drawn.order[sample].tolist():
            if operation := int(drawn.operation[sample, label]):
                before = masks[label] > 0
                after = OPERATIONS[operation - 1](before, float(drawn.radius[sample, label]))
                masks.masked_fill_(after & ~before, 0)
                masks[label] = after
        for label in drawn.order[sample].tolist():
            if drawn.removal[sample, label] >= 0:
                masks[label] = _thinned(masks[label] > 0, float(drawn.removal[sample, label]))


def dilation(mask: Tensor, radius: float) -> Tensor:
    """The voxels at most `radius` from one of `mask`; both bool (*patch).

    By the squared Euclidean distance, axis by axis, so that the cost grows with the radius and not with its cube.
    """
    squared = torch.full(mask.shape, torch.inf, device=mask.device).masked_fill_(mask, 0)
    reach = int(radius)
    for axis, length in enumerate(mask.shape):
        sides = [0, 0] * (mask.dim() - 1 - axis) + [reach, reach]
        padded = F.pad(squared, sides, value=torch.inf)
        for step in range(1, reach + 1):
            for side in (reach - step, reach + step):
                squared = torch.minimum(squared, padded.narrow(axis, side, length) + step**2)
    return squared <= radius**2


def erosion(mask: Tensor, radius: float) -> Tensor:
    """The voxels of `mask` that are more than `radius` from any other; what is outside the patch is not looked at."""
    return ~dilation(~mask, radius)


def closing(mask: Tensor, radius: float) -> Tensor:
    """Grown, then shrunk by as much: gaps are filled."""
    return erosion(dilation(mask, radius), radius)


def opening(mask: Tensor, radius: float) -> Tensor:
    """Shrunk, then grown by as much: thin parts go."""
    return dilation(erosion(mask, radius), radius)


OPERATIONS: tuple[Callable[[Tensor, float], Tensor], ...] = (dilation, erosion, closing, opening)


def _thinned(mask: Tensor, choice: float) -> Tensor:
    """`mask` without one of its small components, chosen by a number in [0, 1); as it is where none is small.

    Components are found on the host, for which the thread that makes batches waits, and nobody else.
    """
    from scipy import ndimage

    found, _ = ndimage.label(mask.cpu().numpy(), structure=np.ones((3,) * mask.dim()))
    small = 1 + np.flatnonzero(np.bincount(found.ravel())[1:] < LARGEST_REMOVED * mask.numel())
    if not len(small):
        return mask
    kept: NDArray[np.bool_] = found != small[int(choice * len(small))]
    return mask & torch.from_numpy(kept).to(mask.device)
