"""What convolutional encoder-decoders are made of, in two and three dimensions.

Axes: B batch, C channels, then two or three spatial axes. A block takes what it needs from a `Topology` and a level,
0 being the finest, so that a network is little more than the order in which it calls its blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from seg.fused_norm import fits, normalised, trouble
from seg.models import Topology

LEAK = 0.01  # slope of LeakyReLU for negative values, nnU-Net's
EPSILON = 1e-5  # added to variances

_CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


class InstanceNorm(nn.Module):
    """Normalises each map of each sample by its own mean and variance, with a learnt scale and shift.

    Torch's own copies what lies channels last, forth and back. On a CPU each sample is given to the batch norm
    instead, which for one sample is the same, and leaves the layout as it is; on CUDA `seg.fused_norm` does so.
    """

    def __init__(self, features: int, eps: float = EPSILON) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, C, *size) to the same."""
        if fits(x):
            return normalised(x, self.weight, self.bias, self.eps, 1.0)
        if x.device.type != "cpu" or x.is_contiguous():
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        samples = [F.batch_norm(one, None, None, self.weight, self.bias, training=True, eps=self.eps)
                   for one in torch.split(x, 1)]
        return torch.cat(samples) if len(samples) > 1 else samples[0]


@frozen(kw_only=True)
class BlockStyle:
    """What is the same in every block of a network: "instance" or "batch" norm, "leaky_relu" or "relu"."""

    norm: str = "instance"
    activation: str = "leaky_relu"

    @property
    def slope(self) -> float:
        """Slope of the activation for negative values."""
        return LEAK if self.activation == "leaky_relu" else 0.0

    def make_norm(self, dims: int, features: int) -> nn.Module:
        """A normalisation with learnt scale and shift."""
        return InstanceNorm(features) if self.norm == "instance" else _BATCH_NORMS[dims](features, eps=EPSILON)

    def make_activation(self) -> nn.Module:
        """The activation, in place: nobody needs what comes before it."""
        return nn.LeakyReLU(self.slope, inplace=True) if self.slope else nn.ReLU(inplace=True)


class ConvBlock(nn.Module):
    """Convolution, norm, activation.

    The padding keeps the size where the stride is 1. Without `active` the activation is left to the caller.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        style: BlockStyle,
        *,
        bias: bool = True,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = convolution(channels, kernel, stride, bias=bias)
        self.norm = style.make_norm(len(kernel), channels[1])
        self.activation = style.make_activation() if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, C, *size) to (B, features, *size / stride)."""
        mapped = self.conv(x)
        if fits(mapped) and isinstance(self.norm, InstanceNorm) and (slope := _slope(self.activation)) is not None:
            return normalised(mapped, self.norm.weight, self.norm.bias, self.norm.eps, slope)
        return cast("Tensor", self.activation(self.norm(mapped)))


class UpBlock(nn.Module):
    """One decoder node: the coarser map upsampled, concatenated with what the level already has, then convolved.

    The upsampling is a transposed convolution whose kernel is its stride, as in nnU-Net. `skips` counts the maps of
    this level that are concatenated.
    """

    def __init__(self, topology: Topology, level: int, style: BlockStyle, skips: int = 1) -> None:
        super().__init__()
        features, kernel = topology.features[level], topology.kernels[level]
        stride = topology.strides[level + 1]
        self.up = _TRANSPOSED[topology.dims](topology.features[level + 1], features, stride, stride)  # type: ignore[arg-type]
        self.convolutions = _stack(
            (features * (skips + 1), features), kernel, (1,) * topology.dims, topology.decoder_blocks[level], style
        )

    def forward(self, coarse: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Float (B, coarser features, *size / stride) and skips (B, features, *size) to (B, features, *size)."""
        return cast("Tensor", self.convolutions(torch.cat((self.up(coarse), *skips), dim=1)))


def convolution(
    channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], *, bias: bool = True
) -> nn.Conv2d | nn.Conv3d:
    """A convolution from `channels[0]` to `channels[1]`, padded by (kernel − 1) / 2 along each axis."""
    padding = tuple((width - 1) // 2 for width in kernel)
    return _CONVOLUTIONS[len(kernel)](*channels, tuple(kernel), tuple(stride), padding, bias=bias)  # type: ignore[arg-type]


def encoder_stage(topology: Topology, level: int, style: BlockStyle) -> nn.Sequential:
    """The plain convolutions of an encoder stage; the first one carries the stage's stride."""
    before = topology.features[level - 1] if level else topology.in_channels
    channels = before, topology.features[level]
    return _stack(channels, topology.kernels[level], topology.strides[level], topology.blocks[level], style)


def output_head(topology: Topology, level: int) -> nn.Module:
    """A convolution of one voxel from the features of a level to the logits."""
    one = (1,) * topology.dims
    return convolution((topology.features[level], topology.outputs), one, one)


def initialise(network: nn.Module, slope: float = LEAK) -> None:
    """Give all convolutions Kaiming-normal weights (He et al. 2015) for activations of `slope`, and biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def channels_last(network: nn.Module) -> nn.Module:
    """`network` itself, its convolutions' weights laid out with channels last, which makes their outputs so too.

    On a CPU in single precision this takes a third less time in training in 3-D, and half in prediction; training in
    2-D takes longer. On CUDA see `norms_fused`. Values stay the same up to rounding; whoever stores such weights makes
    them contiguous first.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d | nn.ConvTranspose3d):
            layout = torch.channels_last if module.weight.dim() == 4 else torch.channels_last_3d
            weight = module.weight.data
            if weight.is_cuda:  # one input channel, or one voxel, lies both ways: strides tell cuDNN which is meant
                module.weight.data = torch.empty_like(weight, memory_format=layout).copy_(weight)
            else:
                module.weight.data = weight.contiguous(memory_format=layout)
    return network


def norms_fused(network: nn.Module, device: torch.device) -> bool:
    """Whether `network` gains from `channels_last` on a CUDA device: its instance norms leave channels where they lie.

    Those of torch copy each map forth and back, which takes more than the convolutions gain (pytorch 59168).
    """
    return _has_norms(network, device) and not trouble(device)


def norms_not_fused(network: nn.Module, device: torch.device) -> str:
    """A line on why a CUDA device computes the instance norms of `network` the slower way; empty where it does not."""
    why = trouble(device) if _has_norms(network, device) else ""
    return f"instance norms by torch, channels first: our kernels are not used, {why}" if why else ""


def _has_norms(network: nn.Module, device: torch.device) -> bool:
    """Whether it has instance norms on CUDA, all of which are ours: those of torch copy, as its group norm does."""
    modules = list(network.modules()) if device.type == "cuda" else []
    copying = any(isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d | nn.GroupNorm) for module in modules)
    return not copying and any(isinstance(module, InstanceNorm) for module in modules)


def _slope(activation: nn.Module) -> float | None:
    """The slope of an activation for negative values, 1 for none; None: it is of another kind."""
    if isinstance(activation, nn.LeakyReLU):
        return activation.negative_slope
    return {nn.ReLU: 0.0, nn.Identity: 1.0}.get(type(activation))


def _stack(
    channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], count: int, style: BlockStyle
) -> nn.Sequential:
    first = ConvBlock(channels, kernel, stride, style)
    one = (1,) * len(kernel)
    return nn.Sequential(first, *(ConvBlock((channels[1],) * 2, kernel, one, style) for _ in range(count - 1)))
