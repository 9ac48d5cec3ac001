"""The residual-encoder U-Net as a component: its options, its size; the network itself is in `_network`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from seg import Topology, doubling_features, halving_weights, option, rename_nnunet, stage_voxels

if TYPE_CHECKING:
    import torch

NNUNET_NAMES = {
    r"^encoder\.stem\.convs\.0\.": "stem.",
    r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.": r"encoder.\1.\2.first.",
    r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.": r"encoder.\1.\2.second.",
    r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.": r"encoder.\1.\2.skip.",
}
"""nnU-Net's names in the encoder, as regular expressions → ours."""


@frozen(kw_only=True)
class ResEncUNet:
    """U-Net whose encoder is a ResNet-D: the network of nnU-Net's ResEnc presets (Isensee et al. 2024)."""

    features: int = option(32, "features of the finest stage, doubled at each coarser one", ge=1)
    max_features: int = option(0, "the most features of a stage; 0: 512 in 2-D, 320 in 3-D", ge=0)
    blocks: tuple[int, ...] = option((1, 3, 4, 6), "residual blocks of each stage; the last for all deeper ones")
    convolutions: int = option(1, "convolutions of each decoder stage", ge=1)
    norm: str = option("instance", "normalisation after each convolution", choices=("instance", "batch"))
    activation: str = option("leaky_relu", "activation after each norm", choices=("leaky_relu", "relu"))
    deep_supervision: bool = option(default=True, help="train the coarser outputs too")

    @blocks.validator
    def _at_least_one(self, _attribute: Any, value: tuple[int, ...]) -> None:
        if min(value, default=0) < 1:
            raise ValueError(f"blocks must be one or more numbers of at least 1, got {value}")

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
        stages = len(kernels)
        return Topology(
            in_channels=in_channels,
            outputs=outputs,
            features=doubling_features(self.features, self.max_features, kernels),
            kernels=tuple(map(tuple, kernels)),
            strides=tuple(map(tuple, strides)),
            blocks=(*self.blocks, *(self.blocks[-1:] * stages))[:stages],
            decoder_blocks=(self.convolutions,) * (stages - 1),
            deep_supervision=self.deep_supervision,
        )

    def feature_map_size(self, topology: Topology, patch: Sequence[int], classes: int) -> int:
        """Values that the convolutions give for one sample of size `patch`, as nnU-Net 2.8 counts them.

        The stem; two maps for each block, one more where its first block changes stride or features; the decoder's
        convolutions and transposed ones; the finest head with `classes` maps.
        """
        voxels = stage_voxels(topology, patch)
        maps = [features * size for features, size in zip(topology.features, voxels, strict=True)]
        encoder = maps[0] + sum(2 * count * size for count, size in zip(topology.blocks, maps, strict=True))
        projections = sum(size for stage, size in enumerate(maps) if _changes(topology, stage))
        decoder = sum((count + 1) * size for count, size in zip(topology.decoder_blocks, maps[:-1], strict=True))
        return encoder + projections + decoder + classes * voxels[0]

    def loss_weights(self, topology: Topology) -> tuple[float, ...]:
        """1, ½, ¼, …, the last 0, scaled to sum 1."""
        return halving_weights(topology)

    def build(self, topology: Topology) -> torch.nn.Module:
        """A module from float (B, C, *patch) to logits of each level, finest first, in `eval()` the finest alone."""
        from seg_resenc._network import ResEncNetwork

        return ResEncNetwork(topology, self.norm, self.activation)

    def from_nnunet(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of nnU-Net's ResidualEncoderUNet under the names of this network."""
        return rename_nnunet(weights, NNUNET_NAMES)


def _changes(topology: Topology, stage: int) -> bool:
    """Whether the first block of a stage changes size or features; the stem stands before stage 0."""
    before = topology.features[max(stage - 1, 0)]
    return max(topology.strides[stage]) > 1 or topology.features[stage] != before
