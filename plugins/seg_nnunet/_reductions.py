"""Cheaper forms of a planned configuration, for a time budget that its network would not get enough steps in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from attrs import evolve

from seg import Configuration

BATCH = {2: 12, 3: 2}  # nnU-Net's reference batches; a step on more patches is not worth its time when steps are few
PATCH_VOXELS = {2: 256**2, 3: 64**3}  # a patch of more is halved before the network becomes too narrow
NARROW, NARROWEST = 16, 8  # features of the first stage
FEWEST_STAGES = 3

Step = Callable[[Configuration], tuple[Configuration, str] | None]


def reductions(configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
    """`configuration` made cheaper and cheaper.

    First the batch, then the features down to a width that still learns well, then the patch, one stage less each time
    it is halved, then the features again. A batch of one would save nothing:
    on a CPU its step takes longer than that of two.
    """
    for step in (_batch, _features(NARROW), _patch, _features(NARROWEST)):
        while cheaper := step(configuration):
            configuration, _ = cheaper
            yield cheaper


def _batch(configuration: Configuration) -> tuple[Configuration, str] | None:
    batch = BATCH[configuration.dims]
    if configuration.batch <= batch:
        return None
    reason = f"Batch {batch} instead of {configuration.batch}, so that more steps fit the time budget."
    return _changed(configuration, ("batch",), reason, batch=batch)


def _features(narrowest: int) -> Step:
    def step(configuration: Configuration) -> tuple[Configuration, str] | None:
        before = configuration.topology.features
        if before[0] // 2 < narrowest:
            return None
        after = tuple(features // 2 for features in before)
        reason = (f"{after[0]} to {after[-1]} features instead of {before[0]} to {before[-1]}, so that more steps fit "
                  "the time budget.")
        return _changed(configuration, ("topology", "topology.features"), reason,
                        topology=evolve(configuration.topology, features=after))

    return step


def _patch(configuration: Configuration) -> tuple[Configuration, str] | None:
    """Half the patch along the axes that the coarsest stage halves, and that stage is left out."""
    topology = configuration.topology
    if math.prod(configuration.patch) <= PATCH_VOXELS[configuration.dims] or topology.stages <= FEWEST_STAGES:
        return None
    patch = tuple(size // stride for size, stride in zip(configuration.patch, topology.strides[-1], strict=True))
    fewer = evolve(topology, features=topology.features[:-1], kernels=topology.kernels[:-1],
                   strides=topology.strides[:-1], blocks=topology.blocks[:-1],
                   decoder_blocks=topology.decoder_blocks[:-1])
    sizes = [" × ".join(map(str, size)) for size in (patch, configuration.patch)]
    reason = f"Patches of {sizes[0]} instead of {sizes[1]} voxels, so that more steps fit the time budget."
    fields = ("patch", "topology", "topology.strides", "topology.features")
    return _changed(configuration, fields, reason, patch=patch, topology=fewer)


def _changed(
    configuration: Configuration, fields: Sequence[str], reason: str, **changes: object
) -> tuple[Configuration, str]:
    reasons = {**configuration.reasons, **dict.fromkeys(fields, reason)}
    return evolve(configuration, reasons=reasons, **changes), reason  # type: ignore[arg-type]
