"""The largest patch, and then the largest batch, that fit the memory (Isensee et al. 2021; nnU-Net 2.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from attrs import evolve, frozen

from seg import Exit, Record, SegError, Topology
from seg_nnunet._topology import Pooling, network_reasons, pooling
from seg_nnunet._words import by, counted, million, percent

SMALLEST_BATCH = 2
START_EDGE = {2: 2048, 3: 256}  # voxels: a square or a cube of this edge, in mm, is where the search starts

Memory = Callable[[Pooling], tuple[Topology, int]]
"""The network for a pooling, and how many values its feature maps hold for one sample of the pooling's patch."""


@frozen(kw_only=True)
class Preset:
    """What a planner holds its networks to.

    `values_2d` and `values_3d` count the feature map values of one sample that, times `batch_2d` or `batch_3d`, fill
    `gb` of memory. A preset that is `patient` shrinks the patch until a batch of two fits, any other until the
    reference batch does. A batch shows at most `data_share` of all voxels of the data set.
    """

    values_2d: float
    values_3d: float
    gb: float
    data_share: float
    patient: bool
    batch_2d: int = 12
    batch_3d: int = 2

    def scaled(self, gb: float) -> Preset:
        """The same for another memory: the values grow in proportion."""
        factor = gb / self.gb
        return evolve(self, values_2d=self.values_2d * factor, values_3d=self.values_3d * factor, gb=gb)

    def room(self, dims: int) -> Room:
        """What holds for patches of `dims` axes."""
        values, reference = (self.values_2d, self.batch_2d) if dims == 2 else (self.values_3d, self.batch_3d)
        return Room(values=values, reference=reference, needed=SMALLEST_BATCH if self.patient else reference,
                    gb=self.gb, data_share=self.data_share)


@frozen(kw_only=True)
class Room:
    """`reference` patches of `values` feature map values fill `gb`; a patch is shrunk until `needed` of it fit."""

    values: float
    reference: int
    needed: int
    gb: float
    data_share: float


@frozen(kw_only=True)
class Fit:
    """What fits: patch (voxels), batch, the network, and why."""

    patch: tuple[int, ...]
    batch: int
    topology: Topology
    reasons: dict[str, str]


def fit(spacing: Sequence[float], median: Sequence[float], voxels: float, memory: Memory, limits: Preset) -> Fit:
    """Start with a patch that covers the median image, shrink it until it fits, then fill up with batch.

    Args:
        spacing: mm, two or three axes, transposed order.
        median: median shape of the data set at that spacing, the same axes; may be fractional.
        voxels: voxels of the whole data set at that spacing.
        memory: the architecture's answer for a pooling.
        limits: the preset, already scaled to the memory that may be used.

    Raises:
        SegError: nothing fits (exit 5).
    """
    room = limits.room(len(spacing))
    found = start = pooling(spacing, [min(*pair) for pair in zip(_start(spacing), median, strict=True)])
    topology, estimate = memory(found)
    tried = {found.patch: estimate}
    while estimate * room.needed > room.values * room.reference:
        found = _smaller(found, spacing, median)
        if found.patch in tried or len(found.strides) < 2 or min(found.patch) < 1:
            raise _too_big(start.patch, limits.gb)
        topology, estimate = memory(found)
        tried[found.patch] = estimate
    wanted = round(room.values / estimate * room.reference)
    cap = round(voxels * limits.data_share / np.prod(found.patch, dtype=np.float64))
    batch = max(min(wanted, cap), SMALLEST_BATCH)
    reasons = {
        "patch": _patch_reason(tried, median, room),
        "batch": _batch_reason(wanted, cap, room, f"{million(room.values)} / {million(estimate)} · {room.reference}"),
        "topology": f"{topology.stages} stages: one, and one more for each of {len(found.strides) - 1} halvings. The "
                    f"feature maps of a sample hold {million(estimate)} values.",
        **network_reasons(found, spacing, topology),
    }
    return Fit(patch=found.patch, batch=batch, topology=topology, reasons=reasons)


def _start(spacing: Sequence[float]) -> list[int]:
    """Voxels of the cube (or square) to start with: as many mm along each axis."""
    density, dims = 1 / np.array(spacing, dtype=np.float64), len(spacing)
    return [round(edge) for edge in density * (START_EDGE[dims] ** dims / np.prod(density)) ** (1 / dims)]


def _smaller(found: Pooling, spacing: Sequence[float], median: Sequence[float]) -> Pooling:
    """Shorten the axis that covers most of the median image, the last of equals.

    The step is the divisor of the shortened patch, taken from the patch as it was (nnU-Net 2.8).
    """
    axis = max(range(len(median)), key=lambda each: (found.patch[each] / median[each], each))
    trial = list(found.patch)
    trial[axis] -= found.divisors[axis]
    size = list(found.patch)
    size[axis] -= pooling(spacing, trial).divisors[axis]
    return pooling(spacing, size)


def _too_big(patch: Sequence[int], gb: float) -> SegError:
    record = Record(code="SEG-R05", found=f"no patch fits {gb:g} GB, though {by(patch)} was made smaller and smaller",
                    advice="Raise planner.vram_gb, or choose a smaller architecture.")
    return SegError(record, Exit.RESOURCES)


def _patch_reason(tried: Mapping[tuple[int, ...], int], median: Sequence[float], room: Room) -> str:
    """Where the search began, what fits, and what did not; `tried` maps each patch to its feature map values."""
    sizes, dims = list(tried), len(median)
    fits, most = million(tried[sizes[-1]]), million(room.values * room.reference / room.needed)
    begun = (f"Begun at {by(sizes[0])}: as many mm along each axis as fill {START_EDGE[dims]}{'²³'[dims - 2]} voxels, "
             f"within the median image of {by(median)}, rounded up to whole halvings.")
    if len(sizes) > 1:
        return (f"{begun} Shrunk in {counted(len(sizes) - 1, 'step')}, each along the axis that covers most of "
                f"the image, to {fits} feature map values; {most} are allowed ({room.needed} such patches fill "
                f"{room.gb:g} GB), and {by(sizes[-2])} would have {million(tried[sizes[-2]])}.")
    whole = all(length >= full for length, full in zip(sizes[0], median, strict=True))
    return (f"{begun} Its {fits} feature map values fit at once ({most} for {room.gb:g} GB). "
            f"{'A larger one would show no more of the image' if whole else 'Nothing larger is tried'}.")


def _batch_reason(wanted: int, cap: int, room: Room, memory: str) -> str:
    """What memory and the size of the data set would each allow, and what the one that decides costs."""
    rule = (f"Memory for {wanted} patches ({memory}), at most {percent(room.data_share)} of the data set's voxels, "
            f"which is {cap} patches, and at least {SMALLEST_BATCH}: {max(min(wanted, cap), SMALLEST_BATCH)}.")
    if min(wanted, cap) < SMALLEST_BATCH:
        return f"{rule} Without the least it would be {min(wanted, cap)}."
    if cap < wanted:
        return f"{rule} Without the share of the data set it would be {wanted}."
    return f"{rule} With memory for more of this patch it could be up to {cap}." if cap > wanted else rule
