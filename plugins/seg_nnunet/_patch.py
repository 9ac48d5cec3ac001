"""The largest patch, and then the largest batch, that fit the memory (Isensee et al. 2021; nnU-Net 2.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from attrs import evolve, frozen

from seg import Exit, Record, SegError, Topology
from seg_nnunet._topology import SMALLEST_MAP, Pooling, pooling

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
    flat = len(spacing) == 2
    values, reference = (limits.values_2d, limits.batch_2d) if flat else (limits.values_3d, limits.batch_3d)
    needed = SMALLEST_BATCH if limits.patient else reference
    start = pooling(spacing, [min(*pair) for pair in zip(_start(spacing), median, strict=True)])
    found, seen = start, {start.patch}
    topology, estimate = memory(found)
    while estimate * needed > values * reference:
        found = _smaller(found, spacing, median)
        if found.patch in seen or len(found.strides) < 2 or min(found.patch) < 1:
            raise _too_big(start.patch, limits.gb)
        seen.add(found.patch)
        topology, estimate = memory(found)
    wanted = round(values / estimate * reference)
    cap = round(voxels * limits.data_share / np.prod(found.patch, dtype=np.float64))
    batch = max(min(wanted, cap), SMALLEST_BATCH)
    reasons = {
        "patch": _patch_reason(start, found, median, limits.gb),
        "batch": _batch_reason(wanted, cap, limits),
        "topology": _topology_reason(found, topology, estimate),
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
    record = Record(code="SEG-R05", found=f"no patch fits {gb:g} GB, though {_by(patch)} was made smaller and smaller",
                    advice="Raise planner.vram_gb, or choose a smaller architecture.")
    return SegError(record, Exit.RESOURCES)


def _patch_reason(start: Pooling, found: Pooling, median: Sequence[float], gb: float) -> str:
    if start.patch == found.patch:
        whole = all(length >= full for length, full in zip(found.patch, median, strict=True))
        what = "The median image" if whole else "As many mm along each axis, within the median image"
        return f"{what} of {_by(median)} voxels, which fits {gb:g} GB; a multiple of {_by(found.divisors)}."
    return (f"Shrunk from {_by(start.patch)}, along the axis that covers most of the median image of {_by(median)} "
            f"voxels, until it fitted {gb:g} GB; a multiple of {_by(found.divisors)}.")


def _batch_reason(wanted: int, cap: int, limits: Preset) -> str:
    if max(min(wanted, cap), SMALLEST_BATCH) > min(wanted, cap):
        return f"The smallest batch there is; memory would allow {wanted}, {_share(limits)} of the data set {cap}."
    if cap < wanted:
        return f"A batch may show {_share(limits)} of the data set's voxels at most; memory would allow {wanted}."
    return f"As many patches as fill {limits.gb:g} GB."


def _share(limits: Preset) -> str:
    return f"{100 * limits.data_share:g} %"


def _topology_reason(found: Pooling, topology: Topology, estimate: int) -> str:
    times = ", ".join(str(by.bit_length() - 1) for by in found.divisors)
    return (f"{topology.stages} stages: the axes are halved {times} times, the finer ones first, until they are "
            f"shorter than {SMALLEST_MAP} voxels; {estimate / 1e6:.1f} million feature map values a sample.")


def _by(lengths: Sequence[float]) -> str:
    return " × ".join(f"{length:g}" for length in lengths)
