"""Rotation, scaling and mirroring: laws of the resampling of images and of the vote on labels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg import CaseArrays, Position, cut_patch
from seg_nnunet import _spatial

CPU = torch.device("cpu")


def matrix(dims: int, degrees: float, scale: float, plane: tuple[int, int] = (0, 1)) -> NDArray[np.float64]:
    angle = math.radians(degrees)
    turn = np.eye(dims)
    a, b = plane
    turn[a, a] = turn[b, b] = math.cos(angle)
    turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
    return turn * scale


def random_case(labels: int = 5, shape: tuple[int, int, int] = (14, 20, 18)) -> CaseArrays:
    rng = np.random.default_rng(labels)
    return CaseArrays(image=torch.from_numpy(rng.normal(size=(2, *shape)).astype(np.float32)),
                      label=torch.from_numpy(rng.integers(-1, labels, shape).astype(np.int16)))


def transformed(case: CaseArrays, patch: tuple[int, ...], by: NDArray[np.float64],
                start: tuple[int, int, int] = (3, 5, 4)) -> tuple[Tensor, Tensor]:
    where = [Position(case=0, start=start)]
    return _spatial.patches([case], where, patch, by[None], CPU)


@pytest.mark.parametrize(("patch", "dims"), [((6, 9, 8), 3), ((2, 9, 8), 2), ((9, 8), 2), ((5, 7), 2), ((7, 5, 9), 3)])
def test_a_transform_that_moves_nothing_is_a_plain_cut(patch: tuple[int, ...], dims: int) -> None:
    case = random_case()
    almost = matrix(dims, 1e-5, 1.0)
    patch3 = (1, *patch) if len(patch) == 2 else patch
    for start in ((3, 5, 4), (-2, 15, 9)):
        image, label = transformed(case, patch, almost, start)
        plain_image, plain_label = cut_patch(case, start, patch3)
        torch.testing.assert_close(image[0].view(plain_image.shape), plain_image, atol=1e-4, rtol=0)
        assert torch.equal(label[0].view(plain_label.shape), plain_label)


@pytest.mark.parametrize(("patch", "dims"), [((8, 8, 8), 3), ((3, 8, 8), 2), ((9, 9), 2)])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(patch: tuple[int, ...], dims: int, quarters: int) -> None:
    case = random_case()
    patch3 = (1, *patch) if len(patch) == 2 else patch
    image, label = transformed(case, patch, matrix(dims, 90 * quarters, 1.0, (dims - 2, dims - 1)))
    plain_image, plain_label = cut_patch(case, (3, 5, 4), patch3)
    turned_image, turned_label = (plain.rot90(quarters, (-1, -2)) for plain in (plain_image, plain_label))
    torch.testing.assert_close(image[0].view(plain_image.shape), turned_image, atol=1e-4, rtol=0)
    assert torch.equal(label[0].view(plain_label.shape), turned_label)


@pytest.mark.parametrize("labels", [2, 5, 12])
@pytest.mark.parametrize(("patch", "dims"), [((10, 12, 9), 3), ((3, 12, 10), 2), ((12, 10), 2)])
def test_the_vote_is_the_argmax_of_interpolated_indicators(patch: tuple[int, ...], dims: int, labels: int) -> None:
    case = random_case(labels)
    names = torch.arange(-1, labels, dtype=torch.int16)
    indicators = (case.label[None] == names.view(-1, 1, 1, 1)).float()
    indicators = torch.nn.functional.pad(indicators, (9,) * 6)
    indicators[0, (indicators.sum(0) == 0)] = 1  # outside is a label of its own
    for degrees, scale in ((17, 1.0), (-28, 1.37), (0, 0.73), (25, 0.8)):
        by = matrix(dims, degrees, scale)
        _, label = transformed(case, patch, by)
        maps = CaseArrays(image=indicators, label=torch.zeros(indicators.shape[1:], dtype=torch.int16))
        shares, _ = transformed(maps, patch, by, (12, 14, 13))
        best = shares[0].topk(2, dim=0)
        clear = best.values[0] - best.values[1] > 1e-4
        assert clear.float().mean() > 0.9
        assert torch.equal(label[0][clear], names[best.indices[0]][clear])


def test_voting_on_all_cells_is_the_same_as_on_the_mixed_ones() -> None:
    label = random_case(3).label.repeat_interleave(2, 0)
    strides = [360, 18, 1]
    place, fraction = _spatial._places(matrix(3, 20, 0.9)[None], np.array([[13.0, 9.0, 8.0]]), (6, 5, 4),
                                       label.shape, CPU)
    assert torch.equal(_spatial._vote(_spatial._corners(label.view(-1), place, strides), fraction),
                       _spatial._voted(label.view(-1), place, fraction, strides,
                                       _spatial._cells(label, 3).view(-1)))


@pytest.mark.parametrize("dims", [2, 3])
def test_cells_of_one_label_are_those_whose_corners_agree(dims: int) -> None:
    label = random_case(2).label.repeat_interleave(3, 1)
    cells = _spatial._cells(label, dims)
    inner = label[..., *[slice(0, -1)] * dims]
    corners = torch.stack([label[..., *[slice(step, n - 1 + step) for step, n in zip(steps, label.shape[-dims:],
                                                                                     strict=True)]]
                           for steps in itertools.product((0, 1), repeat=dims)])
    same = (corners == corners[0]).all(0)
    assert same.any()
    assert not same.all()
    assert torch.equal(cells[..., *[slice(0, -1)] * dims], torch.where(same, inner, _spatial.MIXED))
    assert (cells[..., -1] == _spatial.MIXED).all()


def test_samples_transformed_together_equal_single_ones() -> None:
    case = random_case()
    by = np.stack([matrix(3, 20, 1.3), matrix(3, -10, 0.8, (1, 2))])
    found = [(case, (3, 5, 4)), (case, (-2, 6, 1))]
    image, label = _spatial._transformed(found, (6, 9, 8), by, CPU)
    for entry in range(2):
        one_image, one_label = _spatial._transformed(found[entry:entry + 1], (6, 9, 8), by[entry:entry + 1], CPU)
        torch.testing.assert_close(image[entry], one_image[0], atol=1e-4, rtol=0)
        assert torch.equal(label[entry], one_label[0])


def test_pieces_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case()
    for patch, by in (((7, 9, 8), matrix(3, 20, 0.9)), ((3, 9, 8), matrix(2, 50, 1.1)), ((9, 8), matrix(2, 50, 1.1))):
        whole_image, whole_label = transformed(case, patch, by)
        with monkeypatch.context() as patched:
            patched.setattr(_spatial, "SLAB", 20)
            image, label = transformed(case, patch, by)
        torch.testing.assert_close(image, whole_image, atol=1e-4, rtol=0)
        assert torch.equal(label, whole_label)


@pytest.mark.parametrize("dims", [2, 3])
def test_constant_images_stay_constant_inside(dims: int) -> None:
    case = CaseArrays(image=torch.full((1, 30, 30, 30), 3.5), label=torch.full((30, 30, 30), 2, dtype=torch.int16))
    image, label = transformed(case, (6, 6, 6), matrix(dims, 33, 1.3), (12, 12, 12))
    torch.testing.assert_close(image, torch.full_like(image, 3.5))
    assert label.unique().tolist() == [2]


def test_outside_the_case_is_zero_and_unlabelled() -> None:
    case = CaseArrays(image=torch.ones(1, 4, 4, 4), label=torch.ones(4, 4, 4, dtype=torch.int16))
    image, label = transformed(case, (6, 6, 6), matrix(3, 10, 1.2), (10, 10, 10))
    assert not image.any()
    assert label.unique().tolist() == [-1]


def test_a_scale_above_one_shows_more() -> None:
    case = CaseArrays(image=torch.zeros(1, 30, 30, 30), label=torch.zeros(30, 30, 30, dtype=torch.int16))
    case.label[10:20, 10:20, 10:20] = 1
    sizes = [int(transformed(case, (16, 16, 16), matrix(3, 0, scale), (7, 7, 7))[1].sum()) for scale in (1.25, 0.8)]
    assert sizes[0] == 8**3
    assert sizes[1] == 12**3


def test_mirroring_flips_image_and_label_together() -> None:
    image = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    label = image[:, 0].mul(3).to(torch.int16)
    flips = np.array([[True, False, True], [False, False, False], [True, False, True]])
    flipped, turned = image.clone(), label.clone()
    _spatial.mirror((flipped, turned), flips)
    assert torch.equal(flipped[1], image[1])
    assert torch.equal(flipped[[0, 2]], image[[0, 2]].flip(-3, -1))
    assert torch.equal(turned[[0, 2]], label[[0, 2]].flip(-3, -1))
    _spatial.mirror((flipped, turned), flips)
    assert torch.equal(flipped, image)


@pytest.mark.parametrize(("patch", "dims"), [((6, 9, 8), 3), ((2, 9, 8), 2), ((9, 8), 2)])
def test_the_nearest_label_is_that_of_the_nearest_voxel(patch: tuple[int, ...], dims: int) -> None:
    """A label map that counts the voxels says which of them was taken."""
    shape = (14, 20, 18)
    label = torch.arange(math.prod(shape), dtype=torch.int16).view(shape)
    case = CaseArrays(image=torch.zeros((1, *shape)), label=label)
    start, by = (3, 5, 4), matrix(dims, 23, 0.8, (dims - 2, dims - 1))
    found = _spatial.patches([case], [Position(case=0, start=start)], patch, by[None], CPU, nearest=True)[1][0]
    patch3 = (1, *patch) if len(patch) == 2 else patch
    whole = np.eye(3)
    whole[3 - dims :, 3 - dims :] = by
    centre = (np.array(patch3) - 1) / 2
    offsets = np.stack(np.meshgrid(*map(np.arange, patch3), indexing="ij"), -1) - centre
    where = offsets @ whole.T + centre + start
    sure = np.abs(where % 1 - 0.5).min(axis=-1) > 1e-3
    expected = label.numpy()[tuple(np.moveaxis(np.rint(where).astype(int), -1, 0))]
    np.testing.assert_array_equal(found.view(patch3).numpy()[sure], expected[sure])


@pytest.mark.parametrize("patch", [(6, 9, 8), (9, 8)])
def test_samples_at_once_are_those_one_by_one(patch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other devices take all samples at once, by an index that lies there."""
    case, dims = random_case(), len(patch)
    by = np.stack([matrix(dims, 20, 1.2), np.eye(dims), matrix(dims, -9, 0.8), matrix(dims, 5, 1.0)])
    where = [Position(case=0, start=(start, 2, 3)) for start in range(4)]
    flips = np.array([[True] * dims, [False] * dims, [True] * dims, [False, *[True] * (dims - 1)]])
    made = []
    for at_once in (False, True):
        if at_once:
            monkeypatch.setattr(_spatial, "_groups", lambda rows, _: [(rows, torch.from_numpy(rows))])
        image, label = _spatial.patches([case], where, patch, by, CPU)
        _spatial.mirror((image, label), flips)
        made.append((image, label))
    torch.testing.assert_close(made[0][0], made[1][0], atol=1e-5, rtol=1e-5)
    assert torch.equal(made[0][1], made[1][1])
