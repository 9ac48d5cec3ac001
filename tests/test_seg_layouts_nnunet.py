"""nnU-Net's raw layout: what it says is read, whatever is wrong with it is told at once."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import SegError
from seg_layouts.nnunet import NnUNetLayout

JSON = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "l1": 1, "l2": 2}, "numTraining": 3,
        "file_ending": ".nii.gz"}  # fmt: skip
LAYOUT = NnUNetLayout()


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, 3, 4), np.uint8)), str(path))


def made(root: Path, channels=1, cases=("a", "b", "c"), **changes) -> Path:
    for case in cases:
        for channel in range(channels):
            image(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        image(root / "labelsTr" / f"{case}.nii.gz")
    names = {str(channel): "CT" for channel in range(channels)}
    data = {key: value for key, value in (JSON | {"channel_names": names} | changes).items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(data))
    return root


def problems(root: Path) -> list[str]:
    """The faults of dataset.json, whether it can be read in spite of them or not."""
    try:
        records = LAYOUT.read(root, None).faults
    except SegError as error:
        records = error.records
    assert all(record.code == "SEG-D14" and record.file == str(root / "dataset.json") for record in records)
    return [record.found for record in records]


def test_cases_with_their_channels(tmp_path):
    root = made(tmp_path / "Dataset004_Made", channels=2)
    assert LAYOUT.recognises(root)
    found = LAYOUT.read(root, None)
    assert [case.id for case in found.cases] == ["a", "b", "c"]
    assert [path.name for path in found.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert found.cases[1].label == root / "labelsTr" / "b.nii.gz"
    assert found.faults == ()
    assert found.description.name == "Dataset004_Made"
    assert found.description.channel_names == ("CT", "CT")
    assert found.labels.values == JSON["labels"]


def test_the_json_file_itself_will_do(tmp_path):
    root = made(tmp_path)
    assert LAYOUT.recognises(root / "dataset.json")
    assert LAYOUT.read(root / "dataset.json", None) == LAYOUT.read(root, None)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    root = made(tmp_path)
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text, encoding="utf-8-sig")
    assert problems(root) == []


def test_regions_and_ignore(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    found = LAYOUT.read(made(tmp_path, labels=labels, regions_class_order=[1, 2]), None).labels
    assert found.has_regions
    assert found.ignore == 3
    assert found.foreground == {"whole": (1, 2), "core": (2,)}
    assert found.regions_class_order == (1, 2)


@pytest.mark.parametrize(("changes", "place"), [
    ({"labels": {"background": 0, "l1": 1, "l2": 3}}, "$.labels.l2"),
    ({"labels": {"l1": 1, "l2": 2}}, "$.labels.background"),
    ({"labels": {"background": 1, "l1": 0}}, "$.labels.background"),
    ({"labels": {"background": 0, "l1": "1"}}, "$.labels.l1"),
    ({"labels": {"background": 0, "l1": True}}, "$.labels.l1"),
    ({"labels": {"background": 0, "l1": 1, "l2": 1}}, "$.labels.l2"),
    ({"labels": {"background": 0, "ignore": 1, "l1": 2}}, "$.labels.ignore"),
    ({"labels": {"background": 0, "r": [1, 2]}}, "$.regions_class_order"),
    ({"labels": {"background": 0, "r": [1, 2]}, "regions_class_order": [1, 2]}, "$.regions_class_order"),
    ({"labels": None}, "$.labels"),
    ({"labels": [0, 1]}, "$.labels"),
    ({"channel_names": None}, "$.channel_names"),
    ({"channel_names": {"1": "CT"}}, "$.channel_names"),
    ({"numTraining": None}, "$.numTraining"),
    ({"numTraining": "3"}, "$.numTraining"),
    ({"numTraining": 4}, "$.numTraining"),
    ({"file_ending": None}, "$.file_ending"),
    ({"file_ending": ".nii"}, "$.file_ending"),
])  # fmt: skip
def test_each_fault_of_the_json_has_its_place(tmp_path, changes, place):
    found = problems(made(tmp_path, **changes))
    assert [text.partition(":")[0] for text in found] == [place], found


def test_all_faults_of_the_json_at_once(tmp_path):
    labels = {"l1": 1, "l2": 3}
    found = problems(made(tmp_path, labels=labels, numTraining=7, file_ending=".mha", channel_names={"x": "CT"}))
    places = {text.partition(":")[0] for text in found}
    assert {"$.labels.background", "$.labels.l2", "$.file_ending", "$.channel_names"} <= places


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", '{"labels": }', "\x00"])
def test_broken_json_is_recognised_and_refused(tmp_path, text):
    root = made(tmp_path)
    (root / "dataset.json").write_text(text)
    assert LAYOUT.recognises(root)
    (found,) = problems(root)
    assert found.startswith("$: ")


def test_a_key_that_stands_twice(tmp_path):
    root = made(tmp_path)
    text = (root / "dataset.json").read_text().replace('"l1": 1', '"l1": 1, "l1": 1')
    (root / "dataset.json").write_text(text)
    assert "'l1' stands twice" in str(problems(root))


def test_what_is_missing_or_too_much_is_named(tmp_path):
    root = made(tmp_path, channels=2, numTraining=4)
    (root / "imagesTr" / "a_0001.nii.gz").unlink()
    image(root / "imagesTr" / "b_0002.nii.gz")
    image(root / "imagesTr" / "plain.nii.gz")
    (root / "labelsTr" / "c.nii.gz").unlink()
    image(root / "labelsTr" / "d.nii.gz")
    image(root / "imagesTr" / "e_0000.nii.gz")
    found = LAYOUT.read(root, None)
    told = {(record.code, record.case, Path(record.file or "").name, record.severity) for record in found.faults}
    assert told == {
        ("SEG-D09", "a", "a_0001.nii.gz", "error"), ("SEG-D09", "b", "b_0002.nii.gz", "error"),
        ("SEG-D09", None, "plain.nii.gz", "error"), ("SEG-D09", "c", "c_0000.nii.gz", "error"),
        ("SEG-D09", "d", "d.nii.gz", "warning"), ("SEG-D09", "e", "e_0001.nii.gz", "error"),
        ("SEG-D09", "e", "e_0000.nii.gz", "error"),
    }  # fmt: skip


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(JSON))
    with pytest.raises(SegError) as caught:
        LAYOUT.read(tmp_path, None)
    assert [Path(record.file).name for record in caught.value.records] == ["imagesTr", "labelsTr"]


def test_listed_cases_take_the_place_of_the_folders(tmp_path):
    for name in ("x/one.nii.gz", "x/two.nii.gz", "y/truth.nii.gz"):
        image(tmp_path / name)
    listed = {"k": {"images": ["x/one.nii.gz", str(tmp_path / "x/two.nii.gz")], "label": "./y/truth.nii.gz"}}
    root = made(tmp_path, cases=(), channels=2, dataset=listed, numTraining=1)
    found = LAYOUT.read(root, None)
    assert found.faults == ()
    assert found.cases[0].images == (tmp_path / "x/one.nii.gz", tmp_path / "x/two.nii.gz")


@pytest.mark.parametrize("path", ["$HOME/a.nii.gz", "${HOME}/a.nii.gz", "~/a.nii.gz", "%APPDATA%/a.nii.gz", "", 7, None,
                                  "a\nb.nii.gz"])
def test_variables_in_paths_are_never_expanded(tmp_path, path):
    listed = {"k": {"images": [path], "label": "l.nii.gz"}}
    (found,) = problems(made(tmp_path, cases=(), dataset=listed, numTraining=1))
    assert found.startswith("$.dataset.k.images[0]: ")


def test_a_case_may_not_name_another_folder(tmp_path):
    image(tmp_path / "a.nii.gz")
    listed = {"../../x": {"images": ["a.nii.gz"], "label": "a.nii.gz"}}
    found = LAYOUT.read(made(tmp_path, cases=(), dataset=listed, numTraining=1), None)
    assert [record.code for record in found.faults] == ["SEG-D18"]


def test_labels_that_are_given_take_the_place_of_the_jsons(tmp_path):
    found = LAYOUT.read(made(tmp_path), {"cell": 255, "wall": 7}).labels
    assert found.values == {"background": 0, "cell": 1, "wall": 2}
    assert found.file_values == {1: 255, 2: 7}


def test_other_folders_are_not_recognised(tmp_path):
    assert not LAYOUT.recognises(tmp_path)
    assert not LAYOUT.recognises(tmp_path / "absent")
    (tmp_path / "dataset.json").write_text('{"training": []}')
    assert not LAYOUT.recognises(tmp_path)
