"""The plain U-Net as a component: its options, its size; the network itself is in `_network`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Topology, doubling_features, halving_weights, option, rename_nnunet, stage_voxels

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class UNet:
    """Encoder-decoder with skips (Ronneberger et al. 2015) in nnU-Net's form: strided convolutions, instance norm."""

    features: int = option(32, "features of the finest stage, doubled at each coarser one", ge=1)
    max_features: int = option(0, "the most features of a stage; 0: 512 in 2-D, 320 in 3-D", ge=0)
    convolutions: int = option(2, "convolutions of each stage", ge=1)
    norm: str = option("instance", "normalisation after each convolution", choices=("instance", "batch"))
    activation: str = option("leaky_relu", "activation after each norm", choices=("leaky_relu", "relu"))
    deep_supervision: bool = option(default=True, help="train the coarser outputs too")

    def topology(
        self,
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        in_channels: int,
        outputs: int,
    ) -> Topology:
        """The topology for these kernels and strides, one a stage, finest first.

        Raises:
            SegError: there are fewer than two stages.
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
        """Values that the convolutions give for one sample of size `patch`, as nnU-Net 2.8 counts them.

        One map for each convolution, one for each transposed one, and the finest head with `classes` maps.
        """
        voxels = stage_voxels(topology, patch)
        maps = [features * size for features, size in zip(topology.features, voxels, strict=True)]
        encoder = sum(count * size for count, size in zip(topology.blocks, maps, strict=True))
        decoder = sum((count + 1) * size for count, size in zip(topology.decoder_blocks, maps[:-1], strict=True))
        return encoder + decoder + classes * voxels[0]

    def loss_weights(self, topology: Topology) -> tuple[float, ...]:
        """1, ½, ¼, …, the last 0, scaled to sum 1."""
        return halving_weights(topology)

    def build(self, topology: Topology) -> torch.nn.Module:
        """A module from float (B, C, *patch) to logits of each level, finest first, in `eval()` the finest alone."""
        from seg_unet._network import UNetNetwork

        return UNetNetwork(topology, self.norm, self.activation)

    def from_nnunet(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of nnU-Net's PlainConvUNet under the names of this network."""
        return rename_nnunet(weights, {r"^encoder\.stages\.(\d+)\.0\.convs\.": r"encoder.\1."})
