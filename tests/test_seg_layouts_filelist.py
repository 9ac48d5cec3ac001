"""Lists of files: CSV and JSON say the same, and each fault has its line."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import SegError
from seg_layouts.filelist import FileListLayout

LAYOUT = FileListLayout()


@pytest.fixture
def root(tmp_path) -> Path:
    image = sitk.GetImageFromArray(np.arange(20, dtype=np.uint8).reshape(4, 5) % 3)
    for name in ("a", "b", "truth_a", "truth_b"):
        sitk.WriteImage(image, str(tmp_path / f"{name}.png"))
    return tmp_path


def listed(root: Path, text, name: str = "list.csv") -> Path:
    (root / name).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return root / name


def problems(path: Path) -> list[str]:
    with pytest.raises(SegError) as caught:
        LAYOUT.read(path, None)
    assert {record.code for record in caught.value.records} == {"SEG-D14"}
    return [record.found for record in caught.value.records]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_table(root, sign):
    path = listed(root, "image,label\na.png,truth_a.png\nb.png,truth_b.png\n".replace(",", sign))
    assert LAYOUT.recognises(path)
    found = LAYOUT.read(path, None)
    assert [(case.id, case.images, case.label) for case in found.cases] == [
        ("a", (root / "a.png",), root / "truth_a.png"), ("b", (root / "b.png",), root / "truth_b.png")]
    assert found.labels.values == {"background": 0, "label_1": 1, "label_2": 2}
    assert found.description.channel_names == ("image",)
    assert found.faults == ()


def test_channels_cases_groups_and_strata(root):
    text = "image_1,image_0,label,case,group,stratum\nb.png,a.png,truth_a.png,first,patient 1,north\n"
    (case,) = LAYOUT.read(listed(root, "\ufeff" + text), None).cases
    assert (case.id, case.group, case.stratum) == ("first", "patient 1", "north")
    assert [path.name for path in case.images] == ["a.png", "b.png"]


def test_json_says_the_same(root):
    rows = [{"image": "a.png", "label": "truth_a.png", "group": "x", "stratum": 3},
            {"image": "b.png", "label": "truth_b.png"}]
    one = LAYOUT.read(listed(root, rows, "one.json"), None)
    other = LAYOUT.read(listed(root, {"cases": rows, "labels": {"background": 0, "p": 1, "q": 2},
                                      "channel_names": ["CT"]}, "two.json"), None)
    assert one.cases == other.cases
    assert [(case.group, case.stratum) for case in one.cases] == [("x", "3"), (None, None)]
    assert other.description.channel_names == ("CT",)
    assert list(other.labels.values) == ["background", "p", "q"]


def test_labels_that_are_given_are_taken(root):
    labels = LAYOUT.read(listed(root, "image,label\na.png,truth_a.png\n"), {"cell": 2}).labels
    assert (labels.values, labels.file_values) == ({"background": 0, "cell": 1}, {1: 2})


def test_missing_files_are_named(root):
    (record,) = LAYOUT.read(listed(root, "image,label\na.png,absent.png\n"), {"cell": 2}).faults
    assert (record.code, record.case, Path(record.file).name) == ("SEG-D09", "a", "absent.png")


def test_two_cases_of_one_name(root):
    path = listed(root, "image,label\na.png,truth_a.png\na.png,truth_b.png\n")
    assert [record.code for record in LAYOUT.read(path, {"cell": 2}).faults] == ["SEG-D18"]


@pytest.mark.parametrize(("text", "places"), [
    ("image,label\na.png,\n$HOME/b.png,truth_b.png\n", ["line 2", "line 3.image"]),
    ("picture,label\na.png,truth_a.png\n", ["line 2.picture", "line 2"]),
    ("image,image_0,label\na.png,b.png,truth_a.png\n", ["line 2"]),
    ("image,label\n", ["$"]),
    ("", ["$"]),
])
def test_each_fault_of_a_table_has_its_line(root, text, places):
    assert [found.partition(": ")[0] for found in problems(listed(root, text))] == places


@pytest.mark.parametrize(("data", "places"), [
    ({"cases": [{"image": "a.png"}, 7]}, ["$.cases[1]", "$.cases[0]"]),
    ({"labels": {"background": 0}}, ["$.cases"]),
    ({"cases": [{"image": "a.png", "label": "b.png"}], "labels": {"background": 0, "x": 2}}, ["$.labels.x"]),
    ({"cases": [{"image": "a.png", "label": "b.png"}], "labels": 3}, ["$.labels"]),
    ([{"image": 3, "label": "b.png", "group": [], "stratum": 0.5}], ["$[0].image", "$[0].group", "$[0].stratum"]),
    ([], ["$"]), ("{", ["$"]), ("7", ["$"]),
])
def test_each_fault_of_a_json_list_has_its_place(root, data, places):
    found = problems(listed(root, data, "list.json"))
    assert [text.partition(": ")[0] for text in found] == places


def test_other_files_are_not_recognised(root):
    assert not LAYOUT.recognises(root)
    assert not LAYOUT.recognises(root / "a.png")
    assert not LAYOUT.recognises(root / "absent.csv")
    assert not LAYOUT.recognises(listed(root, {}, "dataset.json"))
