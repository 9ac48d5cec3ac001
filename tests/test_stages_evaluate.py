import csv
from typing import ClassVar

import numpy as np
import pytest
from attrs import frozen

from seg import Geometry, Labels, SegError, write_label
from seg.convert import read_json, to_data, write_json
from seg.models import Evaluation
from seg.stages.evaluate import evaluate_folders, write_evaluation
from seg_metrics.overlap import Recall

LABELS = Labels(values={"background": 0, "cell": 1}, file_values={1: 255})


@frozen(kw_only=True)
class Bad:
    larger_is_better: ClassVar[bool] = True

    def measure(self, truth, predicted, spacing):
        return 1 / 0


class Heard:
    """A progress that keeps what was said."""

    def __init__(self):
        self.said = []

    def start(self, title, total):
        pass

    def advance(self, steps=1):
        pass

    def say(self, text):
        self.said.append(text)


def cube(size=4):
    array = np.zeros((6, 7, 8), np.int16)
    array[1 : 1 + size, 1:5, 1:5] = 1
    return array


def write(path, array, spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0), labels=LABELS):
    grid = Geometry(size=array.shape[::-1], spacing=spacing, origin=origin, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    path.parent.mkdir(exist_ok=True)
    write_label(path, array, grid, labels)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "truth" / f"{name}.nii.gz", cube())
    write(tmp_path / "found" / "a.mha", cube())
    write(tmp_path / "found" / "b.nii.gz", cube(2))
    return tmp_path / "truth", tmp_path / "found"


def test_formats_may_differ_and_files_have_their_own_values(folders):
    result = evaluate_folders(*folders, LABELS)
    assert [case.case for case in result.cases] == ["a", "b"]
    assert [case.classes["cell"].dice for case in result.cases] == pytest.approx([1, 2 / 3])
    assert result.mean["dice"] == pytest.approx(5 / 6)


def test_without_labels_every_value_is_a_class(folders):
    write(folders[1] / "b.nii.gz", np.where(cube(2) == 1, 9, 0), labels=None)
    result = evaluate_folders(*folders)
    assert list(result.class_means) == ["9", "255"]
    assert result.class_means["9"]["cases"] == 1
    assert result.class_means["255"]["dice"] == pytest.approx(0.5)


def test_files_of_the_result(folders, tmp_path):
    result = evaluate_folders(*folders, LABELS, 2.0)
    write_evaluation(result, tmp_path / "out")
    assert read_json(tmp_path / "out" / "metrics.json", Evaluation) == result
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").read_text().splitlines()))
    assert [(row["case"], row["class"]) for row in rows] == [("a", "cell"), ("b", "cell")]
    assert float(rows[1]["dice"]) == result.cases[1].classes["cell"].dice
    assert rows[1]["truth_voxels"] == "64"


def test_a_truth_alone_is_a_warning_and_a_prediction_alone_an_error(folders):
    write(folders[0] / "c.nii.gz", cube())
    heard = Heard()
    assert len(evaluate_folders(*folders, LABELS, progress=heard).cases) == 2
    assert any("without a prediction: 1 (c)" in text for text in heard.said)
    write(folders[1] / "d.nii.gz", cube())
    write(folders[1] / "e.nii.gz", cube())
    with pytest.raises(SegError) as caught:
        evaluate_folders(*folders, LABELS)
    assert [record.case for record in caught.value.records] == ["d", "e"]


def test_grids_that_differ_are_all_named(folders):
    write(folders[1] / "a.mha", cube(), spacing=(1.0, 1.0, 1.0))
    write(folders[1] / "b.nii.gz", cube()[1:])
    with pytest.raises(SegError) as caught:
        evaluate_folders(*folders, LABELS)
    assert {record.case for record in caught.value.records} == {"a", "b"}


def test_empty_and_absent_folders(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(SegError):
            evaluate_folders(folders[0], folder, LABELS)


def test_further_metrics_are_columns_behind_the_others(folders, tmp_path):
    heard, metrics = Heard(), {"recall": Recall(), "bad": Bad()}
    result = evaluate_folders(*folders, LABELS, progress=heard, metrics=metrics)
    write_evaluation(result, tmp_path / "out")
    assert read_json(tmp_path / "out" / "metrics.json", Evaluation) == result
    assert result.mean["recall"] == pytest.approx(3 / 4)
    assert result.mean["bad"] is None
    assert sum("bad of cell: ZeroDivisionError" in text for text in heard.said) == 2
    header, *rows = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert header == "case,class,dice,hd95_mm,nsd,truth_voxels,predicted_voxels,recall,bad"
    assert [row.split(",")[-2:] for row in rows] == [["1.0", ""], ["0.5", ""]]


def test_metrics_from_before_there_were_further_ones_are_read(folders, tmp_path):
    result = evaluate_folders(*folders, LABELS)
    data = to_data(result)
    del data["larger_is_better"]
    for case in data["cases"]:
        del case["failed"], case["classes"]["cell"]["others"]
    write_json(tmp_path / "metrics.json", data)
    assert read_json(tmp_path / "metrics.json", Evaluation) == result
