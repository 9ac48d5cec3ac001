"""The fixed plan as a component: what the user says, and medians for what the user does not say. Axes are (z, y, x)."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod
from statistics import median
from typing import ClassVar

from attrs import evolve, frozen
from seg import Architecture, Configuration, Description, Fingerprint, Plan, Topology, option, usage_error

MIN_FEATURES = 8
LONGEST = {2: 256, 3: 64}  # voxels along an axis of a patch that nobody gave
Spacing = tuple[float, float, float]


@frozen(kw_only=True)
class Fixed:
    """One configuration of the spacing, patch and batch that are given.

    Two entries of `patch` make a 2-D configuration, three a 3-D one; a patch is made larger where the strides do not
    divide it.
    """

    default_architecture: ClassVar[str] = "unet"

    spacing: tuple[float, ...] = option((), "mm between voxels, z,y,x; nothing: the median of the cases")
    patch: tuple[int, ...] = option((), "voxels of a patch, z,y,x or y,x; nothing: the median shape, within limits")
    batch: int = option(2, "samples of a batch", ge=1)
    stages: int = option(0, "stages of the network; 0: until an axis has fewer than 8 voxels, six at most", ge=0, le=8)
    normalization: str = option("zscore", "the normaliser of all channels")

    def __attrs_post_init__(self) -> None:
        if len(self.spacing) not in {0, 3} or any(step <= 0 for step in self.spacing):
            raise ValueError(f"spacing {self.spacing}: expected three numbers above 0, z,y,x in mm")
        if len(self.patch) not in {0, 2, 3} or min(self.patch[-2:], default=4) < 4 or 0 in self.patch:
            raise ValueError(f"patch {self.patch}: expected two or three numbers of voxels, y and x at least 4")
        if self.stages == 1:
            raise ValueError("stages 1: expected 0, or at least 2")

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan of one configuration, with a reason for each value.

        Raises:
            SegError: a 3-D patch for images of one slice; stages that leave one voxel of a patch (exit 2).
        """
        z, y, x = (median(sizes) for sizes in zip(*fingerprint.spacings, strict=True))
        configuration = self._configuration(fingerprint, (z, y, x), description, architecture)
        a, b, c = (float(median(sizes)) for sizes in zip(*fingerprint.shapes, strict=True))
        return Plan(
            description=description, planner="", architecture="", transpose_forward=(0, 1, 2),
            original_median_spacing=(z, y, x), original_median_shape=(a, b, c), intensities=fingerprint.intensities,
            configurations={configuration.name: configuration},
        )

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Narrower networks: patch and batch are the user's word, and stay."""
        while min(configuration.topology.features) >= 2 * MIN_FEATURES:
            narrow = tuple(features // 2 for features in configuration.topology.features)
            configuration = evolve(configuration, topology=evolve(configuration.topology, features=narrow))
            yield configuration, "half the features"

    def _configuration(
        self, fingerprint: Fingerprint, median_spacing: Spacing, description: Description, architecture: Architecture
    ) -> Configuration:
        flat = all(shape[0] == 1 for shape in fingerprint.shapes)
        if flat and len(self.patch) == 3:
            raise usage_error(f"planner.patch {self.patch} for images of one slice", expected="two axes, y,x")
        dims = len(self.patch) or (2 if flat else 3)
        spacing = self._spacing(median_spacing, dims)
        shape = _resampled(fingerprint, spacing)[-dims:]
        wanted = self.patch or tuple(min(ceil(size), LONGEST[dims]) for size in shape)
        strides = _strides(wanted, self.stages)
        patch = _divisible(wanted, strides)
        if all(prod(stride[axis] for stride in strides) == size for axis, size in enumerate(patch)):
            raise usage_error(f"planner.stages {len(strides)}, which leave one voxel of a patch {patch}",
                              expected="at least two in the coarsest stage", advice="Take fewer, or a larger patch.")
        channels, labels = len(description.channel_names), description.labels
        topology = architecture.topology([(3,) * dims] * len(strides), strides, channels, labels.outputs)
        return Configuration(
            name="2d" if dims == 2 else "3d_fullres", spacing=spacing, median_shape=shape, patch=patch,
            batch=self.batch, topology=topology, normalization=(self.normalization,) * channels,
            use_mask_for_norm=(False,) * channels, mirror_axes=tuple(range(dims)),
            reasons=self._reasons(wanted, patch, topology),
        )

    def _spacing(self, median_spacing: Spacing, dims: int) -> Spacing:
        """The one that was given, but slices of a 2-D configuration stay where they are."""
        z, y, x = self.spacing or median_spacing
        return (median_spacing[0] if dims == 2 else z), y, x

    def _reasons(self, wanted: tuple[int, ...], patch: tuple[int, ...], topology: Topology) -> dict[str, str]:
        divisor = " × ".join(str(prod(stride[axis] for stride in topology.strides)) for axis in range(len(patch)))
        given = "the option planner.patch" if self.patch else f"the median shape, at most {LONGEST[len(patch)]} voxels"
        larger = f", {' × '.join(map(str, wanted))} made larger" if patch != wanted else ""
        return {
            "spacing": "the option planner.spacing" if self.spacing else "the median of the cases",
            "patch": f"{given}{larger}; the strides divide it by {divisor}",
            "batch": "the option planner.batch",
            "topology.strides": "the option planner.stages" if self.stages else
                                "an axis is halved while it has 8 voxels, in six stages at most",
        }


def _resampled(fingerprint: Fingerprint, spacing: Spacing) -> tuple[float, ...]:
    """The median shape at `spacing`."""
    sizes = [[size * old / new for size, old, new in zip(shape, steps, spacing, strict=True)]
             for shape, steps in zip(fingerprint.shapes, fingerprint.spacings, strict=True)]
    return tuple(float(median(axis)) for axis in zip(*sizes, strict=True))


def _strides(patch: tuple[int, ...], stages: int) -> list[tuple[int, ...]]:
    """One stride a stage, the first 1: axes of 8 voxels or more are halved, and so is the longest of a given number."""
    strides: list[tuple[int, ...]] = [(1,) * len(patch)]
    sizes = list(patch)
    while len(strides) < (stages or 6) and (stages or max(sizes) >= 8 or len(strides) < 2):
        stride = tuple(2 if size >= 8 or size == max(sizes) else 1 for size in sizes)
        sizes = [ceil(size / step) for size, step in zip(sizes, stride, strict=True)]
        strides.append(stride)
    return strides


def _divisible(patch: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The smallest patch, no smaller than `patch`, that the strides divide."""
    factors = [prod(stride[axis] for stride in strides) for axis in range(len(patch))]
    return tuple(ceil(size / factor) * factor for size, factor in zip(patch, factors, strict=True))
