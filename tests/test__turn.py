"""Turning and turning back change nothing; each voxel stays where it is; SimpleITK turns in the same way."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know
from hypothesis import given, settings
from hypothesis import strategies as st

from seg._guard import from_image
from seg._turn import AS_IT_LIES, OPPOSITE, Turn, turn_to
from seg.images import orientation

CODES = ["".join(letters) for order in permutations(("LR", "AP", "SI")) for letters in product(*order)]
ANY = st.tuples(*[st.integers(-300, 300).map(lambda hundredths: hundredths / 100)] * 3)


def image(angles=(0.1, -0.2, 0.3), code="LPS"):
    """Sides of different lengths and spacings, far from the origin; every voxel has its own number."""
    found = sitk.GetImageFromArray(np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4))
    found.SetSpacing((0.5, 0.75, 2.0))
    found.SetOrigin((10.0, -200.0, 55.5))
    found = sitk.DICOMOrient(found, code)
    turned = np.array(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()).reshape(3, 3)
    found.SetDirection((turned @ np.array(found.GetDirection()).reshape(3, 3)).ravel().tolist())
    return found


def same(grid, other):
    assert grid.size == other.size
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(grid, name), getattr(other, name), atol=1e-9)


def test_there_are_48_orientations():
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("own", ["LPS", "SAR", "ILP"])
def test_an_image_is_turned_as_simpleitk_turns_it(own, code):
    source = image(code=own)
    array, grid = from_image(source)
    turn = turn_to(grid, code)
    wanted, wanted_grid = from_image(sitk.DICOMOrient(source, code))
    np.testing.assert_array_equal(turn.forth(array), wanted)
    same(turn.grid(grid), wanted_grid)
    assert orientation(turn.grid(grid)) == turn.letters(orientation(grid)) == code


@given(ANY, st.sampled_from(CODES), st.sampled_from(CODES))
@settings(max_examples=40, deadline=None)
def test_there_and_back_is_where_it_was(angles, own, code):
    array, grid = from_image(image(angles, own))
    turn = turn_to(grid, code)
    turned = turn.forth(array)
    np.testing.assert_array_equal(turn.back(turned), array)
    assert turn.back(turned).flags.c_contiguous
    back = turn_to(turn.grid(grid), orientation(grid))
    np.testing.assert_array_equal(back.forth(turned), array)
    same(back.grid(turn.grid(grid)), grid)


@given(ANY, st.sampled_from(CODES))
@settings(max_examples=30, deadline=None)
def test_each_voxel_stays_at_its_place(angles, code):
    source = image(angles)
    array, grid = from_image(source)
    turn = turn_to(grid, code)
    moved = turn.grid(grid)
    turned = sitk.GetImageFromArray(np.ascontiguousarray(turn.forth(array)[0]))
    turned.SetSpacing(moved.spacing)
    turned.SetOrigin(moved.origin)
    turned.SetDirection(moved.direction)
    for index in np.ndindex(*source.GetSize()):
        place = turned.TransformPhysicalPointToIndex(source.TransformIndexToPhysicalPoint(index))
        assert turned[place] == source[index]


@given(ANY)
@settings(max_examples=40, deadline=None)
def test_however_oblique_the_axes_are_called_as_simpleitk_calls_them(angles):
    source = image(angles)
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(source.GetDirection())
    assert orientation(from_image(source)[1]) == code


def test_turning_to_what_it_is_or_to_nothing_is_no_turn():
    grid = from_image(image())[1]
    assert turn_to(grid, "") == turn_to(grid, "LPS") == AS_IT_LIES
    assert AS_IT_LIES.grid(grid) is grid


def test_a_2d_image_has_no_orientation():
    grid = from_image(sitk.Image(4, 3, sitk.sitkUInt8))[1]
    assert turn_to(grid, "RAS") == AS_IT_LIES
    assert Turn(order=(2, 1, 0)).grid(grid) == grid


def test_channels_keep_their_order():
    array = np.random.default_rng(0).random((2, 3, 4, 5))
    turn = Turn(order=(2, 0, 1), flipped=(True, False, True))
    np.testing.assert_array_equal(turn.forth(array)[1], turn.forth(array[1]))
    np.testing.assert_array_equal(turn.back(turn.forth(array)), array)


def test_opposites_are_mutual():
    assert all(OPPOSITE[OPPOSITE[letter]] == letter for letter in OPPOSITE)
