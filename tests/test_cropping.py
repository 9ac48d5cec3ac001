"""The non-zero region: holes, boxes, empty images."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seg import bounding_box, nonzero_mask


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]))
def test_the_mask_is_scipys_filled_union_of_the_channels(seed, share):
    rng = np.random.default_rng(seed)
    image = (rng.random((2, *rng.integers(1, 9, 3))) < share / 2).astype(np.float32)
    assert np.array_equal(nonzero_mask(image), ndimage.binary_fill_holes((image != 0).any(axis=0)))


def test_a_hole_is_closed_in_three_axes_at_once():
    image = np.ones((1, 5, 5, 5), np.float32)
    image[0, 2, 2, 2] = 0
    assert nonzero_mask(image).all()
    image[0, :3, 2, 2] = 0  # now a channel to the outside
    assert not nonzero_mask(image)[:3, 2, 2].any()


def test_holes_make_no_difference_to_the_box():
    image = np.zeros((2, 6, 7, 8), np.float32)
    image[0, 1:5, 1:5, 1:5] = image[1, 1:6, 2:5, 2:5] = 1
    image[:, 3, 3, 3] = 0
    open_, filled = nonzero_mask(image, fill=False), nonzero_mask(image)
    assert not open_[3, 3, 3]
    assert filled[3, 3, 3]
    assert bounding_box(open_) == bounding_box(filled) == ((1, 1, 1), (6, 5, 5))


def test_a_single_slice_has_no_holes():
    image = np.ones((1, 1, 5, 5), np.float32)
    image[0, 0, 2, 2] = 0
    assert not nonzero_mask(image)[0, 2, 2]


def test_the_box_is_tight_and_half_open():
    mask = np.zeros((6, 7, 8), bool)
    mask[1, 2, 3] = mask[4, 5, 3] = True
    assert bounding_box(mask) == ((1, 2, 3), (5, 6, 4))


def test_an_empty_mask_keeps_the_whole_volume():
    assert bounding_box(np.zeros((2, 3, 4), bool)) == ((0, 0, 0), (2, 3, 4))
    assert not nonzero_mask(np.zeros((1, 2, 3, 4), np.float32)).any()
