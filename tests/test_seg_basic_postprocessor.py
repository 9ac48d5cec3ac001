"""No post-processing."""

import numpy as np

from seg import Labels, Postprocessor
from seg_basic.postprocessor import NoPostprocessor

LABELS = Labels(values={"background": 0, "cell": 1})


def test_none_reads_nothing_and_changes_nothing():
    def unread():
        raise AssertionError

    none = NoPostprocessor()
    assert isinstance(none, Postprocessor)
    assert none.learn([unread], LABELS) == ()
    array = np.arange(8, dtype=np.int16).reshape(2, 2, 2) % 2
    found = none.apply(array, LABELS, ())
    assert found is not array
    np.testing.assert_array_equal(found, array)
