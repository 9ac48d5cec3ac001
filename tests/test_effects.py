"""Effects: what is paired, what is averaged, and when a difference is called supported."""

import attrs
import numpy as np
import pytest

from seg.bootstrap import paired_difference
from seg.effects import averaged, effect
from seg.metrics import evaluation
from seg.models import CaseMetrics, ClassMetrics


def made(values, names=None, further=()):
    """An evaluation from values of cases (rows) and classes, None where undefined; every metric has the same."""
    cases = [CaseMetrics(case=name, classes={
        str(index): ClassMetrics(dice=value, hd95_mm=value, nsd=value, truth_voxels=1, predicted_voxels=1,
                                 others=dict.fromkeys(further, value))
        for index, value in enumerate(row)})
        for name, row in zip(names or map(str, range(len(values))), values, strict=True)]
    return evaluation(cases, [str(index) for index in range(len(values[0]))], further=dict.fromkeys(further, True))


def random(seed, cases=10, classes=2):
    return made(np.random.default_rng(seed).random((cases, classes)).tolist())


def shifted(result, by):
    cases = [attrs.evolve(case, classes={name: attrs.evolve(one, dice=one.dice + by)
                                         for name, one in case.classes.items()}) for case in result.cases]
    return evaluation(cases, list(result.class_means))


def test_one_pair_is_the_paired_difference():
    one, other = random(0), random(1)
    found = effect("a", "b", [(one, other)])
    assert found.differences == {metric: paired_difference(one, other, metric) for metric in ("dice", "hd95_mm", "nsd")}
    assert found.each == (found.differences["dice"].difference,)


def test_several_pairs_are_averaged():
    pairs = [(random(seed), random(seed + 10)) for seed in range(3)]
    found = effect("a", "b", pairs)
    assert found.differences["dice"].difference == pytest.approx(np.mean(found.each))


def test_only_the_cases_of_all_sides_count():
    one = made([[0.5], [0.9], [0.1]], ["a", "b", "c"])
    other = made([[0.2], [0.3], [0.99]], ["b", "a", "d"])
    found = effect("x", "y", [(one, other)])
    assert found.differences["dice"].cases == 2
    assert found.differences["dice"].difference == pytest.approx((0.5 + 0.9) / 2 - (0.2 + 0.3) / 2)
    third = made([[0.5]], ["a"])
    assert effect("x", "y", [(one, other), (third, other)]).differences["dice"].cases == 1


def test_the_mean_of_equal_results_is_the_result():
    one = made([[0.5, None], [0.25, 0.75]])
    assert averaged([one, one, one]) == one
    assert averaged([one]) is one


def test_the_mean_is_over_what_is_defined():
    found = averaged([made([[0.5, None]]), made([[0.7, 0.3]]), made([[0.6, None]])])
    assert [one.dice for one in found.cases[0].classes.values()] == [pytest.approx(0.6), 0.3]


def test_further_metrics_are_paired_and_averaged_as_the_others():
    one, other = (made([[0.5, None], [low, 0.75]], further=("recall", "odd")) for low in (0.25, 0.5))
    assert averaged([one, one]) == one
    third = made([[0.9, 0.2], [0.1, 0.3]], further=("recall",))
    found = effect("a", "b", [(one, other), (third, other)])
    assert list(found.differences) == ["dice", "hd95_mm", "nsd", "recall"]  # that which one side lacks is left out
    assert found.differences["recall"].difference == found.differences["dice"].difference
    assert found.differences["recall"].low == found.differences["dice"].low


@pytest.mark.parametrize(("by", "verdict"), [(0.1, "better, supported"), (-0.1, "worse, supported")])
def test_a_shift_of_every_case_is_supported(by, verdict):
    found = effect("a", "b", [(shifted(random(0), by), random(0))])
    assert (found.supported, found.verdict) == (True, verdict)


def test_no_difference_is_not_supported():
    found = effect("a", "b", [(random(0), random(0))])
    assert not found.supported
    assert "the interval holds 0" in found.verdict


def test_few_cases_support_nothing():
    base = random(0, cases=5)
    found = effect("a", "b", [(shifted(base, 0.2), base)])
    assert not found.supported
    assert "of 5 cases, an interval says little" in found.verdict


def test_pairs_of_trainings_that_disagree_support_nothing():
    base = random(0)
    found = effect("a", "b", [(shifted(base, 0.3), base), (shifted(base, -0.1), base)])
    assert found.differences["dice"].supported
    assert not found.supported
    assert "1 of 2 pairs of trainings do not agree" in found.verdict


def test_what_has_no_case_in_common_is_not_defined():
    found = effect("a", "b", [(made([[0.5]], ["a"]), made([[0.5]], ["b"]))])
    assert (found.supported, found.verdict) == (False, "not defined")
