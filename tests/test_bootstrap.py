"""The paired bootstrap of the difference of two evaluations."""

import numpy as np
import pytest

from seg.bootstrap import FEWEST_CASES, paired_difference
from seg.metrics import evaluation
from seg.models import CaseMetrics, ClassMetrics


def metrics(value):
    return ClassMetrics(dice=value, hd95_mm=value, nsd=value, truth_voxels=1, predicted_voxels=1,
                        others={"mine": value})


def made(values, names=None):
    """An evaluation from values of cases and classes, None where undefined."""
    rows = [list(row) for row in values]
    cases = [CaseMetrics(case=name, classes={str(index): metrics(value) for index, value in enumerate(row)})
             for name, row in zip(names or map(str, range(len(rows))), rows, strict=True)]
    return evaluation(cases, [str(index) for index in range(len(rows[0]) if rows else 1)])


def random(seed, cases=20, classes=3):
    return np.random.default_rng(seed).random((cases, classes))


def test_swapping_the_sides_negates():
    one, other = made(random(0)), made(random(1))
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert (there.difference, there.low, there.high) == (-back.difference, -back.high, -back.low)
    assert there.supported == back.supported
    assert there.low <= there.difference <= there.high


def test_equal_sides_differ_by_nothing():
    found = paired_difference(made(random(0)), made(random(0)))
    assert (found.difference, found.low, found.high, found.supported, found.cases) == (0, 0, 0, False, 20)


@pytest.mark.parametrize("metric", ["dice", "nsd", "hd95_mm", "mine"])
def test_a_constant_shift_is_found_whatever_the_spread(metric):
    values = 10 * random(0)
    found = paired_difference(made(values + 0.01), made(values), metric)
    assert (found.difference, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert found.supported
    assert found.metric == metric


def test_luck_is_not_supported():
    values = random(0)
    noise = np.random.default_rng(1).standard_normal(values.shape)
    found = paired_difference(made(values + noise - noise.mean()), made(values))
    assert found.low < 0 < found.high
    assert not found.supported


def test_the_difference_is_that_of_the_means():
    values = [[0.2, None], [0.4, 0.5], [None, 0.7], [None, None]]
    other = [[0.1, None], [0.4, 0.3], [None, None], [None, None]]
    one, two = made(values), made(other)
    assert paired_difference(one, two).difference == pytest.approx(one.mean["dice"] - two.mean["dice"])


@pytest.mark.parametrize("cases", range(FEWEST_CASES))
def test_few_cases_support_nothing(cases):
    values = random(0, cases)
    found = paired_difference(made(values + 0.5), made(values))
    assert not found.supported
    assert found.cases == cases
    assert (found.difference is None) == (cases == 0)


def test_only_what_both_have_is_compared():
    values = random(0, 10)
    names = [f"case {index}" for index in range(10)]
    one, other = made(values, names), made(values[::-1][:7] - 0.1, names[::-1][:7])
    found = paired_difference(one, other)
    assert found.cases == 7
    assert found.difference == pytest.approx(0.1)
    assert paired_difference(one, made(values)).difference is None


def test_what_is_defined_nowhere_has_no_difference():
    found = paired_difference(made([[None], [None]]), made([[None], [None]]))
    assert (found.difference, found.low, found.high, found.supported) == (None, None, None, False)


def test_a_class_of_one_case_is_missing_in_some_draws_and_harms_none():
    values = random(0, 8, 1).tolist()
    rows = [[None, 0.5], *([value, None] for (value,) in values)]
    found = paired_difference(made([[a and a + 0.1, b and b + 0.1] for a, b in rows]), made(rows))
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))


def test_draws_depend_on_the_seed_alone(monkeypatch):
    one, other = made(random(0)), made(random(1))
    found = paired_difference(one, other, seed=3)
    assert found == paired_difference(one, other, seed=3)
    assert found != paired_difference(one, other, seed=4)
    monkeypatch.setattr("seg.bootstrap.VALUES_AT_ONCE", 100)  # in blocks of five
    again = paired_difference(one, other, seed=3)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-12)


def test_the_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).standard_normal((400, 1))
    found = paired_difference(made(values), made(np.zeros_like(values)))
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
