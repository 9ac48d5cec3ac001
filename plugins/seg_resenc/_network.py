"""The residual-encoder U-Net. Levels and their modules count from the finest (0) to the bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from seg import BlockStyle, ConvBlock, Topology, UpBlock, initialise, output_head


class ResidualBlock(nn.Module):
    """Two convolutions and a skip around them; float (B, C, *size) → (B, features, *size / stride).

    Where size or features change the skip does so too, by average pooling and a convolution of one voxel (ResNet-D,
    He et al. 2019). The last norm starts at zero, so that a fresh block passes on its skip alone.
    """

    def __init__(
        self, channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], style: BlockStyle
    ) -> None:
        super().__init__()
        one = (1,) * len(kernel)
        self.first = ConvBlock(channels, kernel, stride, style)
        self.second = ConvBlock((channels[1],) * 2, kernel, one, style, active=False)
        self.skip = nn.Sequential()
        if max(stride) > 1:
            pool = nn.AvgPool2d if len(kernel) == 2 else nn.AvgPool3d
            self.skip.append(pool(tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if channels[0] != channels[1]:
            self.skip.append(ConvBlock(channels, one, one, style, bias=False, active=False))
        self.activation = style.make_activation()
        for parameter in self.second.norm.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.activation(self.second(self.first(x)) + self.skip(x)))


class ResEncNetwork(nn.Module):
    """A stem, residual encoder stages, one plain decoder node and one head for each level above the bottleneck.

    All heads are always there, so that weights fit with and without deep supervision.
    """

    def __init__(self, topology: Topology, norm: str, activation: str) -> None:
        super().__init__()
        style = BlockStyle(norm=norm, activation=activation)
        levels, one = range(topology.stages - 1), (1,) * topology.dims
        self.deep_supervision = topology.deep_supervision
        self.stem = ConvBlock((topology.in_channels, topology.features[0]), topology.kernels[0], one, style)
        self.encoder = nn.ModuleList(_stage(topology, level, style) for level in range(topology.stages))
        self.decoder = nn.ModuleList(UpBlock(topology, level, style) for level in levels)
        self.heads = nn.ModuleList(output_head(topology, level) for level in levels)
        initialise(self, style.slope)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of each level, finest first, of float images (B, C, *patch); the finest alone outside training."""
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        x = skips.pop()
        supervised = self.training and self.deep_supervision
        outputs: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](x, [skips.pop()])
            if supervised or level == 0:
                outputs.insert(0, self.heads[level](x))
        return outputs


def _stage(topology: Topology, level: int, style: BlockStyle) -> nn.Sequential:
    features, kernel = topology.features[level], topology.kernels[level]
    before = topology.features[max(level - 1, 0)]
    first = ResidualBlock((before, features), kernel, topology.strides[level], style)
    one = (1,) * topology.dims
    rest = (ResidualBlock((features, features), kernel, one, style) for _ in range(topology.blocks[level] - 1))
    return nn.Sequential(first, *rest)
