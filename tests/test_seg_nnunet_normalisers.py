"""Laws of nnU-Net's normalisers."""

import numpy as np
import pytest

from seg import Intensities, Normaliser, SegError
from seg_nnunet.normalisers import CTNormaliser, NoNormaliser, RescaleNormaliser, RGBNormaliser, ZScoreNormaliser

CT = Intensities(mean=10, median=9, std=4, min=-50, max=90, percentile_00_5=-5, percentile_99_5=30)
ALL = (CTNormaliser(), ZScoreNormaliser(), NoNormaliser(), RescaleNormaliser(), RGBNormaliser())


def channel(low=0, high=200):
    return np.random.default_rng(0).uniform(low, high, (4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("one", ALL, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("masked", [True, False])
def test_each_gives_a_float32_channel_and_leaves_the_input_alone(one, masked):
    array = channel()
    before = array.copy()
    array.flags.writeable = False
    found = one.normalise(array, array > 50 if masked else None, CT)
    assert isinstance(one, Normaliser)
    assert (found.dtype, found.shape) == (np.float32, array.shape)
    np.testing.assert_array_equal(array, before)


def test_zscore_has_mean_0_and_spread_1():
    found = ZScoreNormaliser().normalise(channel(), None, None)
    assert abs(found.mean()) < 1e-5
    assert abs(found.std() - 1) < 1e-5


def test_zscore_inside_a_mask_leaves_the_rest():
    array, inside = channel(50, 60), np.zeros((4, 5, 6), bool)
    inside[1:3] = True
    array[~inside] = 0
    found = ZScoreNormaliser().normalise(array, inside, None)
    assert (found[~inside] == 0).all()
    assert abs(found[inside].mean()) < 1e-4
    assert abs(found[inside].std() - 1) < 1e-4


def test_ct_is_clipped_by_the_data_set():
    found = CTNormaliser().normalise(channel(-100, 100), None, CT)
    assert found.min() == pytest.approx((-5 - 10) / 4)
    assert found.max() == pytest.approx((30 - 10) / 4)


def test_ct_without_statistics_is_refused():
    with pytest.raises(SegError, match="no intensities") as caught:
        CTNormaliser().normalise(channel(), None, None)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("one", [RescaleNormaliser(), RGBNormaliser()])
def test_unit_range(one):
    found = one.normalise(channel(), None, None)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("one", [ZScoreNormaliser(), RescaleNormaliser()])
def test_a_constant_channel_becomes_0(one):
    assert (one.normalise(np.full((2, 2, 2), 7, np.float32), None, None) == 0).all()


@pytest.mark.parametrize("low", [-1, 100])
def test_rgb_is_from_0_to_255(low):
    with pytest.raises(SegError, match="0 to 255") as caught:
        RGBNormaliser().normalise(channel(low, low + 200), None, None)
    assert caught.value.exit_code == 3
