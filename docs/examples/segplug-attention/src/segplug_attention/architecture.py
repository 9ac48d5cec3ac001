"""Attention as a component: its options and its size. The network itself is in `network`, which imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from seg import Topology, doubling_features, halving_weights, option, stage_voxels

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class Attention:
    """A U-Net: an encoder, a decoder whose skips pass attention gates, and an output at every level."""

    features: int = option(24, "features of the finest stage, doubled at each coarser one", ge=1)
    max_features: int = option(0, "the most features of a stage; 0: 512 in 2-D, 320 in 3-D", ge=0)
    convolutions: int = option(2, "convolutions of each stage", ge=1)

    def topology(
        self, kernels: Sequence[Sequence[int]], strides: Sequence[Sequence[int]], in_channels: int, outputs: int
    ) -> Topology:
        """The topology for these kernels and strides, one a stage, finest first."""
        return Topology(
            in_channels=in_channels,
            outputs=outputs,
            features=doubling_features(self.features, self.max_features, kernels),
            kernels=tuple(map(tuple, kernels)),
            strides=tuple(map(tuple, strides)),
            blocks=(self.convolutions,) * len(kernels),
            decoder_blocks=(self.convolutions,) * (len(kernels) - 1),
        )

    def feature_map_size(self, topology: Topology, patch: Sequence[int], classes: int) -> int:
        """Values that the convolutions give for one sample of size `patch`; the planner fits patches by it.

        A gate gives, at each level above the bottleneck, the skip, its weighed copy and the score at the size of the
        level, and the signal at the size of the next one.
        """
        voxels = stage_voxels(topology, patch)
        maps = [features * size for features, size in zip(topology.features, voxels, strict=True)]
        encoder = sum(count * size for count, size in zip(topology.blocks, maps, strict=True))
        decoder = sum((count + 1) * size for count, size in zip(topology.decoder_blocks, maps[:-1], strict=True))
        finer = zip(topology.features[:-1], voxels[:-1], voxels[1:], strict=True)
        gates = sum((2 * features + 1) * size + features * coarser for features, size, coarser in finer)
        return encoder + decoder + gates + classes * voxels[0]

    def loss_weights(self, topology: Topology) -> tuple[float, ...]:
        """1, ½, ¼, …, the last 0, scaled to sum 1."""
        return halving_weights(topology)

    def build(self, topology: Topology) -> torch.nn.Module:
        """A module from float (B, C, *patch) to logits of each level, finest first."""
        from segplug_attention.network import Network

        return Network(topology)
