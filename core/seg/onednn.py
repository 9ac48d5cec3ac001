"""Convolutions of oneDNN on a CPU in single precision, for images that come alone too.

Left to itself torch (2.13) takes them only for several images or large maps (ATen, Convolution.cpp, `use_mkldnn`). Its
other way is several times as slow, and unfolds each map into one column for each weight of the kernel. A transposed
convolution whose kernel is its stride is one product of matrices, and stays channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def direct_convolutions(device: torch.device, *, single: bool) -> AbstractContextManager[Any]:
    """Within it, 3-D convolutions are oneDNN's where the device is a CPU that has it, in `single` precision."""
    wanted = single and device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return _Direct() if wanted else nullcontext()


class _Direct(TorchFunctionMode):
    """Sees every function of torch that is called, whoever wrote the network."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv3d and not kwargs and len(args) == 7:  # as torch's own module calls it
            image, weight, bias, stride, padding, dilation, groups = args
            if image.dtype == weight.dtype == torch.float32 and image.dim() == 5 and not isinstance(padding, str):
                return torch.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)
        if func is torch.conv_transpose3d and not kwargs and len(args) == 8 and _is_spread(*args):
            return _spread(*args[:3])
        return func(*args, **(kwargs or {}))


def _is_spread(image: Tensor, weight: Tensor, _: Tensor | None, stride: Any, *rest: Any) -> bool:
    """Whether each voxel becomes a box of its own."""
    padding, output_padding, groups, dilation = rest
    plain = (tuple(padding), tuple(output_padding), groups, tuple(dilation)) == ((0,) * 3, (0,) * 3, 1, (1,) * 3)
    return plain and image.dim() == 5 and tuple(stride) == weight.shape[2:] and image.dtype == weight.dtype


def _spread(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Float (B, C, Z, Y, X) and (C, features, *kernel) to (B, features, *size × kernel), channels last."""
    batch, channels, *size = image.shape
    features, *kernel = weight.shape[1:]
    made = image.movedim(1, -1).reshape(-1, channels) @ weight.movedim(1, -1).reshape(channels, -1)
    if bias is not None:
        made.view(-1, features).add_(bias)
    boxes = made.view(batch, *size, *kernel, features).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return boxes.reshape(batch, *(n * k for n, k in zip(size, kernel, strict=True)), features).movedim(-1, 1)
