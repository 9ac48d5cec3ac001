"""Where two grids differ, and where they do not."""

import random

import pytest
from attrs import evolve

from seg._geometry import Geometry, differences, spacing_record

GRID = Geometry(size=(50, 40, 30), spacing=(0.5, 0.75, 2.0), origin=(-100.0, 20.0, 1000.0),
                direction=(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), ending=".nii.gz")
FLAT = Geometry(size=(50, 40), spacing=(1.0, 1.0), origin=(0.0, 0.0), direction=(1.0, 0, 0, 1.0), ending=".png")


def codes(**changes) -> list[str]:
    return [code for code, _, _ in differences(GRID, evolve(GRID, **changes))]


def test_equal_grids_do_not_differ():
    assert codes() == []


def test_what_rounding_leaves_is_no_difference():
    chance = random.Random(0)

    def jittered(values):
        return tuple(value * (1 + chance.uniform(-1e-5, 1e-5)) for value in values)

    for _ in range(100):
        other = evolve(GRID, spacing=jittered(GRID.spacing), direction=jittered(GRID.direction),
                       origin=tuple(value + chance.uniform(-1e-3, 1e-3) for value in GRID.origin))
        assert differences(GRID, other) == []


@pytest.mark.parametrize(("changes", "expected"), [
    ({"size": (50, 40, 27)}, ["SEG-D01"]),
    ({"spacing": (0.5, 0.75, 2.01)}, ["SEG-D02"]),
    ({"origin": (-50.0, 20.0, 1000.0)}, ["SEG-D03"]),
    ({"direction": (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)}, ["SEG-D03"]),
    ({"origin": (0.0, 0.0, 0.0), "spacing": (1.0, 1.0, 1.0)}, ["SEG-D02", "SEG-D03"]),
])  # fmt: skip
def test_each_difference_has_its_code(changes, expected):
    assert codes(**changes) == expected
    assert {code for code, _, _ in differences(GRID, evolve(GRID, **changes), channels=True)} == {"SEG-D04"}


def test_two_and_three_dimensions_differ():
    one_slice = evolve(GRID, size=(50, 40, 1))
    assert differences(one_slice, FLAT)[0][0] == "SEG-D01"


def test_a_picture_says_nothing_of_its_place():
    assert differences(evolve(FLAT, spacing=(0.5, 0.5), origin=(3.0, 4.0), ending=".nii.gz"), FLAT) == []


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_is_a_length(value):
    record = spacing_record(evolve(GRID, spacing=(0.5, value, 1.0)), "file")
    assert record is not None
    assert record.code == "SEG-D16"
    assert spacing_record(GRID, "file") is None


def test_label_maps_are_written_without_loss():
    endings = {".jpg": ".png", ".mhd": ".mha", "": ".nii.gz", ".nii": ".nii", ".png": ".png"}
    assert {ending: evolve(FLAT, ending=ending).label_ending for ending in endings} == endings
