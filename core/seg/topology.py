"""What encoder-decoders have in common before any tensor exists: sizes, features, loss weights. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from seg.errors import Record, SegError
from seg.models import Topology


def doubling_features(base: int, cap: int, kernels: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Features of each stage: `base`, doubled at each further stage up to `cap`, 0 for nnU-Net's 512 (2-D), 320 (3-D).

    Raises:
        SegError: there is one stage only, so nothing to encode or decode.
    """
    if len(kernels) < 2:
        raise SegError(Record(
            code="SEG-D60", found="a patch of fewer than 8 voxels along every axis that could be halved",
            expected="an axis of at least 8 voxels", advice="Check sizes and spacings of the images.",
        ))
    most = cap or (512 if len(kernels[0]) == 2 else 320)
    return tuple(min(most, base * 2**stage) for stage in range(len(kernels)))


def stage_voxels(topology: Topology, patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels of one feature map in each stage, finest first, for one patch (its axes in voxels)."""
    voxels, size = [], tuple(patch)
    for stride in topology.strides:
        size = tuple(length // step for length, step in zip(size, stride, strict=True))
        voxels.append(prod(size))
    return tuple(voxels)


def halving_weights(topology: Topology) -> tuple[float, ...]:
    """Loss weights 1, ½, ¼, … of the decoder's outputs, finest first, the last 0, scaled to sum 1 (nnU-Net 2.8)."""
    outputs = topology.stages - 1
    if not topology.deep_supervision or outputs == 1:
        return (1.0,)
    weights = [0.5**level for level in range(outputs - 1)]
    return (*(weight / sum(weights) for weight in weights), 0.0)
