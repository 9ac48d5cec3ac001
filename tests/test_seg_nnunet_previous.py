"""The previous stage's masks are disturbed by true morphology, replayed by their parameters, and never overlap."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from seg_nnunet._previous import (
    OPERATIONS,
    Disturbance,
    closing,
    dilation,
    disturb,
    draw_disturbance,
    erosion,
    opening,
)


def blobs(shape, seed, threshold=0.6):
    noise = np.random.default_rng(seed).random(shape)
    return torch.from_numpy(ndimage.gaussian_filter(noise, 1.5) > np.quantile(noise, threshold) * 0.85)


def ball(radius, dims):
    reach = int(radius)
    grid = np.mgrid[(slice(-reach, reach + 1),) * dims]
    return (grid**2).sum(0) <= radius**2


@pytest.mark.parametrize("shape", [(14, 15, 16), (21, 18)], ids=str)
@pytest.mark.parametrize("radius", [1.0, 1.5, 2.9, 4.0])
def test_dilation_and_erosion_are_those_of_scipy_with_a_ball(shape, radius):
    mask = blobs(shape, 1)
    structure = ball(radius, len(shape))
    assert np.array_equal(dilation(mask, radius), ndimage.binary_dilation(mask, structure))
    assert np.array_equal(erosion(mask, radius), ndimage.binary_erosion(mask, structure, border_value=1))


@pytest.mark.parametrize("radius", [1.0, 2.5, 5.0])
def test_the_order_of_the_operations(radius):
    mask = blobs((16, 17, 18), 2)
    assert not (erosion(mask, radius) & ~mask).any()
    assert not (mask & ~dilation(mask, radius)).any()
    assert not (opening(mask, radius) & ~mask).any()
    assert not (mask & ~closing(mask, radius)).any()


def disturbance(labels, **changes):
    none = {"order": np.arange(labels)[None], "operation": np.zeros((1, labels), int),
            "radius": np.full((1, labels), 2.0), "removal": np.full((1, labels), -1.0)}
    return Disturbance(**{**none, **changes})


def test_nothing_drawn_changes_nothing():
    masks = torch.stack([blobs((9, 9, 9), seed) for seed in (1, 2)])[None].float()
    before = masks.clone()
    disturb(masks, disturbance(2))
    assert torch.equal(masks, before)


def test_what_a_mask_gains_the_others_lose():
    masks = torch.zeros(1, 2, 1, 1, 9)
    masks[0, 0, ..., :4], masks[0, 1, ..., 4:] = 1, 1
    disturb(masks, disturbance(2, operation=np.array([[1, 0]])))
    assert masks[0, 0].flatten().tolist() == [1] * 6 + [0] * 3
    assert masks[0, 1].flatten().tolist() == [0] * 6 + [1] * 3


@pytest.mark.parametrize("seed", range(5))
def test_masks_stay_masks_and_never_overlap(seed):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 4, (2, 8, 9, 10)))
    masks = torch.stack([labels == index for index in (1, 2, 3)], 1).float()
    disturb(masks, draw_disturbance(2, 3, 1.0, 1.0, rng))
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.sum(1).max() <= 1


@pytest.mark.parametrize("choice", [0.0, 0.4, 0.99])
def test_one_small_component_goes_and_a_large_one_stays(choice):
    masks = torch.zeros(1, 1, 1, 10, 10)
    masks[..., :5, :5] = 1  # a quarter of the patch
    for place in ((7, 1), (7, 4), (7, 7)):
        masks[..., place[0], place[1]] = 1
    disturb(masks, disturbance(1, removal=np.array([[choice]])))
    assert masks.sum() == 27
    assert masks[..., :5, :5].sum() == 25


def test_the_seed_replays_and_the_shapes_decide_how_much_is_drawn():
    one, other = (np.random.default_rng(3) for _ in range(2))
    first, second = draw_disturbance(4, 2, 0.4, 0.2, one), draw_disturbance(4, 2, 0.0, 0.0, other)
    assert one.random() == other.random()
    assert np.array_equal(first.radius, second.radius)
    assert not second.operation.any()
    assert (second.removal < 0).all()


def test_how_often_labels_are_disturbed():
    drawn = draw_disturbance(20_000, 2, 0.4, 0.2, np.random.default_rng(0))
    assert (drawn.operation > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert (drawn.removal >= 0).mean() == pytest.approx(0.1, abs=0.01)
    counts = np.bincount(drawn.operation[drawn.operation > 0], minlength=len(OPERATIONS) + 1)[1:]
    assert counts / counts.sum() == pytest.approx(0.25, abs=0.02)
