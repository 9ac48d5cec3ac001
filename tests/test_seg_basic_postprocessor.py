"""No post-processing."""

import numpy as np
import pytest

from seg import Exit, Labels, Postprocessor, SegError
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


def test_none_refuses_steps_which_must_be_of_another():
    with pytest.raises(SegError, match="'all'") as told:
        NoPostprocessor().apply(np.zeros((2, 2, 2), np.uint8), LABELS, ("all",))
    assert told.value.exit_code == Exit.UNSAFE
