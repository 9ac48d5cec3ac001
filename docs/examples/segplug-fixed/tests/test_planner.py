"""The fixed plan keeps the contract of its kind, and is what the user says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import pytest
import seg.testing
from seg import Configuration, Description, Fingerprint, Intensities, Labels, SegError, Topology, doubling_features
from segplug_fixed.planner import Fixed

SHAPES = {"3-D": ((30, 100, 90), (3.0, 1.0, 1.0)), "2-D": ((1, 100, 90), (999.0, 1.0, 1.0))}


class Net:
    """An architecture as a planner sees it."""

    def topology(
        self, kernels: Sequence[Sequence[int]], strides: Sequence[Sequence[int]], in_channels: int, outputs: int
    ) -> Topology:
        return Topology(in_channels=in_channels, outputs=outputs, features=doubling_features(8, 0, kernels),
                        kernels=tuple(map(tuple, kernels)), strides=tuple(map(tuple, strides)),
                        blocks=(1,) * len(kernels), decoder_blocks=(1,) * (len(kernels) - 1))


def planned(planner: Fixed, images: str = "3-D") -> Configuration:
    shape, spacing = SHAPES[images]
    channel = Intensities(mean=0, median=0, std=1, min=-3, max=3, percentile_00_5=-2, percentile_99_5=2)
    fingerprint = Fingerprint(cases=("a",), shapes=(shape,), spacings=(spacing,), relative_size_after_cropping=1.0,
                              intensities=(channel,))
    description = Description(name="d", channel_names=("CT",), labels=Labels(values={"background": 0, "organ": 1}),
                              training_cases=1)
    (configuration,) = planner.plan(fingerprint, description, Net()).configurations.values()  # type: ignore[arg-type]
    return configuration


@pytest.mark.parametrize(("images", "patch"), [("3-D", (16, 32, 32)), ("3-D", (64, 64)), ("2-D", (32, 64))])
def test_what_is_said_is_done(images: str, patch: tuple[int, ...]) -> None:
    found = planned(Fixed(spacing=(2.0, 1.5, 1.5), patch=patch, batch=7), images)
    assert (found.patch, found.batch, found.spacing[1:]) == (patch, 7, (1.5, 1.5))
    assert found.name == ("2d" if len(patch) == 2 else "3d_fullres")
    assert found.reasons["spacing"] == "the option planner.spacing"
    assert "planner.patch" in found.reasons["patch"]


def test_the_median_shape_is_that_at_the_new_spacing() -> None:
    assert planned(Fixed(spacing=(1.5, 2.0, 1.0))).median_shape == (60, 50, 90)


@pytest.mark.parametrize("stages", [0, 2])
@pytest.mark.parametrize("patch", [(17, 33, 50), (1, 30, 30), (5, 31), (4, 4, 4)])
def test_a_patch_grows_to_what_the_strides_divide(patch: tuple[int, ...], stages: int) -> None:
    found = planned(Fixed(patch=patch, stages=stages))
    for axis, (size, wanted) in enumerate(zip(found.patch, patch, strict=True)):
        factor = prod(stride[axis] for stride in found.topology.strides)
        assert size % factor == 0
        assert wanted <= size < wanted + factor
    assert ("made larger" in found.reasons["patch"]) == (found.patch != patch)
    assert stages in {0, found.topology.stages}


@pytest.mark.parametrize("wrong", [{"spacing": (1.0, 1.0)}, {"spacing": (1.0, 0.0, 1.0)}, {"patch": (8,)},
                                   {"patch": (0, 8, 8)}, {"stages": 1}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Fixed(**wrong)


def test_stages_that_leave_nothing_to_normalise_are_refused() -> None:
    assert planned(Fixed(patch=(16, 16), stages=4)).topology.stages == 4
    with pytest.raises(SegError, match="one voxel"):
        planned(Fixed(patch=(16, 16), stages=5))


def test_images_of_one_slice_have_no_patch_of_three_axes() -> None:
    with pytest.raises(SegError, match="one slice"):
        planned(Fixed(patch=(8, 32, 32)), "2-D")


@seg.testing.parametrize("planner", Fixed())
def test_medians_keep_the_contract(check: Callable[[], None]) -> None:
    check()


@seg.testing.parametrize("planner", Fixed(spacing=(1.0, 2.0, 2.0), patch=(50, 70), batch=1))
def test_given_values_keep_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_fixed")
