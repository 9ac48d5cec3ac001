"""Names of normalisers are resolved and applied channel by channel; what they give is checked."""

import numpy as np
import pytest

from seg.errors import SegError
from seg.models import Intensities
from seg.normalisation import normalise

CT = Intensities(mean=10, median=9, std=4, min=-50, max=90, percentile_00_5=-5, percentile_99_5=30)


def image(low=0, high=200):
    return np.random.default_rng(0).uniform(low, high, (1, 4, 5, 6)).astype(np.float32)


def run(array, scheme, *, mask=False, inside=None):
    inside = np.ones(array.shape[1:], bool) if inside is None else inside
    return normalise(array, (scheme,), (mask,), (CT,), inside)


def test_zscore_has_mean_0_and_spread_1():
    result = run(image(), "zscore")
    assert result.dtype == np.float32
    assert abs(result.mean()) < 1e-5
    assert abs(result.std() - 1) < 1e-5


def test_zscore_inside_a_mask_leaves_the_rest():
    array = image(50, 60)
    inside = np.zeros(array.shape[1:], bool)
    inside[1:3] = True
    array[0][~inside] = 0
    result = run(array, "zscore", mask=True, inside=inside)
    assert (result[0][~inside] == 0).all()
    assert abs(result[0][inside].mean()) < 1e-4
    assert abs(result[0][inside].std() - 1) < 1e-4


def test_ct_is_clipped_by_the_data_set():
    result = run(image(-100, 100), "ct")
    assert result.min() == pytest.approx((-5 - 10) / 4)
    assert result.max() == pytest.approx((30 - 10) / 4)


@pytest.mark.parametrize("scheme", ["rescale_to_0_1", "rgb_to_0_1"])
def test_unit_range(scheme):
    result = run(image(), scheme)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("scheme", ["zscore", "rescale_to_0_1"])
def test_a_constant_image_becomes_0(scheme):
    assert (run(np.full((1, 2, 2, 2), 7, np.float32), scheme) == 0).all()


@pytest.mark.parametrize("scheme", ["ct", "zscore", "none", "rescale_to_0_1", "rgb_to_0_1"])
@pytest.mark.parametrize("mask", [True, False])
def test_the_input_is_left_alone(scheme, mask):
    array = image()
    before = array.copy()
    result = run(array, scheme, mask=mask)
    result += 1
    np.testing.assert_array_equal(array, before)


def test_each_channel_has_its_own_scheme():
    array = np.concatenate([image(), image()])
    result = normalise(array, ("none", "zscore"), (False, False), (CT, CT), np.ones((4, 5, 6), bool))
    np.testing.assert_array_equal(result[0], array[0])
    assert abs(result[1].mean()) < 1e-5


@pytest.mark.parametrize(("array", "scheme", "word"), [
    (image(), "z-score", "zscore"),
    (image(-1, 200), "rgb_to_0_1", "0 to 255"),
    (np.concatenate([image(), image()]), "zscore", "2 channels"),
])
def test_refusals(array, scheme, word):
    with pytest.raises(SegError, match=word):
        run(array, scheme)


def test_ct_without_statistics_is_refused():
    with pytest.raises(SegError, match="no intensities"):
        normalise(image(), ("ct",), (False,), (), np.ones((4, 5, 6), bool))
