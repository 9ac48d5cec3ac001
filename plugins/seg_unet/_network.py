"""The plain U-Net. Levels and their modules count from the finest (0) to the bottleneck."""

from __future__ import annotations

from torch import Tensor, nn

from seg import BlockStyle, Topology, UpBlock, encoder_stage, initialise, output_head


class UNetNetwork(nn.Module):
    """Encoder stages, one decoder node and one head for each level above the bottleneck.

    All heads are always there, so that weights fit with and without deep supervision.
    """

    def __init__(self, topology: Topology, norm: str, activation: str) -> None:
        super().__init__()
        style = BlockStyle(norm=norm, activation=activation)
        levels = range(topology.stages - 1)
        self.deep_supervision = topology.deep_supervision
        self.encoder = nn.ModuleList(encoder_stage(topology, level, style) for level in range(topology.stages))
        self.decoder = nn.ModuleList(UpBlock(topology, level, style) for level in levels)
        self.heads = nn.ModuleList(output_head(topology, level) for level in levels)
        initialise(self, style.slope)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of each level, finest first, of float images (B, C, *patch); the finest alone outside training."""
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
