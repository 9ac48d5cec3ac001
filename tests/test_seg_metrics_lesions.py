"""Laws of the metric that counts lesions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg import Metric
from seg_metrics.lesions import LesionF1

MM = (1.0, 1.0, 1.0)


def voxels(*places, shape=(7, 7, 7)):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def f1(truth, predicted):
    return LesionF1().measure(truth, predicted, MM)


def test_it_is_a_metric():
    assert isinstance(LesionF1(), Metric)
    assert LesionF1().larger_is_better


@pytest.mark.parametrize(("truth", "predicted", "expected"), [
    (voxels((0, 0, 0), (4, 4, 4)), voxels((0, 0, 0), (4, 4, 4)), 1.0),
    (voxels((0, 0, 0), (4, 4, 4)), voxels((0, 0, 0)), 2 / 3),  # one missed
    (voxels((0, 0, 0)), voxels((0, 0, 0), (4, 4, 4)), 2 / 3),  # one made up
    (voxels((0, 0, 0)), voxels((4, 4, 4)), 0.0),
    (voxels((0, 0, 0)), voxels(), 0.0),
    (voxels(), voxels((0, 0, 0)), 0.0),
    (voxels(), voxels(), None),
    (voxels((0, 0, 0), (1, 1, 1)), voxels((1, 1, 1)), 1.0),  # a corner joins: one lesion, found by any voxel
    (voxels((0, 0, 0), (2, 2, 2)), np.ones((7, 7, 7), bool), 1.0),  # one prediction finds both
    (voxels((0, 0, slice(None))), voxels((0, 0, 0), (0, 0, 3)), 1.0),  # two pieces of one count once
])  # fmt: skip
def test_counts(truth, predicted, expected):
    assert f1(truth, predicted) == (None if expected is None else pytest.approx(expected))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_it_is_from_0_to_1_and_indifferent_to_turns(seed, axes):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.random((2, 5, 6, 7)) > 0.9
    found = f1(truth, predicted)
    assert found is None or 0 <= found <= 1
    assert f1(np.flip(truth, range(axes)), np.flip(predicted, range(axes))) == found
    if truth.any():
        assert f1(truth, truth) == 1
