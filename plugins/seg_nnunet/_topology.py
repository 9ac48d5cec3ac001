"""How often each axis is halved, and which kernels go with it (Isensee et al. 2021; nnU-Net 2.8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

from seg import Topology
from seg_nnunet._words import by

SMALLEST_MAP = 8  # voxels: an axis shorter than this is not halved any more
SMALLEST_SOLE_MAP = 12  # voxels: the same where one axis would be halved alone
LEFT_TO_THE_ARCHITECTURE = ("blocks", "decoder_blocks", "deep_supervision")


@frozen(kw_only=True)
class Pooling:
    """Strides and kernels, one a stage, and the patch padded so that every halving is exact.

    `divisors` are the products of the strides of each axis; the patch is a multiple of them.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]
    divisors: tuple[int, ...]


def pooling(spacing: Sequence[float], size: Sequence[float]) -> Pooling:
    """Halve the finest axes until all are small, coarse axes only once the others have caught up with them.

    Args:
        spacing: mm of each axis of the patch.
        size: voxels of each axis; may be fractional, as medians are.
    """
    patch, spacing, size = size, [float(step) for step in spacing], list(size)
    axes = range(len(size))
    kernel, divisors = [1] * len(size), [1] * len(size)
    strides, kernels = [(1,) * len(size)], []
    while halved := _halved(spacing, size):
        finest = min(spacing)
        kernel = [3 if spacing[axis] / finest < 2 else kernel[axis] for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            divisors[axis] *= 2
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    kernels.append((3,) * len(size))
    return Pooling(
        strides=tuple(strides), kernels=tuple(kernels), patch=_padded(patch, divisors), divisors=tuple(divisors)
    )


def _padded(size: Sequence[float], divisors: Sequence[int]) -> tuple[int, ...]:
    """`size` rounded up to multiples of `divisors`."""
    return tuple(math.ceil(length / by) * by for length, by in zip(size, divisors, strict=True))


def _halved(spacing: Sequence[float], size: Sequence[float]) -> list[int]:
    """The axes to halve next; none where the bottleneck is reached."""
    long = [axis for axis in range(len(size)) if size[axis] >= SMALLEST_MAP]
    if not long:
        return []
    finest = min(spacing[axis] for axis in long)
    halved = [axis for axis in long if spacing[axis] / finest < 2]
    return [] if len(halved) == 1 and size[halved[0]] < SMALLEST_SOLE_MAP else halved


def network_reasons(found: Pooling, spacing: Sequence[float], topology: Topology) -> dict[str, str]:
    """Why strides, kernels and the rest of the network are as they are, by the names of the fields of `topology`.

    Args:
        found: the pooling of the patch.
        spacing: mm of each axis of the patch.
        topology: the architecture's answer to it.
    """
    features, axes = topology.features, range(len(spacing))
    late = [sum(kernel[axis] == 1 for kernel in found.kernels) for axis in axes]
    kernels = ("3 along every axis from the first stage on, for the spacings are within a factor of 2; an axis of "
               "twice the finest spacing or more would begin with 1.")
    if any(late):
        kernels = (f"3 along an axis once its spacing, doubled at each halving, is less than twice the finest; 1 in "
                   f"{' / '.join(map(str, late))} stages before (axes of {by(spacing)} mm). With 3 throughout, distant "
                   "slices would be mixed too early.")
    other = "Other options of it, or another --arch, would change"
    return {
        "topology.strides": _strides_reason(found),
        "topology.kernels": kernels,
        "topology.features": f"The architecture's: {features[0]} at the finest stage, {features[-1]} at the coarsest. "
                             f"{other} them.",
        **{f"topology.{name}": f"The architecture's. {other} it." for name in LEFT_TO_THE_ARCHITECTURE},
    }


def _strides_reason(found: Pooling) -> str:
    times = " / ".join(str(divisor.bit_length() - 1) for divisor in found.divisors)
    coarsest = [length // divisor for length, divisor in zip(found.patch, found.divisors, strict=True)]
    why = (f"no axis of the coarsest map ({by(coarsest)}) has {SMALLEST_MAP} voxels any more"
           if max(coarsest) < SMALLEST_MAP else
           f"one axis of the coarsest map ({by(coarsest)}) could be halved alone, but has under {SMALLEST_SOLE_MAP}")
    further = by([math.ceil(length / 2) for length in coarsest])
    return (f"The axes are halved {times} times, the finest first, a coarser one once its spacing is less than twice "
            f"the finest, until {why}. Halved once more it would be {further}.")
