"""Laws of resampling, and agreement with SciPy, which scikit-image's resize is made of."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seg.resampling import resample, resample_label, resampled_shape, separate_axis, slabs, spline_matrix

ISO = (1.0, 1.0, 1.0)
THICK = (5.0, 1.0, 1.0)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 12))


def scipy_resize(array, shape, order):
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    exact = ndimage.zoom(array.astype(float), factors, order=order, grid_mode=True, mode="nearest",
                         prefilter=order > 1)
    return np.clip(exact, array.min(), array.max())


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@settings(max_examples=15, deadline=None)
@example((1, 30, 1), (1, 11, 1), 0)  # a tie, which SciPy's rounding decides
@given(sizes, sizes, st.sampled_from([0, 1, 3]))
def test_equals_scipy_borders_included(old, new, order):
    array = noise(2, *old)
    ours = resample(torch.from_numpy(array), new, ISO, ISO, order).numpy()
    expected = np.stack([scipy_resize(channel, new, order) for channel in array])
    np.testing.assert_allclose(ours, expected, atol=1e-5 if order == 3 else 3e-5)


@pytest.mark.parametrize(("old", "new"), [(300, 170), (170, 300), (512, 64)])
def test_long_axes_are_cut_into_blocks_without_loss(old, new):
    array = noise(1, 2, old, 2)
    ours = resample(torch.from_numpy(array), (2, new, 2), ISO, ISO, 3).numpy()
    np.testing.assert_allclose(ours[0], scipy_resize(array[0], (2, new, 2), 3), atol=1e-5)


@given(sizes, st.sampled_from([0, 1, 3]), st.sampled_from([ISO, THICK]))
def test_same_shape_is_left_alone(shape, order, spacing):
    array = torch.from_numpy(noise(1, *shape))
    assert resample(array, shape, spacing, ISO, order) is array


@settings(max_examples=15, deadline=None)
@given(sizes, sizes, st.sampled_from([0, 1, 3]), st.sampled_from([ISO, THICK]))
def test_a_constant_stays_constant(old, new, order, spacing):
    result = resample(torch.full((1, *old), 7.0), new, spacing, ISO, order)
    torch.testing.assert_close(result, torch.full((1, *new), 7.0))


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.sampled_from([0, 1, 3]), st.sampled_from([ISO, THICK, THICK[::-1]]), st.integers(1, 2000))
def test_slabs_are_together_what_is_resampled_at_once(old, new, order, spacing, voxels):
    array = torch.from_numpy(noise(1, *old))
    expected, found = resample(array, new, spacing, ISO, order)[0], torch.full(new, torch.nan)
    for slab in slabs(old, new, (spacing, ISO), (order, array.device), voxels):
        target = found.narrow(slab.axis, slab.target.start, slab.target.stop - slab.target.start)
        assert target.isnan().all()
        target.copy_(slab.resample(array[0][slab.where]))
    if order == 0:
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-5)


def test_slabs_are_as_large_as_they_may_be():
    count = len(list(slabs((9, 8, 8), (18, 16, 16), (ISO, ISO), (1, torch.device("cpu")), 3 * 16 * 16)))
    assert count == 6
    assert len(list(slabs((9, 8, 8), (18, 16, 16), (ISO, ISO), (1, torch.device("cpu")), 1))) == 18
    assert len(list(slabs((9, 8, 8), (18, 16, 16), (ISO, ISO), (3, torch.device("cpu")), 1))) == 1


def test_a_step_does_not_overshoot():
    step = torch.zeros(1, 1, 1, 20)
    step[..., 10:] = 1
    result = resample(step, (1, 1, 31), ISO, ISO, 3)
    assert result.min() == 0
    assert result.max() == 1


def test_rows_of_the_spline_sum_to_one():
    np.testing.assert_allclose(spline_matrix(17, 40).sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_separate_axis_takes_nearest_slices(axis):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 5.0
    old, new = [8, 8, 8], [12, 12, 12]
    old[axis], new[axis] = 4, 6
    array = noise(1, *old)
    ours = resample(torch.from_numpy(array), new, spacing, ISO, 3)[0].movedim(axis, 0).numpy()
    slices = np.moveaxis(array[0], axis, 0)
    expected = np.stack([scipy_resize(one, (12, 12), 3) for one in slices])  # each slice clipped by itself
    np.testing.assert_allclose(ours, expected[[0, 1, 1, 2, 3, 3]], atol=1e-5)


@pytest.mark.parametrize(("before", "after", "axis"), [
    ((5, 1, 1), (1, 1, 1), 0),
    ((1, 1, 1), (1, 1, 5), 2),
    ((5, 1, 1), (1, 1, 9), 0),  # the present spacing decides first
    ((3, 1, 1), (1, 1, 1), None),  # must be more than three
    ((5, 5, 1), (1, 1, 9), None),  # two axes share the largest spacing
])
def test_separate_axis(before, after, axis):
    assert separate_axis(before, after) == axis


def test_resampled_shape_rounds_half_to_even():
    assert resampled_shape((5, 7, 1), (1, 1, 1), (2, 2, 9)) == (2, 4, 1)


@settings(max_examples=15, deadline=None)
@given(sizes, sizes, st.sampled_from([ISO, THICK]))
def test_labels_stay_labels(old, new, spacing):
    label = torch.from_numpy(np.random.default_rng(1).choice([-1, 0, 2, 5], old).astype(np.int16))
    result = resample_label(label, new, spacing, ISO)
    assert result.dtype == torch.int16
    assert tuple(result.shape) == new
    assert set(result.unique().tolist()) <= set(label.unique().tolist())


def test_labels_are_the_largest_indicator():
    label = torch.from_numpy(np.random.default_rng(2).integers(-1, 4, (6, 9, 7)).astype(np.int16))
    result = resample_label(label, (11, 13, 10), ISO, ISO).numpy()
    shares = np.stack([scipy_resize((label == value).numpy().astype(float), (11, 13, 10), 1) for value in range(-1, 4)])
    chosen = np.take_along_axis(shares, result[None].astype(int) + 1, axis=0)[0]
    assert (chosen >= shares.max(axis=0) - 1e-4).all()


def test_a_tie_goes_to_the_nearest_voxel():
    label = torch.tensor([3, 1], dtype=torch.int16).reshape(1, 1, 2)
    assert resample_label(label, (1, 1, 1), ISO, ISO).item() == 1  # the middle between both: halves go up
