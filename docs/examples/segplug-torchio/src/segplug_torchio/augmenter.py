"""Torchio as a component: batches out of cases and positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from seg import Batch, CaseArrays, Configuration, Position, option

if TYPE_CHECKING:
    import numpy as np
    import torch


@frozen(kw_only=True)
class Torchio:
    """Plain patches, mirrored half of the time along each axis that may be, and brighter or darker."""

    mirror: bool = option(default=True, help="mirror along the configuration's axes")
    brightness: float = option(0.2, "the largest relative change of brightness", ge=0.0, le=1.0)

    def margin(self, configuration: Configuration) -> tuple[int, int, int]:
        """Nothing is read around a patch."""
        return 0, 0, 0

    def batch(
        self,
        cases: Sequence[CaseArrays],
        positions: Sequence[Position],
        configuration: Configuration,
        rng: np.random.Generator,
        device: torch.device,
    ) -> Batch:
        """The batch for `positions`: image float32 (B, C, *patch), label int64 (B, *patch)."""
        import torch
        from seg import cut_patch, cut_previous, previous_channels

        size, patch = configuration.patch3, configuration.patch
        cut = [cut_patch(cases[one.case], one.start, size) for one in positions]
        image = torch.stack([image for image, _ in cut]).to(device, torch.float32)
        label = torch.stack([label for _, label in cut]).to(device, torch.int64).clamp_(min=0)
        samples, channels = image.shape[:2]
        factors = torch.from_numpy(1 + self.brightness * rng.uniform(-1, 1, (samples, channels, 1, 1, 1)))
        image *= factors.to(device, torch.float32)
        if configuration.previous_stage:
            before = torch.stack([cut_previous(cases[one.case], one.start, size) for one in positions])
            further = configuration.topology.in_channels - channels
            image = torch.cat([image, previous_channels(before.to(device), further)], 1)
        image, label = image.view(samples, -1, *patch), label.view(samples, *patch)
        for axis in configuration.mirror_axes if self.mirror else ():
            chosen = torch.from_numpy(rng.random(samples) < 0.5).to(device)
            wide = chosen.view(-1, *[1] * len(patch))
            image = torch.where(wide.unsqueeze(1), image.flip(axis + 2), image)
            label = torch.where(wide, label.flip(axis + 1), label)
        return Batch(image=image, label=label)
