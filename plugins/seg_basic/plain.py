"""No augmentation: patches as they lie in the case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from seg import Batch, CaseArrays, Configuration, Position

if TYPE_CHECKING:
    import numpy as np
    import torch


@frozen(kw_only=True)
class NoAugmenter:
    """Cuts plain patches: for validation, and as a control in comparisons."""

    def margin(self, configuration: Configuration) -> tuple[int, int, int]:  # noqa: ARG002 - of the contract
        """Nothing is read around a patch."""
        return 0, 0, 0

    def batch(
        self,
        cases: Sequence[CaseArrays],
        positions: Sequence[Position],
        configuration: Configuration,
        rng: np.random.Generator,  # noqa: ARG002 - of the contract
        device: torch.device,
    ) -> Batch:
        """The patches at `positions`: image float32 (B, C, *patch), label int64 (B, *patch); 0 outside the case."""
        import torch

        from seg import cut_patch, cut_previous, previous_channels, to_device

        cut = [cut_patch(cases[one.case], one.start, configuration.patch3) for one in positions]
        image = to_device(torch.stack([image for image, _ in cut]), device)
        label = to_device(torch.stack([label for _, label in cut]), device).long().clamp_(min=0)
        if configuration.previous_stage:
            before = torch.stack([cut_previous(cases[one.case], one.start, configuration.patch3) for one in positions])
            further = configuration.topology.in_channels - image.shape[1]
            image = torch.cat([image, previous_channels(to_device(before, device), further)], 1)
        samples, channels = image.shape[:2]
        return Batch(
            image=image.view(samples, channels, *configuration.patch), label=label.view(samples, *configuration.patch)
        )
