"""Uniform sampling: what a class is made of plays no role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import CaseIndex, Configuration, Position

if TYPE_CHECKING:
    import numpy as np


@frozen(kw_only=True)
class UniformSampler:
    """Cases uniformly with replacement, patches uniformly inside them."""

    def positions(
        self,
        index: Sequence[CaseIndex],
        configuration: Configuration,
        margin: tuple[int, int, int],  # noqa: ARG002 - a patch inside the case needs no room around it
        rng: np.random.Generator,
    ) -> list[Position]:
        """`configuration.batch` positions. A case smaller than the patch lies in its middle, up to half a voxel."""
        found = []
        for _ in range(configuration.batch):
            case = int(rng.integers(len(index)))
            z, y, x = (
                int(rng.integers(size - patch + 1)) if size >= patch else (size - patch) // 2
                for size, patch in zip(index[case].shape, configuration.patch3, strict=True)
            )
            found.append(Position(case=case, start=(z, y, x)))
        return found
