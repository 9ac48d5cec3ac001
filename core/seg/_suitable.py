"""Whether a model can predict an image at all, told before any memory is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from seg.device import free_memory
from seg.errors import Record, SegError
from seg.models import Configuration, Plan, Spacing3
from seg.resampling import resampled_shape

FLAT = 100  # a slice this many times as thick as its pixels is a 2-D image (it is given 999)


def refuse_unsuitable(
    shape: Sequence[int], spacing: Spacing3, plan: Plan, configuration: Configuration, device: torch.device,
) -> None:  # fmt: skip
    """Refuse an image (C, Z, Y, X) of `spacing` (z, y, x) in mm that `configuration` cannot predict.

    Raises:
        SegError: other channels or a 2-D image for a 3-D network (D15); a spacing that makes it larger than the free
            memory, which is a wrong unit in its header more often than a lack of memory (D16).
    """
    channels = len(plan.description.channel_names)
    if shape[0] != channels:
        raise SegError(Record(code="SEG-D15", found=f"{shape[0]} channels", expected=f"{channels}"))
    if configuration.dims == 3 and shape[1] == 1 and spacing[0] > FLAT * max(spacing[1:]):
        raise SegError(Record(code="SEG-D15", found="a 2-D image", expected="a volume, as the model was trained on"))
    forward = plan.transpose_forward
    own = [spacing[axis] for axis in forward]
    wanted = configuration.spacing if configuration.dims == 3 else (own[0], *configuration.spacing[1:])
    size = resampled_shape([shape[1 + axis] for axis in forward], own, wanted)
    need = 4 * math.prod(size) * (channels + 2)  # the image, and one map with what is made of it; see `seg.room`
    if need > free_memory(device):
        usual = ", ".join(f"{plan.original_median_spacing[axis]:.3g}" for axis in plan.transpose_backward)
        raise SegError(Record(
            code="SEG-D16", found=f"spacing ({', '.join(f'{value:.3g}' for value in spacing)}) mm (z, y, x): at the "
            f"model's own it has {'×'.join(map(str, size))} voxels, {need / 1e9:.1f} GB in memory",
            expected=f"about ({usual}) mm, as in training", advice="Is the unit in the header right?"))
