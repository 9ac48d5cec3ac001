"""Convolutions of oneDNN on a CPU in single precision, for images that come alone too.

Left to itself torch (2.13) takes them only for several images or large maps (ATen, Convolution.cpp, `use_mkldnn`). Its
other way is several times as slow, and unfolds each map into one column for each weight of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
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
        return func(*args, **(kwargs or {}))
