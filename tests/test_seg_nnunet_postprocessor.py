"""nnU-Net's post-processing: what is learnt, what is refused, what is done."""

import numpy as np
import pytest
from scipy import ndimage

from seg import Labels, Postprocessor, SegError
from seg.metrics import case_metrics, evaluation
from seg_nnunet.postprocessor import NnUNetPostprocessor

ONE = Labels(values={"background": 0, "organ": 1})
TWO = Labels(values={"background": 0, "organ": 1, "tumour": 2})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))
IGNORE = Labels(values={"background": 0, "organ": 1, "ignore": 2})
OURS = NnUNetPostprocessor()


class Reads:
    """Cases in memory as functions, with the number of reads of each."""

    def __init__(self, *pairs):
        self.pairs, self.counts = pairs, [0] * len(pairs)

    def cases(self):
        return [lambda index=index: self._read(index) for index in range(len(self.pairs))]

    def _read(self, index):
        self.counts[index] += 1
        return self.pairs[index]


def volume(**blocks):
    """Blocks of a 12 × 12 × 12 volume by name: (id, start, size) along all axes."""
    array = np.zeros((12, 12, 12), np.uint8)
    for label_id, start, size in blocks.values():
        array[(slice(start, start + size),) * 3] = label_id
    return array


def learnt(labels, *pairs):
    return OURS.learn(Reads(*pairs).cases(), labels)


def dice(labels, truth, predicted, steps=()):
    return evaluation([case_metrics(one, OURS.apply(other, labels, steps), labels, (1.0, 1.0, 1.0))
                       for one, other in zip(truth, predicted, strict=True)], list(labels.foreground))


def naive(labels, pairs):
    """The rules of nnU-Net 2.8, word by word: every step measures all the cases anew."""
    names = list(labels.foreground)
    steps = ["all", *(f"class {name}" for name in names if len(names) > 1)]
    ids = {f"class {name}": labels.foreground[name] for name in names}
    ids["all"] = tuple({one for many in labels.foreground.values() for one in many})
    truths, now = [truth for truth, _ in pairs], [predicted for _, predicted in pairs]
    taken = []
    for step in steps:
        then = [keep_largest(array, ids[step]) for array in now]
        before, after = dice(labels, truths, now), dice(labels, truths, then)
        if step == "all":
            pairs_of = [(before.class_means[name]["dice"], after.class_means[name]["dice"]) for name in names]
            better = (after.mean["dice"] or 0) > (before.mean["dice"] or 0) and all(
                new is None or new >= old for old, new in pairs_of if old is not None)
        else:
            name = step.removeprefix("class ")
            old, new = before.class_means[name]["dice"], after.class_means[name]["dice"]
            better = old is not None and new is not None and new > old
        if better:
            taken.append(step)
            now = then
    return tuple(taken)


def keep_largest(array, ids):
    parts, count = ndimage.label(np.isin(array, ids), np.ones((3, 3, 3)))
    sizes = [np.sum(parts == part) for part in range(1, count + 1)]
    gone = [part for part, size in enumerate(sizes, start=1) if size < max(sizes)]
    return np.where(np.isin(parts, gone), 0, array)


def scene(rng, labels):
    """Random blocks, and a prediction that lost some of their voxels and has islands; more or less of both."""
    share = rng.choice([0.1, 0.3])
    truth = ndimage.zoom(rng.choice(3, (3, 3, 3), p=(1 - 2 * share, share, share)), 4, order=0)
    predicted = np.where(rng.random(truth.shape) < rng.choice([0.9, 1.0]), truth, 0)
    islands = rng.random(truth.shape) < rng.choice([0.001, 0.01, 0.05])
    predicted[islands] = rng.integers(1, 3, islands.sum())
    if len(labels.foreground) == 1:
        predicted = np.minimum(predicted, 1)
        truth = truth if labels.ignore else np.minimum(truth, 1)
    return truth, predicted


def test_it_is_a_postprocessor():
    assert isinstance(OURS, Postprocessor)


def test_islands_are_learnt_away_and_new_cases_get_better():
    truth = volume(organ=(1, 1, 4))
    predicted = volume(organ=(1, 1, 4), island=(1, 8, 2))
    steps = learnt(ONE, (truth, predicted), (truth, truth))
    assert steps == ("all",)
    np.testing.assert_array_equal(OURS.apply(predicted, ONE, steps), truth)
    assert dice(ONE, [truth], [predicted], steps).mean["dice"] == 1 > dice(ONE, [truth], [predicted]).mean["dice"]


def test_nothing_is_learnt_where_nothing_gets_better():
    truth = volume(left=(1, 1, 3), right=(1, 7, 4))
    assert learnt(ONE, (truth, truth)) == ()
    assert learnt(ONE, (truth, volume())) == ()
    assert learnt(ONE, (volume(), volume())) == ()
    assert learnt(ONE) == ()


def test_all_is_refused_where_one_class_falls_and_the_mean_rises():
    truths = [volume(organ=(1, 1, 4), tumour=(2, 5, 2))] * 9  # they touch
    truths += [volume(organ=(1, 1, 4), tumour=(2, 8, 2))]  # they do not
    predicted = [truth.copy() for truth in truths]
    for array in predicted:
        array[11, :6, :6] = 1  # an island of the organ
    before, after = dice(TWO, truths, predicted), dice(TWO, truths, predicted, ("all",))
    assert after.mean["dice"] > before.mean["dice"]
    assert after.class_means["tumour"]["dice"] < before.class_means["tumour"]["dice"]
    assert learnt(TWO, *zip(truths, predicted, strict=True)) == ("class organ",)


def test_a_class_is_cleaned_where_all_foreground_is_one_piece():
    truth = volume(organ=(1, 1, 9), tumour=(2, 2, 3))
    predicted = truth.copy()
    predicted[8, 8, 8] = 2
    assert learnt(TWO, (truth, predicted)) == ("class tumour",)
    cleaned = OURS.apply(predicted, TWO, ("class tumour",))
    assert cleaned[8, 8, 8] == 0
    assert np.count_nonzero(cleaned != predicted) == 1


def test_a_step_must_gain_more_than_it_loses():
    truth = volume(organ=(1, 1, 4), island=(1, 8, 2))
    other = volume(organ=(1, 1, 4))
    # what the one case gains by the step, the other loses: 8 of 72 voxels
    assert learnt(ONE, (other, truth), (truth, truth)) == ()
    assert learnt(ONE, (other, truth), (other, truth), (truth, truth)) == ("all",)


def test_components_of_equal_size_all_stay():
    truth = volume(organ=(1, 1, 3))
    predicted = volume(organ=(1, 1, 3), twin=(1, 6, 3), small=(1, 10, 1))
    assert learnt(ONE, (truth, predicted)) == ("all",)
    np.testing.assert_array_equal(OURS.apply(predicted, ONE, ("all",)), volume(organ=(1, 1, 3), twin=(1, 6, 3)))


def test_corners_join():
    predicted = volume(organ=(1, 1, 3), corner=(1, 4, 1), island=(1, 6, 2))
    np.testing.assert_array_equal(OURS.apply(predicted, ONE, ("all",)), volume(organ=(1, 1, 3), corner=(1, 4, 1)))


def test_a_single_slice_has_components_too():
    plane = volume(organ=(1, 1, 3), island=(1, 6, 2))[7:8] | volume(organ=(1, 1, 3))[1:2]
    assert OURS.apply(plane, ONE, ("all",)).sum() == 9


def test_regions_are_taken_as_unions_of_their_ids():
    truth = volume(whole=(1, 1, 6), core=(2, 2, 3))
    predicted = truth.copy()
    predicted[10:12, 10:12, 10:12] = 2  # an island of the core, and so of the whole
    assert learnt(REGIONS, (truth, predicted)) == ("all",)
    predicted = truth.copy()
    predicted[6, 6, 6] = 2  # inside the whole: an island of the core alone
    assert learnt(REGIONS, (truth, predicted)) == ("class core",)
    assert OURS.apply(predicted, REGIONS, ("class core",))[6, 6, 6] == 0


def test_ignored_voxels_count_nowhere():
    truth = volume(organ=(1, 1, 4), ignored=(2, 8, 2))
    predicted = volume(organ=(1, 1, 4), island=(1, 8, 2))
    assert learnt(IGNORE, (truth, predicted)) == ()
    assert learnt(IGNORE, (truth, predicted), (volume(organ=(1, 1, 4)), predicted)) == ("all",)


def test_applying_gives_a_copy_and_twice_is_once():
    predicted = volume(organ=(1, 1, 4), island=(1, 8, 2)).astype(np.int16)
    before = predicted.copy()
    once = OURS.apply(predicted, TWO, ("all", "class organ"))
    np.testing.assert_array_equal(predicted, before)
    assert once.dtype == predicted.dtype
    np.testing.assert_array_equal(OURS.apply(once, TWO, ("all", "class organ")), once)
    same = OURS.apply(predicted, TWO, ())
    assert same is not predicted
    np.testing.assert_array_equal(same, predicted)


@pytest.mark.parametrize("step", ["class bone", "organ", "class organ", ""])
def test_an_unknown_step_is_exit_7(step):
    with pytest.raises(SegError, match="SEG-M06") as caught:
        OURS.apply(volume(), ONE, (step,))
    assert caught.value.exit_code == 7


def test_a_case_is_read_again_only_if_a_step_that_was_taken_changed_it():
    clean = volume(organ=(1, 1, 9), tumour=(2, 2, 3))
    apart = clean.copy()
    apart[11, 11, 11] = 1
    alone = clean.copy()
    alone[8, 8, 8] = 2
    reads = Reads((clean, clean), (clean, apart), (clean, alone))
    assert OURS.learn(reads.cases(), TWO) == ("all", "class tumour")
    assert reads.counts == [1, 2, 1]
    reads = Reads((clean, clean), (clean, alone))
    assert OURS.learn(reads.cases(), TWO) == ("class tumour",)
    assert reads.counts == [1, 1]


@pytest.mark.parametrize("labels", [ONE, TWO, REGIONS, IGNORE], ids=["one", "two", "regions", "ignore"])
@pytest.mark.parametrize("seed", range(20))
def test_it_learns_what_measuring_every_step_anew_would(labels, seed):
    rng = np.random.default_rng(seed)
    pairs = [scene(rng, labels) for _ in range(4)]
    assert learnt(labels, *pairs) == naive(labels, pairs)
