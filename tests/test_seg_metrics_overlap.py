"""Laws of the metrics that count voxels."""

import numpy as np
import pytest

from seg import Metric
from seg_metrics.overlap import Precision, Recall, VolumeError

MM = (1.0, 1.0, 1.0)


def cube(start, stop):
    mask = np.zeros((6, 6, 6), bool)
    mask[start:stop, :2, :2] = True
    return mask


NOTHING = cube(0, 0)


@pytest.mark.parametrize(("one", "better"), [(Recall(), True), (Precision(), True), (VolumeError(), False)])
def test_each_is_a_metric_and_best_for_equal_masks(one, better):
    assert isinstance(one, Metric)
    assert one.larger_is_better is better
    assert one.measure(cube(0, 4), cube(0, 4), MM) == (1 if better else 0)


def test_precision_is_recall_with_the_sides_swapped():
    truth, predicted = cube(0, 4), cube(2, 5)
    assert Recall().measure(truth, predicted, MM) == pytest.approx(2 / 4)
    assert Precision().measure(truth, predicted, MM) == pytest.approx(2 / 3)
    assert Precision().measure(predicted, truth, MM) == Recall().measure(truth, predicted, MM)


def test_the_error_of_the_volume_has_no_sign_and_does_not_ask_where():
    assert VolumeError().measure(cube(0, 4), cube(0, 3), MM) == pytest.approx(1 / 4)
    assert VolumeError().measure(cube(0, 4), cube(1, 6), MM) == pytest.approx(1 / 4)
    assert VolumeError().measure(cube(0, 1), cube(0, 3), MM) == pytest.approx(2)


def test_where_they_are_not_defined():
    assert Recall().measure(NOTHING, cube(0, 1), MM) is None
    assert Recall().measure(cube(0, 1), NOTHING, MM) == 0
    assert Precision().measure(cube(0, 1), NOTHING, MM) is None
    assert Precision().measure(NOTHING, cube(0, 1), MM) == 0
    assert VolumeError().measure(NOTHING, cube(0, 1), MM) is None
    assert VolumeError().measure(cube(0, 1), NOTHING, MM) == 1
