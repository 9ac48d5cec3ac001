"""nnU-Net's data augmentation on the device: parameters first, then only the work that they ask for.

Every random number of a batch is drawn before a voxel is read (`draw`); `apply` is a function of those numbers, so that
a batch can be made again, one by one or on another device. Ranges and probabilities are those of nnU-Net 2.8; its
"variance" of the noise is used as a standard deviation there, and so it is here. Unlike nnU-Net, a patch that is
neither rotated nor scaled is cut at its final size, and one that is reads the case where nnU-Net sees the end of its
enlarged patch.

B batch, C channels, D axes that are rotated (two or three).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import fields, frozen

from seg import Batch, CaseArrays, Configuration, Position, option

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from seg_nnunet._previous import Disturbance

Size3 = tuple[int, int, int]

ANISOTROPY_DUMMY_2D = 3  # a patch this much longer than its first axis is rotated within slices only
ANISOTROPY_ROTATION_2D = 1.5  # a 2-D patch this much longer than wide is hardly rotated
BRIGHTNESS = (0.75, 1.25)
GAMMA = (0.7, 1.5)
HISTORIC_ZOOM = 0.85  # by which nnU-Net enlarges patches; its zoom goes further today
MAX_NOISE_STD = 0.1
BLUR_SIGMA = (0.5, 1.0)
LOW_RESOLUTION = (0.5, 1.0)


@frozen(kw_only=True, eq=False)
class Draw:
    """The random parameters of one batch. What was not drawn has the value that changes nothing (0, 1, identity)."""

    matrix: NDArray[np.float64]  # (B, D, D), from offsets in the patch to offsets in the case
    noise_std: NDArray[np.float64]  # (B,)
    noise_seed: NDArray[np.int64]  # (B,)
    blur_sigma: NDArray[np.float64]  # (B, C, axes), voxels
    brightness: NDArray[np.float64]  # (B, C)
    contrast: NDArray[np.float64]  # (B, C)
    low_resolution: NDArray[np.float64]  # (B, C)
    gamma_inverted: NDArray[np.float64]  # (B, C)
    gamma: NDArray[np.float64]  # (B, C)
    mirror: NDArray[np.bool_]  # (B, axes)
    nearest_labels: bool = False
    disturbance: Disturbance | None = None  # of the previous stage's prediction, where there is one

    def sample(self, index: int) -> Draw:
        """The parameters of one entry of the batch, as a batch of one."""
        arrays = [one.name for one in fields(Draw) if one.name not in ("nearest_labels", "disturbance")]
        rows = {name: getattr(self, name)[index : index + 1] for name in arrays}
        return Draw(**rows, nearest_labels=self.nearest_labels,
                    disturbance=self.disturbance and self.disturbance.sample(index))


@frozen(kw_only=True)
class NnUNetAugmenter:
    """Rotation, scaling, noise, blur, brightness, contrast, low resolution, gamma and mirroring, in nnU-Net's order."""

    p_rotation: float = option(0.2, "probability of rotation, of a sample", ge=0.0, le=1.0)
    p_scaling: float = option(0.2, "probability of scaling, of a sample", ge=0.0, le=1.0)
    scaling_min: float = option(0.7, "smallest scale; below 1 enlarges what is seen", ge=0.1)
    scaling_max: float = option(1.4, "largest scale; above 1 shrinks what is seen", le=4.0)
    p_noise: float = option(0.1, "probability of Gaussian noise, of a sample", ge=0.0, le=1.0)
    p_blur: float = option(0.2, "probability of blur, of a sample; half of its channels", ge=0.0, le=1.0)
    p_brightness: float = option(0.15, "probability of a change of brightness, of a sample", ge=0.0, le=1.0)
    p_contrast: float = option(0.15, "probability of a change of contrast, of a sample", ge=0.0, le=1.0)
    p_low_resolution: float = option(0.25, "probability of low resolution, of a sample; half of its channels",
                                     ge=0.0, le=1.0)
    p_gamma_inverted: float = option(0.1, "probability of gamma on the negative image, of a sample", ge=0.0, le=1.0)
    p_gamma: float = option(0.3, "probability of gamma, of a sample", ge=0.0, le=1.0)
    p_previous_operation: float = option(0.4, "probability that masks of a previous stage grow or shrink, of a sample",
                                         ge=0.0, le=1.0)
    p_previous_removal: float = option(0.2, "probability that masks of a previous stage lose a component, of a sample",
                                       ge=0.0, le=1.0)
    within_slices: bool = option(default=True, help="rotate and scale very anisotropic patches within slices only")
    labels: str = option("linear", "which label a rotated or scaled voxel gets: the largest linear share, or the "
                         "nearest", choices=("linear", "nearest"))
    mirror: bool = option(default=True, help="mirror along the configuration's axes, each half of the time")

    def __attrs_post_init__(self) -> None:
        if self.scaling_min > self.scaling_max:
            raise ValueError(f"scaling_min {self.scaling_min} must not be above scaling_max {self.scaling_max}")

    def margin(self, configuration: Configuration) -> Size3:
        """How much larger a patch nnU-Net draws places for, so that a rotated one stays inside the case."""
        patch = configuration.patch
        enlarged = _enlarged(patch, _max_rotation(configuration, within=self._in_slices(configuration)))
        if configuration.dims == 3 and self._in_slices(configuration):
            enlarged = (patch[0], *enlarged[1:])
        z, y, x = (0,) * (3 - len(patch)) + tuple(big - size for big, size in zip(enlarged, patch, strict=True))
        return z, y, x

    def batch(
        self,
        cases: Sequence[CaseArrays],
        positions: Sequence[Position],
        configuration: Configuration,
        rng: np.random.Generator,
        device: torch.device,
    ) -> Batch:
        """The augmented batch for `positions` on `device`: image float32 (B, C, *patch), label int64 (B, *patch)."""
        channels = int(cases[positions[0].case].image.shape[0])
        drawn = self.draw(len(positions), channels, configuration, rng)
        return apply(drawn, cases, positions, configuration, device)

    def draw(self, samples: int, channels: int, configuration: Configuration, rng: np.random.Generator) -> Draw:
        """All parameters of a batch. How many numbers are taken from `rng` depends on the shapes alone."""
        dims = configuration.dims
        one, each = (samples, 1), (samples, channels)
        blurred = _gate(rng, self.p_blur, one) & _gate(rng, 0.5, each)
        coarse = _gate(rng, self.p_low_resolution, one) & _gate(rng, 0.5, each)
        axes = np.isin(np.arange(dims), configuration.mirror_axes) & self.mirror
        further = configuration.topology.in_channels - channels
        return Draw(
            matrix=self._matrices(samples, configuration, rng),
            noise_std=_gate(rng, self.p_noise, (samples,)) * rng.uniform(0, MAX_NOISE_STD, samples),
            noise_seed=rng.integers(2**62, size=samples),
            blur_sigma=blurred[..., None] * rng.uniform(*BLUR_SIGMA, (*each, dims)),
            brightness=_factors(rng, self.p_brightness, BRIGHTNESS, each),
            contrast=_factors(rng, self.p_contrast, BRIGHTNESS, each),
            low_resolution=np.where(coarse, rng.uniform(*LOW_RESOLUTION, each), 1.0),
            gamma_inverted=_factors(rng, self.p_gamma_inverted, GAMMA, each),
            gamma=_factors(rng, self.p_gamma, GAMMA, each),
            mirror=_gate(rng, 0.5, (samples, dims)) & axes,
            nearest_labels=self.labels == "nearest",
            disturbance=self._disturbance(samples, further, rng) if configuration.previous_stage else None,
        )

    def _in_slices(self, configuration: Configuration) -> bool:
        """Whether patches are rotated and scaled within slices: 2-D ones, and very anisotropic ones ("dummy 2-D")."""
        patch = configuration.patch
        return configuration.dims == 2 or (self.within_slices and max(patch) / patch[0] > ANISOTROPY_DUMMY_2D)

    def _disturbance(self, samples: int, labels: int, rng: np.random.Generator) -> Disturbance:
        from seg_nnunet._previous import draw_disturbance

        return draw_disturbance(samples, labels, self.p_previous_operation, self.p_previous_removal, rng)

    def _matrices(
        self, samples: int, configuration: Configuration, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """(B, D, D): rotation times scale, the identity where neither was drawn."""
        dims = 2 if self._in_slices(configuration) else 3
        planes = list(combinations(range(dims), 2))
        largest = _max_rotation(configuration, within=dims == 2)
        rotated = _gate(rng, self.p_rotation, (samples, 1))
        angles = rotated * rng.uniform(-largest, largest, (samples, len(planes)))
        scaled = _gate(rng, self.p_scaling, (samples,))
        scale = np.where(scaled, rng.uniform(self.scaling_min, self.scaling_max, samples), 1.0)
        matrix = np.tile(np.eye(dims), (samples, 1, 1))
        for (a, b), angle in zip(planes, angles.T, strict=True):
            turn = np.tile(np.eye(dims), (samples, 1, 1))
            turn[:, a, a] = turn[:, b, b] = np.cos(angle)
            turn[:, a, b], turn[:, b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        return matrix * scale[:, None, None]


def apply(
    drawn: Draw,
    cases: Sequence[CaseArrays],
    positions: Sequence[Position],
    configuration: Configuration,
    device: torch.device,
) -> Batch:
    """The batch that `drawn` makes of the patches at `positions`."""
    import torch

    from seg_nnunet import _intensity, _spatial

    image, *maps = _spatial.patches(cases, positions, configuration.patch, drawn.matrix, device,
                                    nearest=drawn.nearest_labels)
    label = maps[0]
    _intensity.noise(image, drawn.noise_std, drawn.noise_seed)
    _intensity.blur(image, drawn.blur_sigma)
    _intensity.brightness(image, drawn.brightness)
    _intensity.contrast(image, drawn.contrast)
    kept_axes = (0,) if drawn.matrix.shape[-1] < configuration.dims else ()  # transformed within slices
    _intensity.low_resolution(image, drawn.low_resolution, kept_axes)
    _intensity.gamma(image, drawn.gamma_inverted, inverted=True)
    _intensity.gamma(image, drawn.gamma)
    _spatial.mirror((image, *maps), drawn.mirror)
    masked = [channel for channel, use in enumerate(configuration.use_mask_for_norm) if use]
    for channel in masked:
        image[:, channel].masked_fill_(label < 0, 0)
    if drawn.disturbance is not None:
        image = torch.cat([image, _previous_channels(maps[1], drawn.disturbance)], 1)
    return Batch(image=image, label=label.clamp_(min=0).long())


def _previous_channels(previous: torch.Tensor, drawn: Disturbance) -> torch.Tensor:
    """The previous stage's labels (B, *patch) as disturbed channels (B, L, *patch)."""
    from seg import previous_channels
    from seg_nnunet._previous import disturb

    channels = previous_channels(previous, drawn.order.shape[1])
    disturb(channels, drawn)
    return channels


def _max_rotation(configuration: Configuration, *, within: bool) -> float:
    """The largest angle about each axis, in radians; `within` slices or not."""
    patch = configuration.patch
    if not within:
        return math.radians(30)
    if configuration.dims == 2 and max(patch) / min(patch) > ANISOTROPY_ROTATION_2D:
        return math.radians(15)
    return math.pi


def _enlarged(patch: Sequence[int], rotation: float) -> tuple[int, ...]:
    """The patch that nnU-Net cuts before rotating by up to `rotation` (radians)."""
    angle = min(rotation, math.pi / 2)
    cos, sin = math.cos(angle), math.sin(angle)
    if len(patch) == 2:
        x, y = patch
        grown: tuple[float, ...] = (max(x, abs(x * cos + y * sin)), max(y, abs(y * cos - x * sin)))
    else:
        x, y, z = patch
        grown = (
            max(x, abs(x * cos + y * sin), abs(x * cos - z * sin)),
            max(y, abs(y * cos + z * sin), abs(y * cos - x * sin)),
            max(z, abs(z * cos + x * sin), abs(z * cos - y * sin)),
        )
    return tuple(int(size / HISTORIC_ZOOM) for size in grown)


def _gate(rng: np.random.Generator, probability: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return rng.random(shape) < probability


def _factors(
    rng: np.random.Generator, probability: float, bounds: tuple[float, float], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """(B, C): where the sample was drawn, half of the time below 1 and half above, uniform in each; else 1."""
    low, high = bounds
    use = _gate(rng, probability, (shape[0], 1))
    factors: Any = np.where(_gate(rng, 0.5, shape), rng.uniform(low, 1, shape), rng.uniform(1, high, shape))
    return np.where(use, factors, 1.0)
