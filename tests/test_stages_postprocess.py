"""Learning from files and measuring after the steps."""

import numpy as np
import pytest
from attrs import evolve, frozen

from seg import Geometry, Labels, SegError, read_label, write_label
from seg.convert import read_json
from seg.models import ComponentUse, Evaluation
from seg.stages import postprocess
from seg.stages.evaluate import evaluate_folders
from seg.stages.postprocess import Postprocessing, PredictedCase, evaluate_steps, learn_steps
from seg_nnunet.postprocessor import NnUNetPostprocessor

LABELS = Labels(values={"background": 0, "cell": 1}, file_values={1: 255})
USE = ComponentUse(kind="postprocessor", name="nnunet", distribution="segplug", version="1")
HOW = Postprocessing(postprocessor=NnUNetPostprocessor(), use=USE, labels=LABELS)


class Bar:
    """A progress that counts."""

    def __init__(self):
        self.total = self.done = 0

    def start(self, title, total):
        self.total += total

    def advance(self, steps=1):
        self.done += steps

    def say(self, text):
        pass


def cell(*, island=False):
    array = np.zeros((6, 9, 9), np.int16)
    array[1:5, 1:5, 1:5] = 1
    array[2:4, 7:9, 7:9] = island
    return array


def write(path, array):
    grid = Geometry(size=array.shape[::-1], spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0),
                    direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    path.parent.mkdir(exist_ok=True)
    write_label(path, array, grid, LABELS)
    return path


@pytest.fixture
def cases(tmp_path):
    """Case a has an island, case b none; the metrics of the predictions are known."""
    for name in ("a", "b"):
        write(tmp_path / "truth" / f"{name}.nii.gz", cell())
        write(tmp_path / "found" / f"{name}.nii.gz", cell(island=name == "a"))
    before = evaluate_folders(tmp_path / "truth", tmp_path / "found", LABELS)
    return [PredictedCase(case=one.case, truth=tmp_path / "truth" / f"{one.case}.nii.gz",
                          prediction=tmp_path / "found" / f"{one.case}.nii.gz", metrics=one) for one in before.cases]


def test_islands_are_learnt_away_written_and_measured(cases, tmp_path):
    bar = Bar()
    steps = learn_steps(cases, HOW, tmp_path / "post", bar)
    assert steps == ("all",)
    result = evaluate_steps(cases, HOW, steps, tmp_path / "post", progress=bar)
    assert result.mean["dice"] == 1
    assert bar.done == bar.total == 4
    for case in cases:
        found, _ = read_label(tmp_path / "post" / case.prediction.name, LABELS)
        np.testing.assert_array_equal(found, cell())
    assert read_json(tmp_path / "post" / "metrics.json", Evaluation) == result
    assert evaluate_folders(tmp_path / "truth", tmp_path / "post", LABELS) == result


def test_no_step_keeps_every_metric(cases, tmp_path):
    result = evaluate_steps(cases, HOW, (), tmp_path / "post")
    assert result == evaluate_folders(tmp_path / "truth", tmp_path / "found", LABELS)


def test_a_case_that_does_not_change_is_not_measured_again(cases, tmp_path, monkeypatch):
    measured, measure = [], postprocess.case_metrics
    monkeypatch.setattr(postprocess, "case_metrics",
                        lambda *arguments: measured.append(arguments[-1]) or measure(*arguments))
    evaluate_steps(cases, HOW, ("all",), tmp_path / "post")
    assert measured == ["a"]


def test_what_is_current_is_kept_and_the_rest_made_again(cases, tmp_path, monkeypatch):
    folder = tmp_path / "post"
    steps = learn_steps(cases, HOW, folder)
    first = evaluate_steps(cases, HOW, steps, folder)
    read, pairs = [], postprocess.read_pair
    monkeypatch.setattr(postprocess, "read_pair", lambda *files: read.append(files[1].stem[0]) or pairs(*files))
    assert learn_steps(cases, HOW, folder) == steps
    assert evaluate_steps(cases, HOW, steps, folder) == first
    assert read == []
    (folder / "b.nii.gz").write_bytes(b"damaged")
    assert evaluate_steps(cases, HOW, steps, folder) == first
    assert read == ["b"]
    write(cases[0].prediction, cell())
    cases[0] = evolve(cases[0], metrics=None)  # those it has are of the prediction as it was
    assert evaluate_steps(cases, HOW, steps, folder).mean["dice"] == 1
    assert read == ["b", "a"]
    assert learn_steps(cases, HOW, folder) == ()
    evaluate_steps(cases, HOW, (), folder)
    assert sorted(read[4:]) == ["a", "b"]


@frozen
class AsksTwice:
    """Reads every case twice."""

    def learn(self, cases, labels):
        return tuple(str(int((truth == case()[1]).all())) for case in cases for truth, _ in [case()])

    def apply(self, predicted, labels, steps):
        return predicted.copy()


def test_cases_can_be_read_again(cases, tmp_path):
    bar = Bar()
    how = Postprocessing(postprocessor=AsksTwice(), use=USE, labels=LABELS)
    assert learn_steps(cases, how, tmp_path / "post", bar) == ("0", "1")
    assert bar.done == bar.total == 2


def test_grids_that_differ_are_refused(cases, tmp_path):
    write(cases[1].prediction, cell()[1:])
    with pytest.raises(SegError, match="SEG-D01"):
        learn_steps(cases, HOW, tmp_path / "post")
