"""UNet++ as a component: its options, its size; the network itself is in `_network`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Topology, doubling_features, option, stage_voxels

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class UNetPlusPlus:
    """Nested U-Net with dense skips (Zhou et al. 2018), at whatever depth, strides and kernels the planner finds.

    Its nodes beyond the plain U-Net cost memory and time, both of which a planner sees in `feature_map_size`: at
    equal memory the patch gets smaller, or `features` may be halved.
    """

    features: int = option(32, "features of the finest depth, doubled at each coarser one", ge=1)
    max_features: int = option(0, "the most features of a depth; 0: 512 in 2-D, 320 in 3-D", ge=0)
    convolutions: int = option(2, "convolutions of each node", ge=1)
    norm: str = option("instance", "normalisation after each convolution", choices=("instance", "batch"))
    activation: str = option("leaky_relu", "activation after each norm", choices=("leaky_relu", "relu"))
    deep_supervision: bool = option(default=True, help="train the outputs of all levels; else none is pruned")

    def topology(
        self,
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        in_channels: int,
        outputs: int,
    ) -> Topology:
        """The topology for these kernels and strides, one a depth, finest first.

        Raises:
            SegError: there are fewer than two depths.
        """
        return Topology(
            in_channels=in_channels,
            outputs=outputs,
            features=doubling_features(self.features, self.max_features, kernels),
            kernels=tuple(map(tuple, kernels)),
            strides=tuple(map(tuple, strides)),
            blocks=(self.convolutions,) * len(kernels),
            decoder_blocks=(self.convolutions,) * (len(kernels) - 1),
            deep_supervision=self.deep_supervision,
        )

    def feature_map_size(self, topology: Topology, patch: Sequence[int], classes: int) -> int:
        """Values that the convolutions of all nodes give for one sample of size `patch`, counted as for the U-Net.

        The depth i of a network of depth L has L − i nodes beyond its encoder stage, each with one transposed
        convolution; there are L heads at full resolution with `classes` maps each.
        """
        depth = topology.stages - 1
        voxels = stage_voxels(topology, patch)
        maps = [features * size for features, size in zip(topology.features, voxels, strict=True)]
        encoder = sum(count * size for count, size in zip(topology.blocks, maps, strict=True))
        nodes = sum(
            (depth - level) * (count + 1) * maps[level] for level, count in enumerate(topology.decoder_blocks)
        )
        return encoder + nodes + len(self.loss_weights(topology)) * classes * voxels[0]

    def loss_weights(self, topology: Topology) -> tuple[float, ...]:
        """Equal weights: all heads are at full resolution."""
        heads = topology.stages - 1 if topology.deep_supervision else 1
        return (1 / heads,) * heads

    def build(self, topology: Topology) -> torch.nn.Module:
        """A module from float (B, C, *patch) to logits (B, K, *patch), deepest head first, in `eval()` it alone."""
        from seg_unetpp._network import build_network

        return build_network(topology, self.norm, self.activation)

    def levels(self, topology: Topology) -> tuple[str, ...]:
        """L1 to the whole: Ld ends at X(0, d) (Zhou et al. 2018). Without deep supervision only the last is trained."""
        names = tuple(f"L{depth}" for depth in range(1, topology.stages))
        return names if topology.deep_supervision else names[-1:]

    def prune(self, network: torch.nn.Module, level: str) -> torch.nn.Module:
        """The part of `network` that ends at X(0, d), for the level Ld; weights are shared.

        Raises:
            ValueError: there is no such level in it.
        """
        from seg_unetpp._network import UNetPlusPlusNetwork

        if not isinstance(network, UNetPlusPlusNetwork):
            raise TypeError(f"{type(network).__name__} is no UNet++")
        return network.pruned(int(level.removeprefix("L")))
