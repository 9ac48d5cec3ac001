"""Intensity transforms: what each changes, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from seg_nnunet import _intensity

ONE = np.array([[1.0, 1.3], [0.8, 1.0]])  # the factors of two samples of two channels


@pytest.fixture(params=[(6, 7, 8), (9, 8), (2, 7, 8)])
def image(request: pytest.FixtureRequest) -> Tensor:
    return torch.randn(2, 2, *request.param, generator=torch.Generator().manual_seed(1)) + 2


def test_nothing_drawn_leaves_the_image_untouched(image: Tensor) -> None:
    before, one, zero = image.clone(), np.ones((2, 2)), np.zeros(2)
    _intensity.noise(image, zero, np.array([1, 2]))
    _intensity.blur(image, np.zeros((2, 2, image.ndim - 2)))
    _intensity.brightness(image, one)
    _intensity.contrast(image, one)
    _intensity.low_resolution(image, one)
    _intensity.gamma(image, one)
    _intensity.gamma(image, one, inverted=True)
    assert torch.equal(image, before)


def test_only_drawn_channels_change(image: Tensor) -> None:
    for change in (_intensity.brightness, _intensity.contrast, _intensity.gamma):
        after = image.clone()
        change(after, ONE)
        assert [[torch.equal(after[b, c], image[b, c]) for c in range(2)] for b in range(2)] == [[True, False],
                                                                                                [False, True]]


def test_noise_has_its_standard_deviation_and_follows_its_seed() -> None:
    image = torch.zeros(3, 2, 20, 20, 20)
    _intensity.noise(image, np.array([0.1, 0.0, 0.1]), np.array([5, 6, 5]))
    assert abs(float(image[0].std()) - 0.1) < 0.005
    assert not image[1].any()
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize(("sigma", "radius"), [(0.5, 1), (0.58, 1), (0.6, 2), (0.91, 2), (0.92, 3), (1.0, 3)])
def test_blur_is_a_mirrored_gaussian_of_few_taps(image: Tensor, sigma: float, radius: int) -> None:
    axes = image.ndim - 2
    sigmas = np.zeros((2, 2, axes))
    sigmas[1, 0] = sigma
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    expected = image[1, 0].double().numpy()
    for axis in range(axes):
        expected = correlate1d(expected, weights / weights.sum(), axis, mode="mirror")
    before = image.clone()
    _intensity.blur(image, sigmas)
    torch.testing.assert_close(image[1, 0], torch.from_numpy(expected).float())
    assert torch.equal(image[0], before[0])
    assert torch.equal(image[1, 1], before[1, 1])


def test_brightness_multiplies(image: Tensor) -> None:
    expected = image * torch.from_numpy(ONE).float().view(2, 2, *[1] * (image.ndim - 2))
    _intensity.brightness(image, ONE)
    torch.testing.assert_close(image, expected)


def test_contrast_stays_in_the_old_range(image: Tensor) -> None:
    before = image.clone()
    _intensity.contrast(image, ONE)
    assert image[0, 1].min() == before[0, 1].min()
    assert image[0, 1].max() == before[0, 1].max()
    assert image[0, 1].std() > before[0, 1].std()
    torch.testing.assert_close(image[1, 0], (before[1, 0] - before[1, 0].mean()) * 0.8 + before[1, 0].mean())


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_keeps_mean_spread_and_order(image: Tensor, inverted: bool) -> None:
    before = image.clone()
    _intensity.gamma(image, ONE, inverted=inverted)
    for b, c in ((0, 1), (1, 0)):
        torch.testing.assert_close(image[b, c].mean(), before[b, c].mean())
        torch.testing.assert_close(image[b, c].std(), before[b, c].std())
        assert torch.equal(image[b, c].flatten().argsort(), before[b, c].flatten().argsort())


def test_gamma_above_one_darkens_the_middle_and_inverted_brightens_it() -> None:
    ramp = torch.linspace(0, 1, 27).view(1, 1, 3, 3, 3)
    power = np.array([[1.5]])
    direct, negative = ramp.clone(), ramp.clone()
    _intensity.gamma(direct, power)
    _intensity.gamma(negative, power, inverted=True)
    torch.testing.assert_close(negative, 1 - direct.flatten().flip(0).view(1, 1, 3, 3, 3))
    assert direct.median() < ramp.median() < negative.median()


def test_constant_channels_stay_as_they_are() -> None:
    image = torch.full((2, 2, 5, 5, 5), 3.0)
    _intensity.contrast(image, ONE)
    _intensity.gamma(image, ONE)
    _intensity.gamma(image, ONE, inverted=True)
    _intensity.low_resolution(image, np.full((2, 2), 0.6))
    _intensity.blur(image, np.full((2, 2, 3), 0.8))
    torch.testing.assert_close(image, torch.full_like(image, 3.0))


def test_low_resolution_removes_detail_but_not_along_kept_axes(image: Tensor) -> None:
    before = image.clone()
    _intensity.low_resolution(image, np.array([[0.5, 1.0], [1.0, 1.0]]))
    assert image[0, 0].std() < before[0, 0].std()
    assert torch.equal(image[0, 1], before[0, 1])
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(1, 1, 1, 4, 4)
    kept = ramp.clone()
    _intensity.low_resolution(kept, np.array([[0.5]]), (0,))
    assert torch.equal(kept, ramp)
