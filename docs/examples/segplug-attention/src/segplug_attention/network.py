"""A U-Net whose skips are weighed by attention gates (Oktay et al. 2018)."""

from __future__ import annotations

from seg import BlockStyle, Topology, UpBlock, encoder_stage, initialise, output_head
from torch import Tensor, nn
from torch.nn import functional as F


class Gate(nn.Module):
    """Weighs a skip, voxel by voxel, by what the coarser map says."""

    def __init__(self, topology: Topology, level: int) -> None:
        super().__init__()
        convolution = nn.Conv3d if topology.dims == 3 else nn.Conv2d
        features, coarser = topology.features[level : level + 2]
        self.skip = convolution(features, features, 1)
        self.signal = convolution(coarser, features, 1)
        self.score = convolution(features, 1, 1)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Float (B, features, *size) and (B, coarser features, *size / stride) to (B, features, *size)."""
        signal = F.interpolate(self.signal(coarse), size=skip.shape[2:])
        return skip * self.score(F.leaky_relu(self.skip(skip) + signal)).sigmoid()


class Network(nn.Module):
    """Encoder stages; one gate, one decoder node and one head for each level above the bottleneck."""

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        style, levels = BlockStyle(), range(topology.stages - 1)
        self.deep_supervision = topology.deep_supervision
        self.encoder = nn.ModuleList(encoder_stage(topology, level, style) for level in range(topology.stages))
        self.gates = nn.ModuleList(Gate(topology, level) for level in levels)
        self.decoder = nn.ModuleList(UpBlock(topology, level, style) for level in levels)
        self.heads = nn.ModuleList(output_head(topology, level) for level in levels)
        initialise(self, style.slope)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of each level, finest first, of float images (B, C, *patch); the finest alone outside training."""
        skips = [x := stage(x) for stage in self.encoder][:-1]
        outputs: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](x, [self.gates[level](skips[level], x)])
            if level == 0 or (self.training and self.deep_supervision):
                outputs.insert(0, self.heads[level](x))
        return outputs
