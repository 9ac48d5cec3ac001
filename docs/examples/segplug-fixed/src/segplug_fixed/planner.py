"""Fixed as a component: everything that training needs, from the fingerprint alone."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from statistics import median
from typing import ClassVar

from attrs import evolve, frozen
from seg import Architecture, Configuration, Description, Fingerprint, Plan, Topology, option

MIN_FEATURES = 8
COARSEST = 4  # an axis of fewer voxels is not halved again


@frozen(kw_only=True)
class Fixed:
    """The median spacing, the largest patch up to a limit, as many stages as it can be halved."""

    default_architecture: ClassVar[str] = "unet"

    longest_2d: int = option(256, "the longest axis of a patch in two dimensions", ge=16)
    longest_3d: int = option(64, "the longest axis of a patch in three dimensions", ge=16)
    batch: int = option(2, "samples of a batch", ge=1)

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan, with a reason for each value."""
        z, y, x = (median(sizes) for sizes in zip(*fingerprint.shapes, strict=True))
        spacing = tuple(median(sizes) for sizes in zip(*fingerprint.spacings, strict=True))
        shape = (float(z), float(y), float(x))
        flat = max(size for size, *_ in fingerprint.shapes) == 1
        configuration = self._configuration(shape, spacing, flat, description, architecture)
        return Plan(
            description=description, planner="", architecture="", transpose_forward=(0, 1, 2),
            original_median_spacing=(spacing[0], spacing[1], spacing[2]), original_median_shape=shape,
            intensities=fingerprint.intensities, configurations={configuration.name: configuration},
        )

    def _configuration(
        self, shape: tuple[float, ...], spacing: tuple[float, ...], flat: bool, description: Description,
        architecture: Architecture,
    ) -> Configuration:
        sizes = shape[1:] if flat else shape
        dims, longest = len(sizes), self.longest_2d if flat else self.longest_3d
        strides, patch = _stages([min(ceil(size), longest) for size in sizes])
        channels, labels = len(description.channel_names), description.labels
        topology = architecture.topology([(3,) * dims] * len(strides), strides, channels, labels.outputs)
        return Configuration(
            name="2d" if flat else "3d_fullres", spacing=(spacing[0], spacing[1], spacing[2]), median_shape=sizes,
            patch=patch, batch=self.batch, topology=topology, normalization=("zscore",) * channels,
            use_mask_for_norm=(False,) * channels, mirror_axes=tuple(range(dims)),
            reasons={"spacing": "the median of the cases",
                     "patch": f"the median shape, at most {longest} voxels along an axis, divisible by its strides",
                     "batch": "the option planner.batch"},
        )

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Half the batch, then narrower networks."""
        while configuration.batch > 1:
            configuration = evolve(configuration, batch=configuration.batch // 2)
            yield configuration, "half the batch"
        while min(configuration.topology.features) >= 2 * MIN_FEATURES:
            narrow = _narrow(configuration.topology)
            configuration = evolve(configuration, topology=narrow)
            yield configuration, "half the features"


def _narrow(topology: Topology) -> Topology:
    return evolve(topology, features=tuple(features // 2 for features in topology.features))


def _stages(patch: list[int]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """The strides, one a stage, and the patch made divisible by them. At least two stages, at most six."""
    strides: list[tuple[int, ...]] = [(1,) * len(patch)]
    sizes, factors = list(patch), [1] * len(patch)
    while len(strides) < 6 and (max(sizes) >= 2 * COARSEST or len(strides) < 2):
        stride = tuple(2 if size >= 2 * COARSEST or size == max(sizes) else 1 for size in sizes)
        sizes = [size // step for size, step in zip(sizes, stride, strict=True)]
        factors = [factor * step for factor, step in zip(factors, stride, strict=True)]
        strides.append(stride)
    return strides, tuple(ceil(size / factor) * factor for size, factor in zip(patch, factors, strict=True))
