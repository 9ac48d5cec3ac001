"""Two folders with equal names: cases, channels and classes come from the files alone."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import SegError
from seg_layouts.folders import FoldersLayout

LAYOUT = FoldersLayout()


def write(path: Path, array=None, *, colours=False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array if array is not None else np.full((4, 5), 9, np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=colours), str(path))


def mask(*values) -> np.ndarray:
    return np.resize(np.array(values, np.uint8), (4, 5))


def made(root: Path, values=(0, 255), images="images", labels="labels", names=("a.png", "b.png")) -> Path:
    for name in names:
        write(root / images / name)
        write(root / labels / name, mask(*values))
    return root


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("imagesTr", "labelsTr"), ("images", "masks"),
                                                ("Images", "Masks")])
def test_folders_of_several_names(tmp_path, images, labels):
    root = made(tmp_path, images=images, labels=labels)
    assert LAYOUT.recognises(root)
    found = LAYOUT.read(root, None)
    assert [(case.id, case.images[0].parent.name, case.label.parent.name) for case in found.cases] == [
        ("a", images, labels), ("b", images, labels)]
    assert found.faults == ()
    assert found.description.file_ending == ".png"
    assert found.description.channel_names == ("image",)


@pytest.mark.parametrize(("values", "names", "file_values"), [
    ((0, 255), ["background", "foreground"], {1: 255}),
    ((0, 1), ["background", "foreground"], {}),
    ((0, 1, 2), ["background", "label_1", "label_2"], {}),
    ((0, 85, 170), ["background", "label_85", "label_170"], {1: 85, 2: 170}),
    ((0,), ["background"], {}),
])
def test_classes_are_the_values_that_occur(tmp_path, values, names, file_values):
    labels = LAYOUT.read(made(tmp_path, values), None).labels
    assert list(labels.values) == names
    assert list(labels.values.values()) == list(range(len(names)))
    assert labels.file_values == file_values


def test_labels_that_are_given_are_taken(tmp_path):
    labels = LAYOUT.read(made(tmp_path), {"cell": 255}).labels
    assert (labels.values, labels.file_values) == ({"background": 0, "cell": 1}, {1: 255})


def test_a_photograph_is_no_label_map(tmp_path):
    root = made(tmp_path, range(1, 21))
    for number in range(5):
        write(root / "labels" / f"{number}.png", mask(*range(20 * number, 20 * number + 20)))
    with pytest.raises(SegError) as caught:
        LAYOUT.read(root, None)
    assert [record.code for record in caught.value.records] == ["SEG-D10"]


def test_colours_are_three_channels(tmp_path):
    for name in ("a.png", "b.png"):
        write(tmp_path / "images" / name, np.ones((4, 5, 3), np.uint8), colours=True)
        write(tmp_path / "labels" / name, mask(0, 1))
    assert LAYOUT.read(tmp_path, None).description.channel_names == ("R", "G", "B")


def test_suffixes_are_channels_where_label_maps_have_none(tmp_path):
    for name in ("a_0000.png", "a_0001.png", "b_0000.png"):
        write(tmp_path / "images" / name)
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "labels" / name, mask(0, 1))
    found = LAYOUT.read(tmp_path, None)
    assert found.description.channel_names == ("channel_0", "channel_1")
    assert [(case.id, len(case.images)) for case in found.cases] == [("a", 2), ("b", 2)]
    told = {(record.case, Path(record.file or "").name, record.severity) for record in found.faults}
    assert told == {("b", "b_0001.png", "error"), ("c", "c.png", "warning")}


def test_numbers_are_no_channels_where_label_maps_have_them_too(tmp_path):
    found = LAYOUT.read(made(tmp_path, names=("s_0000.png", "s_0001.png", "s_0002.png")), None)
    assert [case.id for case in found.cases] == ["s_0000", "s_0001", "s_0002"]
    assert found.faults == ()


def test_an_image_without_a_label_map(tmp_path):
    root = made(tmp_path)
    (root / "labels" / "b.png").unlink()
    (record,) = LAYOUT.read(root, None).faults
    assert (record.code, record.case) == ("SEG-D09", "b")


def test_the_format_of_image_and_label_map_may_differ(tmp_path):
    write(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.png", mask(0, 1))
    found = LAYOUT.read(tmp_path, None)
    assert found.cases[0].label == tmp_path / "labels" / "a.png"
    assert found.faults == ()


def test_series_are_cases(tmp_path):
    write(tmp_path / "labels" / "case7.nii.gz", np.zeros((2, 4, 5), np.uint8))
    folder = tmp_path / "images" / "case7"
    folder.mkdir(parents=True)
    (folder / "1.dcm").touch()
    found = LAYOUT.read(tmp_path, {"cell": 1})
    assert [(case.id, case.images) for case in found.cases] == [("case7", (folder,))]


def test_other_folders_are_not_recognised(tmp_path):
    assert not LAYOUT.recognises(tmp_path)
    assert not LAYOUT.recognises(tmp_path / "absent")
    made(tmp_path)
    (tmp_path / "dataset.json").touch()
    assert not LAYOUT.recognises(tmp_path)
