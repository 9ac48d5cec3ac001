"""TorchIO as a component: batches out of cases and positions. C channels; TorchIO is imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from seg import Batch, CaseArrays, Configuration, Position, option

if TYPE_CHECKING:
    import numpy as np
    import torch


@frozen(kw_only=True)
class TorchIO:
    """TorchIO's random transforms, sample by sample (Pérez-García et al. 2021). Each `p` is a probability.

    They run on the CPU, so the batch travels to the device.
    """

    p_affine: float = option(0.3, "rotate, scale and move", ge=0.0, le=1.0)
    degrees: float = option(20.0, "the largest rotation; in the plane alone for 2-D configurations", ge=0.0, le=180.0)
    scale: float = option(0.2, "the largest relative change of size", ge=0.0, le=0.5)
    p_flip: float = option(0.5, "mirror along each of the configuration's axes that may be", ge=0.0, le=1.0)
    p_noise: float = option(0.15, "Gaussian noise", ge=0.0, le=1.0)
    p_blur: float = option(0.1, "Gaussian blur", ge=0.0, le=1.0)
    p_gamma: float = option(0.3, "darker or brighter by a power", ge=0.0, le=1.0)
    p_bias: float = option(0.0, "the bias field of MR coils", ge=0.0, le=1.0)
    surroundings: float = option(0.2, "read beyond the patch, as a part of it, so that turned patches are whole",
                                 ge=0.0, le=1.0)

    def margin(self, configuration: Configuration) -> tuple[int, int, int]:
        """A part of the patch along each axis, but no further slices in two dimensions."""
        z, y, x = (round(self.surroundings * size) for size in configuration.patch3)
        return (0 if configuration.dims == 2 else z), y, x

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
        from seg import previous_channels

        transform = self._transform(configuration)
        with torch.random.fork_rng(devices=[]):  # TorchIO draws from torch's global generator
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            samples = [self._sample(cases[one.case], one, configuration, transform) for one in positions]
        image, label, *before = (torch.stack(maps).to(device) for maps in zip(*samples, strict=True))
        if before:
            further = configuration.topology.in_channels - image.shape[1]
            image = torch.cat([image, previous_channels(before[0], further)], 1)
        count, patch = len(positions), configuration.patch
        return Batch(image=image.view(count, -1, *patch), label=label.long().view(count, *patch))

    def _transform(self, configuration: Configuration) -> Any:
        import torchio as tio

        flat = configuration.dims == 2
        small, large = 1 - self.scale, 1 + self.scale
        scales = (1, 1, small, large, small, large) if flat else (small, large) * 3
        degrees = (self.degrees, 0, 0) if flat else (self.degrees,) * 3
        axes = tuple(axis + flat for axis in configuration.mirror_axes)
        return tio.Compose([
            tio.RandomAffine(scales=scales, degrees=degrees, default_pad_value="minimum", p=self.p_affine),
            *(tio.RandomFlip(axes=(axis,), flip_probability=self.p_flip) for axis in axes),
            tio.RandomBlur(std=(0, 1), p=self.p_blur),
            tio.RandomBiasField(coefficients=0.3, p=self.p_bias),
            tio.RandomGamma(log_gamma=0.3, p=self.p_gamma),
            tio.RandomNoise(std=(0, 0.1), p=self.p_noise),
        ])

    def _sample(
        self, case: CaseArrays, position: Position, configuration: Configuration, transform: Any
    ) -> list[torch.Tensor]:
        """Image float32 (C, Z, Y, X), label (Z, Y, X), and the previous stage's prediction where there is one."""
        import torch
        import torchio as tio
        from seg import cut_patch, cut_previous

        margin, size = self.margin(configuration), configuration.patch3
        before = [extra // 2 for extra in margin]
        start = [first - extra for first, extra in zip(position.start, before, strict=True)]
        wide = [length + extra for length, extra in zip(size, margin, strict=True)]
        image, label = cut_patch(case, start, wide)
        spacing = (1.0, *configuration.spacing[1:]) if configuration.dims == 2 else configuration.spacing
        grid = torch.diag(torch.tensor([*spacing, 1.0]))
        maps = {"image": tio.ScalarImage(tensor=image.cpu(), affine=grid),
                "label": tio.LabelMap(tensor=label.cpu().clamp(min=0).unsqueeze(0), affine=grid)}
        if configuration.previous_stage:
            previous = cut_previous(case, start, wide).cpu().unsqueeze(0)
            maps["previous"] = tio.LabelMap(tensor=previous, affine=grid)
        done = transform(tio.Subject(**maps))
        inner = (..., *(slice(first, first + length) for first, length in zip(before, size, strict=True)))
        return [done["image"].data[inner].float(), *(done[name].data[0][inner] for name in list(maps)[1:])]
