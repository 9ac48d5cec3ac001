"""UNet++. A node X(i, j) lies at depth i (0 the finest) in column j (0 the encoder); `columns[j][i]` holds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from seg import BlockStyle, Topology, UpBlock, encoder_stage, initialise, output_head


class UNetPlusPlusNetwork(nn.Module):
    """The nodes of a nested U-Net, column by column, and heads on X(0, j), deepest first."""

    def __init__(self, columns: Iterable[nn.ModuleList], heads: Iterable[nn.Module], *, deep_supervision: bool) -> None:
        super().__init__()
        self.columns = nn.ModuleList(columns)
        self.heads = nn.ModuleList(heads)
        self.deep_supervision = deep_supervision

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of the heads, deepest first, of float images (B, C, *patch); the deepest alone outside training.

        X(i, j) sees all that lies before it at its depth, X(i, 0) … X(i, j−1), and X(i+1, j−1) upsampled.
        """
        row: list[list[Tensor]] = []  # for each depth, what is there so far
        for stage in self._column(0):
            x = stage(x)
            row.append([x])
        for column in range(1, len(self.columns)):
            below = [maps[-1] for maps in row]
            for depth, node in enumerate(self._column(column)):
                row[depth].append(node(below[depth + 1], row[depth]))
        finest = reversed(row[0])
        if self.training and self.deep_supervision:
            return [head(features) for head, features in zip(self.heads, finest, strict=False)]
        return [self.heads[0](next(finest))]

    def pruned(self, depth: int) -> UNetPlusPlusNetwork:
        """The network that ends at X(0, depth), with the same weights (shared, not copied): the nodes i + j ≤ depth.

        The heads of smaller depths stay (a convolution of one voxel each), so that it can be pruned further.

        Raises:
            ValueError: there is no such depth.
        """
        if not 1 <= depth < len(self.columns):
            raise ValueError(f"depth must be 1 to {len(self.columns) - 1}, got {depth}")
        columns = (self._column(column)[: depth + 1 - column] for column in range(depth + 1))
        smaller = UNetPlusPlusNetwork(columns, self.heads[-depth:], deep_supervision=False)
        return smaller.train(self.training)

    def _column(self, column: int) -> nn.ModuleList:
        return cast("nn.ModuleList", self.columns[column])


def build_network(topology: Topology, norm: str, activation: str) -> UNetPlusPlusNetwork:
    """A fresh network for any number of depths from two on; one head for each column beyond the encoder."""
    style = BlockStyle(norm=norm, activation=activation)
    encoder = nn.ModuleList(encoder_stage(topology, depth, style) for depth in range(topology.stages))
    nested = (
        nn.ModuleList(UpBlock(topology, depth, style, skips=column) for depth in range(topology.stages - column))
        for column in range(1, topology.stages)
    )
    heads = (output_head(topology, 0) for _ in range(1, topology.stages))
    network = UNetPlusPlusNetwork([encoder, *nested], heads, deep_supervision=topology.deep_supervision)
    initialise(network, style.slope)
    return network
