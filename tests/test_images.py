"""Files to arrays and back: nothing changes on the way, and whatever is wrong is refused by name."""

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know
from hypothesis import given, settings
from hypothesis import strategies as st

from seg import Labels, SegError
from seg.images import (
    geometry_of,
    label_to_sitk,
    orientation,
    read_image,
    read_label,
    turn_of,
    volume_from_sitk,
    write_label,
)

CELL = Labels(values={"background": 0, "cell": 1}, file_values={1: 255})
THREE = Labels(values={"background": 0, "one": 1, "two": 2})
OBLIQUE = tuple(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())


def image(array, spacing=(0.5, 0.75, 2.0), origin=(10.0, -20.0, 5.5), direction=OBLIQUE):
    found = sitk.GetImageFromArray(array)
    dims = found.GetDimension()
    found.SetSpacing(spacing[:dims])
    found.SetOrigin(origin[:dims])
    if dims == 3:
        found.SetDirection(direction)
    return found


def saved(path: Path, array, **grid) -> Path:
    return saved_image(path, image(array, **grid))


def saved_image(path: Path, found) -> Path:
    sitk.WriteImage(found, str(path))
    return path


def codes(function, *arguments) -> list[str]:
    with pytest.raises(SegError) as caught:
        function(*arguments)
    assert all(record.file for record in caught.value.records)
    return [record.code for record in caught.value.records]


def test_a_volume_has_axes_and_spacing_in_zyx(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    volume = read_image([saved(tmp_path / "a.nii.gz", array)])
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array[None])
    np.testing.assert_allclose(volume.spacing, (2.0, 0.75, 0.5))
    assert volume.geometry.size == (5, 4, 3)


def test_files_are_channels_in_the_order_given(tmp_path):
    arrays = [np.full((3, 4, 5), number + 1, kind) for number, kind in enumerate((np.uint8, np.float32, np.int16))]
    paths = [saved(tmp_path / f"{number}.nrrd", array) for number, array in enumerate(arrays)]
    found = read_image(paths[::-1]).array
    np.testing.assert_array_equal(found[:, 0, 0, 0], (3, 2, 1))


def test_two_dimensions_are_one_slice(tmp_path):
    array = np.arange(20, dtype=np.uint8).reshape(4, 5)
    picture = read_image([saved(tmp_path / "a.png", array)])
    assert picture.array.shape == (1, 1, 4, 5)
    assert picture.spacing == (999.0, 1.0, 1.0)
    flat = read_image([saved(tmp_path / "a.nii.gz", array)])
    assert flat.array.shape == (1, 1, 4, 5)
    np.testing.assert_allclose(flat.spacing, (999 * 0.75, 0.75, 0.5))
    assert flat.geometry.ndim == 2


def test_channels_must_share_a_grid(tmp_path):
    array = np.ones((3, 4, 5), np.float32)
    good = saved(tmp_path / "a.nii.gz", array)
    assert codes(read_image, [good, saved(tmp_path / "b.nii.gz", array, origin=(0.0, 0.0, 0.0))]) == ["SEG-D04"]
    assert codes(read_image, [good, saved(tmp_path / "c.nii.gz", array[:2])]) == ["SEG-D04"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_number_and_place(tmp_path, ending, value):
    array = np.ones((3, 4, 5), np.float32)
    array[1, 2, 3:] = value
    path = saved(tmp_path / f"a{ending}", array)
    with pytest.raises(SegError, match=r"2 voxels .* first at c 0, z 1, y 2, x 3"):
        read_image([path])
    assert codes(read_label, path, None) == ["SEG-D05"]


def test_markers_beyond_reason_are_refused(tmp_path):
    array = np.ones((3, 4, 5))
    array[0, 0, 0] = -3.4e38
    assert codes(read_image, [saved(tmp_path / "a.nrrd", array)]) == ["SEG-D06"]
    array[0, 0, 0] = 1e300  # infinite as float32
    assert codes(read_image, [saved(tmp_path / "a.nrrd", array)]) == ["SEG-D06"]


@pytest.mark.parametrize(("value", "code"), [(7, "SEG-D10"), (1.5, "SEG-D11"), (-1, "SEG-D11"), (70000, "SEG-D10")])
def test_labels_that_are_none_are_refused(tmp_path, value, code):
    array = np.zeros((3, 4, 5), np.float64)
    array[0, 0, :2] = value
    path = saved(tmp_path / "a.nii.gz", array)
    assert codes(read_label, path, THREE) == [code]
    if value == 7:
        with pytest.raises(SegError, match="7: 2 voxels"):
            read_label(path, THREE)


def test_whole_numbers_of_a_float_type_are_labels(tmp_path):
    array = np.arange(60).reshape(3, 4, 5) % 3
    found, _ = read_label(saved(tmp_path / "a.nii.gz", array.astype(np.float32)), THREE)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, array)


def test_file_values_stand_for_ids_and_all_else_is_background(tmp_path):
    array = np.array([[0, 255, 7], [255, 1, 0]], np.uint8)
    found, _ = read_label(saved(tmp_path / "a.png", array), CELL)
    np.testing.assert_array_equal(found, [(array == 255)])


def test_three_equal_colours_are_grey_and_others_no_label(tmp_path):
    grey = np.array([[0, 2, 1], [1, 0, 2]], np.uint8)
    path = tmp_path / "a.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey] * 3, axis=-1), isVector=True), str(path))
    np.testing.assert_array_equal(read_label(path, THREE)[0], grey[None])
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey, grey, grey[::-1]], axis=-1), isVector=True), str(path))
    assert codes(read_label, path, THREE) == ["SEG-D15"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@given(largest=st.sampled_from([1, 2, 127, 255, 256, 32767, 32768, 65535]), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_label_map_comes_back_as_it_was_written(tmp_path_factory, ending, largest, seed):
    folder = tmp_path_factory.mktemp("labels")
    grid = geometry_of(saved(folder / f"image{ending}", np.ones((3, 4, 5), np.float32)))
    ids = np.random.default_rng(seed).integers(0, largest, (3, 4, 5), endpoint=True)
    ids[0, 0, 0] = largest
    write_label(folder / f"label{ending}", ids, grid)
    found, there = read_label(folder / f"label{ending}", None)
    np.testing.assert_array_equal(found, ids)
    assert there.size == grid.size
    np.testing.assert_allclose((*there.spacing, *there.origin), (*grid.spacing, *grid.origin), atol=1e-5)
    np.testing.assert_allclose(there.direction, grid.direction, atol=1e-6)
    assert sitk.ReadImage(str(folder / f"label{ending}")).GetPixelIDTypeAsString() == (
        "8-bit unsigned integer" if largest < 256 else "16-bit unsigned integer")


def test_a_picture_stays_a_picture_with_its_own_values(tmp_path):
    grid = geometry_of(saved(tmp_path / "image.png", np.ones((4, 5), np.uint8)))
    ids = np.arange(20).reshape(1, 4, 5) % 2
    for ending in (".png", ".tif", ".bmp"):
        path = tmp_path / f"label{ending}"
        write_label(path, ids, grid, CELL)
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        assert written.dtype == np.uint8
        np.testing.assert_array_equal(written if written.ndim == 2 else written[..., 0], 255 * ids[0])
        np.testing.assert_array_equal(read_label(path, CELL)[0], ids)


def test_the_dtype_does_not_depend_on_what_occurs(tmp_path):
    labels = Labels(values={"background": 0, "rare": 1}, file_values={1: 300})
    grid = geometry_of(saved(tmp_path / "a.nii.gz", np.ones((3, 4, 5), np.float32)))
    assert label_to_sitk(np.zeros((3, 4, 5), int), grid, labels).GetPixelID() == sitk.sitkUInt16


def test_formats_that_lose_labels_are_not_written(tmp_path):
    grid = geometry_of(saved(tmp_path / "a.jpg", np.ones((4, 5), np.uint8)))
    assert grid.label_ending == ".png"
    assert codes(write_label, tmp_path / "b.jpg", np.zeros((1, 4, 5), int), grid) == ["SEG-C06"]
    assert not (tmp_path / "b.jpg").exists()


def test_an_image_in_memory_and_its_label_map_share_a_grid():
    source = image(np.ones((3, 4, 5), np.float32))
    volume = volume_from_sitk(source)
    back = label_to_sitk(np.zeros((3, 4, 5), int), volume.geometry)
    assert (back.GetSize(), back.GetSpacing(), back.GetOrigin(), back.GetDirection()) == (
        source.GetSize(), source.GetSpacing(), source.GetOrigin(), source.GetDirection())
    with pytest.raises(ValueError, match="shape"):
        label_to_sitk(np.zeros((3, 4, 4), int), volume.geometry)


@given(st.permutations((0, 1, 2)), st.tuples(*[st.sampled_from((-1, 1))] * 3), st.tuples(*[st.floats(-0.2, 0.2)] * 3))
@settings(max_examples=40, deadline=None)
def test_orientation_is_simpleitks(order, signs, angles):
    turned = np.array(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()).reshape(3, 3)
    direction = (turned @ (np.eye(3)[:, order] * signs)).ravel().tolist()
    source = sitk.Image(2, 2, 2, sitk.sitkUInt8)
    source.SetDirection(direction)
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction)
    assert orientation(volume_from_sitk(source).geometry) == code


def test_the_identity_of_nifti_is_ras(tmp_path):
    flipped = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)  # SimpleITK's world is LPS
    path = saved(tmp_path / "a.nii", np.ones((2, 3, 4), np.uint8), direction=flipped)
    assert orientation(geometry_of(path)) == "RAS"


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    saved(tmp_path / "case_0000.nii.gz", np.ones((2, 3, 4), np.uint8))
    with pytest.raises(SegError, match=r"there are: case_0000.nii.gz"):
        read_image([tmp_path / "case_0001.nii.gz"])


def test_images_and_label_maps_are_turned_when_they_are_read(tmp_path):
    arrays = [np.arange(60, dtype=kind).reshape(3, 4, 5) for kind in (np.int16, np.float32)]
    paths = [saved(tmp_path / f"{number}.nrrd", array) for number, array in enumerate(arrays)]
    lying, turned = read_image(paths), read_image(paths, "SAL")
    wanted = read_image([saved_image(tmp_path / "turned.nrrd", sitk.DICOMOrient(sitk.ReadImage(str(paths[0])), "SAL"))])
    np.testing.assert_array_equal(turned.array, np.repeat(wanted.array, 2, axis=0))
    assert turned.array.flags.c_contiguous
    assert (turned.spacing, turned.orientation, turned.geometry) == (wanted.spacing, "SAL", lying.geometry)
    np.testing.assert_array_equal(turned.turn.back(turned.array), lying.array)
    label, grid = read_label(paths[0], None, turned.turn)
    np.testing.assert_array_equal(label, wanted.array[0])
    assert label.flags.c_contiguous
    assert grid.size == wanted.geometry.size
    assert (lying.orientation, turn_of(paths[0], "SAL"), turn_of(tmp_path / "absent.nii", "")) == (
        orientation(lying.geometry), turned.turn, lying.turn)


def test_an_image_in_memory_is_turned_as_its_file(tmp_path):
    path = saved(tmp_path / "a.mha", np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    one, other = read_image([path], "PIR"), volume_from_sitk(sitk.ReadImage(str(path)), "PIR")
    np.testing.assert_array_equal(one.array, other.array)
    assert other.array.flags.c_contiguous
    assert (one.spacing, one.turn, one.orientation) == (other.spacing, other.turn, "PIR")


def test_a_label_map_is_turned_as_its_image_though_rounding_tips_the_scales(tmp_path):
    near = [tuple(sitk.Euler3DTransform((0, 0, 0), math.radians(45 + sign * 1e-4), 0, 0).GetMatrix())
            for sign in (1, -1)]
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    paths = [saved(tmp_path / f"{number}.nrrd", array, direction=one) for number, one in enumerate(near)]
    volume = read_image(paths[:1], "LPS")
    assert volume.turn != turn_of(paths[1], "LPS")
    np.testing.assert_array_equal(read_label(paths[1], None, volume.turn)[0], volume.array[0])


def test_two_dimensions_are_never_turned(tmp_path):
    path = saved(tmp_path / "a.png", np.arange(20, dtype=np.uint8).reshape(4, 5))
    np.testing.assert_array_equal(read_image([path], "RAS").array, read_image([path]).array)
    assert read_image([path], "RAS").orientation == "2D"
