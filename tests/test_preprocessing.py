"""One case from image to patches' source: laws, and nnU-Net's own arrays where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.discovery import discover
from seg.models import Configuration, Description, Intensities, Labels, Plan, Topology
from seg.normalisation import Normalisers
from seg.preprocessing import ANNOTATED, Preparation, class_locations, prepare

PEER = Path(__file__).parents[1].parent / "shared" / "peer" / "preprocess"
SCHEMES = {"ZScoreNormalization": "zscore", "CTNormalization": "ct", "NoNormalization": "none"}


def how(plan, configuration):
    return Preparation(plan=plan, configuration=configuration,
                       normalisers=Normalisers.resolve([configuration], discover()))


def make_plan(labels=None, transpose=(0, 1, 2), intensities=(), **changes):
    patch = changes.pop("patch", (4, 4, 4))
    topology = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3,) * len(patch),),
                        strides=((1,) * len(patch),), blocks=(1,), decoder_blocks=())
    values = {"name": "some", "spacing": (1.0, 1.0, 1.0), "normalization": ("none",), "use_mask_for_norm": (False,)}
    configuration = Configuration(**(values | changes), median_shape=patch, patch=patch, batch=2, topology=topology,
                                  mirror_axes=())
    description = Description(name="d", channel_names=("a",), labels=labels or Labels(values={"background": 0, "a": 1}),
                              training_cases=4)
    plan = Plan(description=description, planner="p", architecture="unet", transpose_forward=transpose,
                original_median_spacing=(1.0, 1.0, 1.0), original_median_shape=(4.0, 4.0, 4.0),
                intensities=intensities, configurations={"some": configuration})
    return plan, configuration


def noise(*shape):
    return np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_the_same_spacing_only_transposes_and_crops(transpose):
    array = np.zeros((1, 8, 9, 10), np.float32)
    array[:, 1:5, 2:8, 3:6] = noise(1, 4, 6, 3)
    label = np.random.default_rng(1).integers(0, 2, (8, 9, 10))
    plan, configuration = make_plan(transpose=transpose)
    got = prepare(array, (1.0, 1.0, 1.0), how(plan, configuration), label, "c")
    box = (slice(1, 5), slice(2, 8), slice(3, 6))
    np.testing.assert_array_equal(got.image[0], array[0][box].transpose(transpose))
    np.testing.assert_array_equal(got.label, label[box].transpose(transpose))
    assert got.properties.shape == (8, 9, 10)
    assert got.properties.crop_start == tuple((1, 2, 3)[axis] for axis in transpose)
    assert got.properties.crop_stop == tuple((5, 8, 6)[axis] for axis in transpose)


def test_background_outside_the_mask_is_minus_1_and_foreground_stays():
    array = noise(1, 4, 4, 4)
    array[0, 0, 0] = 0  # open to the outside, so no hole
    label = np.zeros((4, 4, 4), int)
    label[0, 0, 1] = 1
    plan, configuration = make_plan()
    got = prepare(array, (1.0, 1.0, 1.0), how(plan, configuration), label).label
    np.testing.assert_array_equal(got[0, 0], [-1, 1, -1, -1])
    assert (got < 0).sum() == 3


def test_the_mean_is_of_the_mask_where_the_plan_says_so():
    array = noise(1, 6, 6, 6)
    array[0, 0] = 0
    array[0, 0, 0, 0] = 5  # so that the plane of zeros is not cropped away
    plan, configuration = make_plan(normalization=("zscore",), use_mask_for_norm=(True,))
    got = prepare(array, (1.0, 1.0, 1.0), how(plan, configuration)).image[0].numpy()
    outside = array[0] == 0
    assert (got[outside] == 0).all()
    assert abs(got[~outside].mean()) < 1e-5


def test_normalised_before_resampled():
    array = noise(1, 10, 10, 10) * np.linspace(1, 9, 10, dtype=np.float32)
    plan, configuration = make_plan(normalization=("zscore",), spacing=(2.0, 2.0, 2.0))
    coarse = prepare(array, (1.0, 1.0, 1.0), how(plan, configuration)).image
    assert tuple(coarse.shape) == (1, 5, 5, 5)
    assert abs(coarse.std() - 1) > 1e-3  # it would be 1 the other way round


def test_two_dimensions_keep_their_slices():
    plan, configuration = make_plan(patch=(4, 4), spacing=(999.0, 2.0, 2.0))
    got = prepare(noise(1, 7, 8, 8), (3.0, 1.0, 1.0), how(plan, configuration))
    assert tuple(got.image.shape) == (1, 7, 4, 4)
    assert got.label is None


def test_the_input_is_left_alone():
    array, label = noise(1, 5, 5, 5), np.ones((5, 5, 5), np.int16)
    before = array.copy()
    plan, configuration = make_plan(normalization=("zscore",))
    prepare(array, (1.0, 1.0, 1.0), how(plan, configuration), label)
    np.testing.assert_array_equal(array, before)
    assert (label == 1).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_locations_lie_in_their_class(seed):
    label = np.random.default_rng(seed).integers(-1, 4, (9, 8, 7)).astype(np.int16)
    labels = Labels(values={"background": 0, "whole": (1, 2, 3), "core": (3,), "absent": 7})
    found = class_locations(label, labels)
    for position, ids in enumerate([(1, 2, 3), (3,), (7,)]):
        expected = np.argwhere(np.isin(label, ids))
        np.testing.assert_array_equal(found[position], expected)
        assert found[position].dtype == np.int32


def test_many_locations_are_a_repeatable_choice():
    label = np.ones((40, 40, 40), np.int16)
    labels = Labels(values={"background": 0, "a": 1, "ignore": 2})
    first, again = class_locations(label, labels), class_locations(label, labels)
    assert len(first[0]) == 10_000
    assert len(np.unique(first[0], axis=0)) == 10_000
    np.testing.assert_array_equal(first[0], again[0])
    assert set(first) == {0, ANNOTATED}


def test_ignored_voxels_are_not_annotated():
    label = np.array([-1, 0, 1, 2], np.int16).reshape(1, 1, 4)
    found = class_locations(label, Labels(values={"background": 0, "a": 1, "ignore": 2}))
    np.testing.assert_array_equal(found[ANNOTATED][:, 2], [1, 2])


@pytest.fixture(params=["Dataset901_AnisoMR", "Dataset902_CT", "Dataset903_IsoMR"])
def peer(request):
    if not PEER.is_dir():
        pytest.skip("nnU-Net's own arrays are not beside the repository")
    return PEER / "raw" / request.param, PEER / "expected" / request.param


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_equals_nnunet(peer, name):
    raw, expected = peer
    theirs = json.loads((expected / "nnUNetPlans.json").read_text())
    part = theirs["configurations"][name]
    rows = theirs["foreground_intensity_properties_per_channel"].values()
    intensities = tuple(Intensities(**{key: float(value) for key, value in row.items()}) for row in rows)
    spacing = (999.0,) * (3 - len(part["spacing"])) + tuple(part["spacing"])
    plan, configuration = make_plan(
        transpose=tuple(theirs["transpose_forward"]), intensities=intensities, patch=tuple(part["patch_size"]),
        spacing=spacing, normalization=tuple(SCHEMES[scheme] for scheme in part["normalization_schemes"]),
        use_mask_for_norm=tuple(part["use_mask_for_norm"]))
    for path in sorted((expected / f"nnUNetPlans_{name}").glob("*.npz"))[:3]:
        images = [sitk.ReadImage(str(file)) for file in sorted((raw / "imagesTr").glob(f"{path.stem}_*"))]
        array = np.stack([sitk.GetArrayFromImage(image) for image in images]).astype(np.float32)
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(next((raw / "labelsTr").glob(f"{path.stem}.*")))))
        got = prepare(array, tuple(reversed(images[0].GetSpacing())), how(plan, configuration), label)
        with np.load(path) as arrays:
            np.testing.assert_allclose(got.image, arrays["data"], atol=1e-4)
            assert (got.label.numpy() != arrays["seg"][0]).mean() < 1e-4
