"""What names decide: normalisation, and the axis that must not be mirrored."""

import pytest

from seg import Description, Fingerprint, Intensities, Labels, SegError, opposite_pairs
from seg_nnunet._channels import masked, mirroring, normalization

ONE = Intensities(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)


def fingerprint(**changes):
    fields = {"cases": ("a",), "shapes": ((8, 8, 8),), "spacings": ((1.0, 1.0, 1.0),), "intensities": (ONE,),
              "relative_size_after_cropping": 1.0}
    return Fingerprint(**{**fields, **changes})


def description(*names):
    values = {"background": 0, **{name: index for index, name in enumerate(names, 1)}}
    return Description(name="d", channel_names=("MR",), labels=Labels(values=values), training_cases=1)


def test_only_exact_names_choose_a_scheme_whatever_their_case():
    names = ("CT", "NoNorm", "rescale_to_0_1", "RGB_to_0_1", "zScore", "T1", "CBCT", "ct ")
    schemes, why = normalization(names)
    assert schemes == ("ct", "none", "rescale_to_0_1", "rgb_to_0_1", "zscore", "zscore", "zscore", "zscore")
    assert "'CBCT' → zscore" in why
    assert "only the exact name 'CT'" in why


def test_masks_are_for_z_score_after_much_cropping_alone():
    cropped = fingerprint(relative_size_after_cropping=0.7)
    assert masked(("zscore", "ct"), cropped)[0] == (True, False)
    assert masked(("zscore", "ct"), fingerprint(relative_size_after_cropping=0.75))[0] == (False, False)


@pytest.mark.parametrize("names", [
    ("left kidney", "right kidney"), ("kidney_r", "kidney_l"), ("KidneyLeft", "KidneyRight"), ("L lung", "R lung"),
    ("LKidney", "RKidney"), ("ctx-lh-cuneus", "ctx-rh-cuneus"), ("leftlung", "rightlung"), ("L", "R"),
])
def test_sides_are_found_by_name(names):
    (pair,) = opposite_pairs(("liver", *names))
    assert {pair.first, pair.second} == set(names)
    assert pair.direction.letters == "LR"


@pytest.mark.parametrize("names", [
    ("liver", "spleen"), ("left kidney", "right lung"), ("l1", "l2"), ("left kidney", "kidney"), ("cleft", "bright"),
])
def test_names_without_a_counterpart_are_no_sides(names):
    assert opposite_pairs(names) == []


@pytest.mark.parametrize(("orientation", "order", "kept"), [
    ("RAS", (0, 1, 2), (0, 1)),
    ("LPS", (2, 0, 1), (1, 2)),
    ("PIR", (0, 1, 2), (1, 2)),
    ("ASL", (1, 0, 2), (0, 2)),
])
def test_the_left_right_axis_is_left_out_where_it_lies_after_transposition(orientation, order, kept):
    found = mirroring("auto", fingerprint(orientations={"SPL": 1, orientation: 3}), description("a_l", "a_r"), order)
    assert found.axes == kept
    assert orientation in found.reason
    assert found.of(2) == tuple(axis - 1 for axis in kept if axis > 0)


def test_without_orientation_the_x_axis_is_taken_and_said_so():
    found = mirroring("auto", fingerprint(orientations={"2D": 4}), description("a_l", "a_r"), (0, 1, 2))
    assert found.axes == (0, 1)
    assert "not known" in found.reason


def test_all_axes_without_sides_or_when_asked_for():
    assert mirroring("auto", fingerprint(), description("liver"), (0, 1, 2)).axes == (0, 1, 2)
    assert mirroring("all", fingerprint(), description("a_l", "a_r"), (0, 1, 2)).of(2) == (0, 1)
    two = mirroring("first_two", fingerprint(), description("liver"), (2, 0, 1))
    assert (two.of(3), two.of(2)) == ((0, 1), (0,))
    assert mirroring("none", fingerprint(), description("liver"), (0, 1, 2)).axes == ()


@pytest.mark.parametrize(("names", "kept"), [
    (("Anterior", "Posterior"), (0, 2)),
    (("lobe upper", "lobe lower"), (1, 2)),
    (("left front", "right front", "left back", "right back"), (0,)),
])
def test_the_ends_of_other_directions_are_no_mirror_images_either(names, kept):
    found = mirroring("auto", fingerprint(orientations={"RAS": 3}), description(*names), (0, 1, 2))
    assert found.axes == kept
    assert all(name in found.reason for name in names[:1])


def test_normalisers_that_were_asked_for_take_the_place_of_the_names():
    schemes, why = normalization(("CT", "T1"), ("mine",))
    assert schemes == ("mine", "mine")
    assert why.startswith("Set by planner.normalization=mine. Without it: By the channel's name: 'CT' → ct")
    assert normalization(("CT", "T1"), ("zscore", "mine"))[0] == ("zscore", "mine")
    with pytest.raises(SegError, match="3 normalisers") as caught:
        normalization(("CT", "T1"), ("a", "b", "c"))
    assert caught.value.exit_code == 2


def test_others_normalisers_may_leave_out_what_is_zero():
    assert masked(("mine", "none"), fingerprint(relative_size_after_cropping=0.7))[0] == (True, False)
