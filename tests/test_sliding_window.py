"""Prediction in tiles equals prediction whole, for networks to which the place of a voxel is all the same."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import seg.sliding_window
from seg.sliding_window import Window, gaussian_weights, sliding_window, tile_starts

SHAPES = [((12, 14, 17), (8, 6, 10)), ((9, 20, 12), (9, 12)), ((3, 5, 4), (8, 6, 10)), ((2, 5, 30), (8, 10))]


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def pointwise(tiles):
    """Two outputs of each voxel's own value."""
    return [torch.cat([tiles[:, :1] * 2 + 1, tiles[:, -1:].square()], 1)]


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
@pytest.mark.parametrize(("step", "batch"), [(0.5, 1), (0.3, 3), (1.0, 2)])
@pytest.mark.parametrize("mirror", [False, True])
def test_tiles_equal_the_whole(shape, patch, step, batch, mirror):
    image = noise(2, *shape)
    window = Window(patch=patch, step=step, batch=batch, mirror_axes=tuple(range(len(patch))) if mirror else ())
    found = sliding_window(pointwise, image, window, 2)
    assert found.shape == (2, *shape)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pointwise(image[None])[0][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "patch", "step", "starts"), [
    (110, 64, 0.5, [0, 23, 46]), (64, 64, 0.5, [0]), (65, 64, 0.5, [0, 1]), (110, 64, 1.0, [0, 46]),
    (128, 64, 1.0, [0, 64]), (96, 64, 0.5, [0, 32]), (97, 64, 0.5, [0, 16, 33]), (1, 1, 0.5, [0]),
])  # fmt: skip
def test_tile_starts_of_nnunet(size, patch, step, starts):
    assert tile_starts(size, patch, step) == starts  # 16.5 is rounded to the even number, as numpy does


@pytest.mark.parametrize("patch", [1, 7, 16, 40])
@pytest.mark.parametrize("step", [0.05, 0.3, 0.5, 0.99, 1.0])
def test_tiles_cover_everything_and_are_near_enough(patch, step):
    for size in range(patch, 4 * patch + 3):
        starts = tile_starts(size, patch, step)
        assert starts[0] == 0
        assert starts[-1] == size - patch
        gaps = np.diff(starts)
        assert (gaps >= 0).all()
        assert (gaps <= patch * step + 1).all()


@pytest.mark.parametrize("patch", [(16,), (9, 20), (40, 56, 40), (1, 8, 8), (3, 128)])
def test_weights_are_a_gaussian_of_at_most_10_and_nowhere_0(patch):
    weights = gaussian_weights(patch)
    assert weights.shape == patch
    assert weights.dtype == torch.float32
    assert weights.max() == 10
    assert weights.min() > 0
    assert weights[tuple(n // 2 for n in patch)] == 10
    impulse = np.zeros(patch)
    impulse[tuple(n // 2 for n in patch)] = 1
    expected = gaussian_filter(impulse, [n / 8 for n in patch], 0, mode="constant", cval=0)
    expected = expected / expected.max() * 10
    np.testing.assert_allclose(weights.numpy(), np.maximum(expected, 5.96e-8), rtol=2e-3, atol=6e-8)


@pytest.mark.parametrize("patch", [(9, 21), (17, 9, 5)])
def test_weights_of_odd_patches_are_symmetric(patch):
    weights = gaussian_weights(patch)
    for axis in range(len(patch)):
        assert torch.equal(weights, weights.flip(axis))


def test_even_patches_are_symmetric_about_their_middle_voxel():
    weights = gaussian_weights((16,))
    assert torch.equal(weights[1:], weights[1:].flip(0))


def test_mirroring_of_a_network_that_commutes_with_it_changes_nothing():
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None, None] * kernel[:, None] * kernel)[None, None]

    def blur(tiles):
        return [torch.nn.functional.conv3d(tiles, kernel, padding=1)]

    image = noise(1, 8, 9, 10)
    plain, mirrored = (sliding_window(blur, image, Window(patch=(8, 6, 10), mirror_axes=axes), 1)
                       for axes in ((), (0, 1, 2)))
    torch.testing.assert_close(plain, mirrored, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("axes", "calls"), [((), 1), ((0,), 2), ((0, 2), 4), ((0, 1, 2), 8)])
def test_every_combination_of_mirrors_is_seen_once_and_turned_back(axes, calls):
    seen = []
    place = torch.arange(4.0 * 4 * 4).reshape(1, 1, 4, 4, 4)

    def watch(tiles):
        seen.append(tiles)
        return [place.expand(len(tiles), 1, 4, 4, 4)]

    image = noise(1, 4, 4, 4)
    found = sliding_window(watch, image, Window(patch=(4, 4, 4), mirror_axes=axes), 1)
    assert len({tuple(tile.flatten().tolist()) for tile in seen}) == len(seen) == calls
    expected = place[0]
    for axis in axes:
        expected = (expected + expected.flip(axis + 1)) / 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_slices_know_nothing_of_each_other():
    image = noise(1, 4, 12, 12)
    window = Window(patch=(8, 8), mirror_axes=(0, 1), batch=4)
    found = sliding_window(pointwise, image, window, 2)
    for z in range(4):
        assert torch.equal(found[:, z], sliding_window(pointwise, image[:, z:z + 1], window, 2)[:, 0])


def test_small_images_lie_in_the_middle_of_zeros():
    seen = []

    def watch(tiles):
        seen.append(tiles)
        return [tiles]

    image = noise(1, 3, 4, 5)
    found = sliding_window(watch, image, Window(patch=(6, 6, 6)), 1)
    (tile,) = seen
    assert tile.shape == (1, 1, 6, 6, 6)
    assert torch.equal(tile[0, :, 1:4, 1:5, 0:5], image)
    assert tile.count_nonzero() == image.count_nonzero()
    torch.testing.assert_close(found, image)


def test_tiles_come_in_batches():
    sizes = []

    def watch(tiles):
        sizes.append(len(tiles))
        return [tiles]

    sliding_window(watch, noise(1, 8, 8, 20), Window(patch=(8, 8, 8), batch=2), 1)
    assert sizes == [2, 2]


def test_half_precision_is_added_up_in_single():
    image = noise(1, 8, 8, 20)
    found = sliding_window(lambda tiles: [tiles.half()], image, Window(patch=(8, 8, 8)), 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, image, rtol=1e-3, atol=1e-3)


def test_half_sums_are_rounded_after_each_tile():
    image = 10 * noise(1, 8, 8, 11)
    found = sliding_window(pointwise, image, Window(patch=(8, 8, 7), half_sums=True), 2)
    total, norm = np.zeros((2, 8, 8, 11), np.float16), np.zeros((8, 8, 11), np.float16)
    weights = gaussian_weights((8, 8, 7)).numpy()
    for start in (0, 2, 4):
        box = slice(start, start + 7)
        tile = pointwise(image[None, ..., box])[0][0].numpy()
        total[..., box] = (total[..., box] + tile * weights).astype(np.float16)
        norm[..., box] = (norm[..., box] + weights).astype(np.float16)
    assert found.dtype == torch.float16
    np.testing.assert_allclose(found.float(), (total / norm).astype(np.float32), rtol=1e-3)
    assert (found - pointwise(image[None])[0][0]).abs().max() > 0.3  # near the corners


def test_weights_from_inference_may_be_used_outside_of_it():
    image = noise(1, 8, 8, 11)
    window = Window(patch=(8, 8, 7))
    with torch.inference_mode():
        sliding_window(pointwise, image, window, 2)
    sliding_window(pointwise, image.clone().requires_grad_(), window, 2).sum().backward()


@pytest.mark.parametrize("patch", [(4, 4, 4), (4, 4)])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_of_one_value_are_predicted_once(patch, batch, monkeypatch):
    seen = []

    def watch(tiles):
        seen.extend(tiles)
        return [tiles * 3 + torch.arange(tiles[0].numel()).reshape(tiles.shape[1:])]

    image = torch.zeros(1, 4, 12, 16)
    image[..., 12:] = 7
    image[:, :, 5, 7] = 1
    window = Window(patch=patch, mirror_axes=(0,), batch=batch)
    found = sliding_window(watch, image, window, 1)
    flat = [tile for tile in seen if tile.max() == tile.min()]
    assert len(flat) == 2 * 2 * (1 if len(patch) == 3 else image.shape[1])  # two values, each as it is and mirrored
    assert len(flat) < len(seen)
    monkeypatch.setattr(seg.sliding_window, "_uniform", lambda _, boxes: [None] * len(boxes))
    assert torch.equal(found, sliding_window(watch, image, window, 1))
