"""nnU-Net's choice of patches: cases uniformly, part of each batch placed on foreground (Isensee et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import CaseIndex, Configuration, Position, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Size3 = tuple[int, int, int]
ANNOTATED = -1  # the key of `CaseIndex.locations` for voxels that are not to be ignored


@frozen(kw_only=True)
class NnUNetSampler:
    """The last part of each batch is placed so that a chosen voxel of a random class lies in the patch.

    Places are drawn for the patch together with the augmenter's margin, as nnU-Net 2.8 does; the position that is
    returned is that of the patch in its middle.
    """

    foreground: float = option(0.33, "share of a batch that is placed on foreground", ge=0.0, le=1.0)
    probabilistic: bool = option(default=False, help="place each entry by chance instead of a fixed part of the batch")

    def positions(
        self, index: Sequence[CaseIndex], configuration: Configuration, margin: Size3, rng: np.random.Generator
    ) -> list[Position]:
        """`configuration.batch` positions, cases uniformly with replacement.

        Entry j of the batch is forced from j = round(batch · (1 - foreground)) on, so half of a batch of two. With
        `probabilistic` each entry is forced with the probability `foreground`, and so is a batch of one, which nnU-Net
        does not have.
        """
        batch = configuration.batch
        random_entries = round(batch * (1 - self.foreground))
        forced = [entry >= random_entries for entry in range(batch)]
        if self.probabilistic or batch == 1:
            forced = [rng.random() < self.foreground for _ in range(batch)]
        return [_position(index, configuration.patch3, margin, each, rng) for each in forced]


def _position(
    index: Sequence[CaseIndex], patch: Size3, margin: Size3, forced: bool, rng: np.random.Generator
) -> Position:
    case = int(rng.integers(len(index)))
    chosen, voxel = _target(index[case].locations, forced, rng)
    z, y, x = (
        _start(index[case].shape[axis], patch[axis], margin[axis], None if voxel is None else int(voxel[axis]), rng)
        for axis in range(3)
    )
    return Position(case=case, start=(z, y, x), forced_class=chosen)


def _target(
    locations: dict[int, NDArray[np.int32]], forced: bool, rng: np.random.Generator
) -> tuple[int | None, NDArray[np.int32] | None]:
    """The class to show and a voxel of it; of any annotated voxel where only that is known or asked for."""
    there = [key for key, voxels in locations.items() if key != ANNOTATED and len(voxels)]
    if forced and there:
        chosen = there[int(rng.integers(len(there)))]
        return chosen, locations[chosen][int(rng.integers(len(locations[chosen])))]
    annotated = locations.get(ANNOTATED)
    if annotated is None or not len(annotated):
        return None, None
    return None, annotated[int(rng.integers(len(annotated)))]


def _start(size: int, patch: int, margin: int, voxel: int | None, rng: np.random.Generator) -> int:
    """Where the patch starts along one axis of `size` voxels.

    The box of patch and margin may leave the case by half the room that is needed. Around a voxel only its lower
    side is kept from leaving further: at the far side nnU-Net lets it run on.
    """
    box = patch + margin
    room = max(margin, box - size)
    low = -((room + 1) // 2)
    high = size + room // 2 + room % 2 - box
    start = int(rng.integers(low, high + 1)) if voxel is None else max(low, voxel - box // 2)
    return start + box // 2 - patch // 2
