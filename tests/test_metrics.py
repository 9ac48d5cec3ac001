"""The reference numbers were made with surface-distance-based-measures 0.1 on the same masks."""

import itertools

import numpy as np
import pytest

from seg import Labels, SegError
from seg._surfaces import Surface, cell_codes, contour_lengths, distances, surface, surface_areas
from seg.metrics import case_metrics, evaluation, mask_metrics


def waves(shape):
    """Two bumpy masks that overlap in part."""
    axes = np.indices(shape)
    wave = sum(np.cos(1.3 * axis + place) for place, axis in enumerate(axes))
    radius = sum(((axis - (size - 1) / 2) / (0.32 * size)) ** 2 for axis, size in zip(axes, shape, strict=True))
    return radius + 0.35 * wave < 1, np.roll(radius, 1, 0) + 0.35 * np.roll(wave, 2, -1) < 1.1


@pytest.mark.parametrize(
    ("shape", "spacing", "areas", "hd95", "nsd"),
    [
        ((14, 16, 18), (1.0, 1.0, 1.0), (546.8299250216536, 625.3882160803917), 1.4142135623730951, 0.9165160834708496),
        ((14, 16, 18), (3.0, 0.7, 0.9), (1043.0798673340762, 1214.768083221542), 1.8, 0.8997162676133603),
        ((24, 30), (0.8, 1.3), (101.93665134663713, 124.00098886911086), 2.7202941017470885, 0.569350781349008),
    ],
)
def test_equal_to_surface_distance(shape, spacing, areas, hd95, nsd):
    truth, prediction = waves(shape)
    assert [surface(mask, spacing).areas.sum() for mask in (truth, prediction)] == pytest.approx(areas)
    if len(shape) == 2:
        truth, prediction, spacing = truth[None], prediction[None], (999.0, *spacing)
    found = mask_metrics(truth, prediction, spacing)
    assert (found.hd95_mm, found.nsd) == pytest.approx((hd95, nsd), abs=1e-9)


def test_areas_of_cells():
    unit = surface_areas((1, 1, 1))
    root = 3**0.5
    assert {round(float(area), 5) for area in unit} == {
        round(area, 5) for area in (
            0, root / 8, root / 4, 3 * root / 8, root / 2, 0.5**0.5, 0.5**0.5 + root / 8, 1, 2 * 0.5**0.5,
            3 * root / 4, 0.5 + 3 * root / 8, 0.5 + root / 2, 0.5**0.5 + root / 2,
        )
    }
    assert surface_areas((1, 2, 4)).sum() == pytest.approx(1236.6528927759423)
    for spacing in ((1, 1, 1), (3, 0.5, 0.7)):
        areas = surface_areas(spacing)
        assert areas == pytest.approx(areas[::-1])  # inside and outside have the same surface


def test_lengths_of_cells():
    lengths = contour_lengths((3, 4))
    assert lengths == pytest.approx(lengths[::-1])
    assert lengths[[0, 1, 3, 5, 6]] == pytest.approx([0, 2.5, 4, 3, 5])


def test_codes_of_one_voxel_are_all_single_corners():
    codes = cell_codes(np.ones((1, 1, 1), bool))
    assert sorted(codes.ravel().tolist()) == [1 << bit for bit in range(8)]


def test_a_face_has_its_own_area():
    plane = np.ones((6, 5, 4), bool)
    found = surface(plane, (2.0, 3.0, 5.0))
    middle = (found.cells[:, 1] == 2) & (found.cells[:, 2] == 2) & (found.cells[:, 0] == 0)
    assert found.areas[middle] == pytest.approx([15.0])


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_is_found_near_and_far_and_in_crowds(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    spacing = (2.0, 0.5, 1.0)
    sides = [Surface(rng.integers(0, (30, 40, 50), (count, 3)), np.ones(count)) for count in (700, 40)]
    direct = np.sqrt((((sides[0].cells[:, None] - sides[1].cells) * spacing) ** 2).sum(axis=2)).min(axis=1)
    for crowded, few in ((0, 10**6), (0, 0), (10**6, 0)):
        monkeypatch.setattr("seg._surfaces.CROWDED", crowded)
        monkeypatch.setattr("seg._surfaces.FEW", few)
        assert distances(sides[0], sides[1], spacing) == pytest.approx(direct)


def box(shape, start, stop):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


NOTHING = np.zeros((8, 8, 8), bool)
VOXEL = box((8, 8, 8), (2, 2, 2), (3, 3, 3))
FAR = box((8, 8, 8), (2, 2, 6), (3, 3, 7))
CUBE = box((8, 8, 8), (2, 2, 2), (6, 6, 6))
ALL = np.ones((8, 8, 8), bool)


@pytest.mark.parametrize(
    ("truth", "prediction", "dice", "hd95", "nsd"),
    [
        (NOTHING, NOTHING, None, None, None),
        (CUBE, NOTHING, 0, None, 0),
        (NOTHING, VOXEL, 0, None, 0),
        (VOXEL, VOXEL, 1, 0, 1),
        (VOXEL, FAR, 0, 4, 0),
        (CUBE, CUBE, 1, 0, 1),
        (ALL, ALL, 1, 0, 1),
        (CUBE, box((8, 8, 8), (2, 2, 2), (6, 6, 7)), 8 / 9, 1, 1),
    ],
    ids=["neither", "missed", "invented", "voxel", "far", "same", "full", "one layer more"],
)
def test_edge_cases(truth, prediction, dice, hd95, nsd):
    found = mask_metrics(truth, prediction, (1, 1, 1))
    assert (found.dice, found.hd95_mm, found.nsd) == pytest.approx((dice, hd95, nsd))
    back = mask_metrics(prediction, truth, (1, 1, 1))
    assert (back.dice, back.hd95_mm, back.nsd) == pytest.approx((dice, hd95, nsd))


def test_axes_and_units_do_not_matter():
    truth, prediction = waves((9, 12, 15))
    spacing = (2.5, 0.8, 1.1)
    first = mask_metrics(truth, prediction, spacing, 1.0)
    for order in itertools.permutations(range(3)):
        found = mask_metrics(truth.transpose(order), prediction.transpose(order), [spacing[k] for k in order], 1.0)
        assert (found.hd95_mm, found.nsd) == pytest.approx((first.hd95_mm, first.nsd))
    ten = mask_metrics(truth, prediction, [10 * size for size in spacing], 10.0)
    assert (ten.hd95_mm, ten.nsd) == pytest.approx((10 * first.hd95_mm, first.nsd))
    wide = mask_metrics(np.pad(truth, 5), np.pad(prediction, 5), spacing, 1.0)
    assert wide == first


def test_regions_and_ignored_voxels():
    labels = Labels(values={"background": 0, "whole": (1, 2), "core": 2, "ignore": 3})
    truth = np.zeros((4, 4, 4), np.int16)
    truth[1:3], truth[1, 1:3], truth[3] = 1, 2, 3
    prediction = truth.copy()
    prediction[3] = 2  # where nobody looked
    prediction[2][prediction[2] == 1] = 2
    found = case_metrics(truth, prediction, labels, (1, 1, 1), case="a").classes
    assert list(found) == ["whole", "core"]
    assert found["whole"].dice == 1
    assert found["core"].predicted_voxels == 8 + 16
    assert found["core"].dice == 2 * 8 / (8 + 24)


def test_other_shapes_are_refused():
    with pytest.raises(SegError, match="case a"):
        case_metrics(np.zeros((2, 3, 4), int), np.zeros((2, 3, 5), int), Labels(values={"x": 1}), (1, 1, 1), case="a")


def test_means_count_what_is_present():
    labels = Labels(values={"background": 0, "a": 1, "b": 2, "never": 3})
    one, two = np.zeros((6, 6, 6), int), np.zeros((6, 6, 6), int)
    one[1:3, 1:3, 1:3] = 1
    two[1:3, 1:3, 1:3], two[4] = 1, 2
    found = evaluation([case_metrics(one, one, labels, (1, 1, 1), case="1"),
                        case_metrics(two, one, labels, (1, 1, 1), case="2")], list(labels.foreground), 2.0)
    assert found.class_means["a"] == {"dice": 1, "hd95_mm": 0, "nsd": 1, "cases": 2, "hd95_cases": 2}
    assert found.class_means["b"] == {"dice": 0, "hd95_mm": None, "nsd": 0, "cases": 1, "hd95_cases": 0}
    assert found.mean == {"dice": 0.5, "hd95_mm": 0, "nsd": 0.5}
    assert found.absent == ("never",)
    assert found.tolerance_mm == 2.0


def test_no_cases_have_no_mean():
    found = evaluation([], ["a"])
    assert found.mean == {"dice": None, "hd95_mm": None, "nsd": None}
    assert found.absent == ("a",)
