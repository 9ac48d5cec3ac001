"""Which files belong to which case, and which names are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg import Exit, SegError
from seg.inputs import (
    IMAGE_ENDINGS,
    case_name,
    find_inputs,
    group_channels,
    image_ending,
    is_dicom_folder,
    name_records,
)


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def found(source, channels) -> dict[str, list[str]]:
    return {case.id: [path.name for path in case.images] for case in find_inputs(source, channels)}


@given(st.text(alphabet="abc._-0", min_size=1, max_size=12).filter(lambda text: not image_ending(Path(text + "x"))),
       st.sampled_from(IMAGE_ENDINGS))
def test_a_name_and_its_ending_are_taken_apart(name, ending):
    path = Path("x" + name + "y" + ending)
    assert (case_name(path), image_ending(path)) == ("x" + name + "y", ending)


def test_channels_are_grouped(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "notes.txt", "._a_0000.nii.gz")
    assert found(tmp_path, 2) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz"], "b": ["b_0000.nii.gz", "b_0001.nii.gz"]}
    assert set(group_channels(tmp_path.iterdir())) == {"a", "b", "._a"}


def test_one_channel_may_have_its_suffix_or_not(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "b.png")
    assert found(tmp_path, 1) == {"a": ["a_0000.nii.gz"], "b": ["b.png"]}


def test_numbered_pictures_are_no_channels(tmp_path):
    touch(tmp_path, "scan_0000.png", "scan_0001.png", "scan_0002.png")
    assert list(found(tmp_path, 1)) == ["scan_0000", "scan_0001", "scan_0002"]


def test_plain_names_for_files_with_all_channels(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    assert found(tmp_path, 4) == {"a": ["a.nii.gz"], "b": ["b.nii.gz"]}


def test_a_missing_channel_is_asked_for_by_name(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz")
    assert found(tmp_path, 2)["b"] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_a_file_or_a_list_of_files(tmp_path):
    touch(tmp_path, "a.nii.gz", "b_0000.nii.gz", "c.nii.gz")
    assert found(tmp_path / "a.nii.gz", 1) == {"a": ["a.nii.gz"]}
    assert found([tmp_path / "a.nii.gz", tmp_path / "b_0000.nii.gz"], 1) == {"a": ["a.nii.gz"], "b": ["b_0000.nii.gz"]}


def test_a_series_is_a_case_named_after_its_folder(tmp_path):
    for name in ("one", "two"):
        touch(tmp_path / "in" / name, "1.dcm", "2.dcm")
    assert is_dicom_folder(tmp_path / "in" / "one")
    assert found(tmp_path / "in", 1) == {"one": ["one"], "two": ["two"]}
    assert found(tmp_path / "in" / "one", 1) == {"one": ["one"]}


def test_a_series_is_known_without_its_ending(tmp_path):
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert is_dicom_folder(tmp_path)
    (tmp_path / "IM0001").write_bytes(bytes(200))
    assert not is_dicom_folder(tmp_path)


@pytest.mark.parametrize("names", [(), ("notes.txt", "data.csv")])
def test_nothing_to_predict_is_a_mistake_of_use(tmp_path, names):
    with pytest.raises(SegError) as caught:
        find_inputs(touch(tmp_path, *names), 1)
    assert caught.value.exit_code == Exit.USAGE
    assert all(name in str(caught.value) for name in names)
    with pytest.raises(SegError, match="no such file"):
        find_inputs(tmp_path / "absent", 1)


@pytest.mark.parametrize("names", [("a.nii.gz", "a_0000.nii.gz"), ("a.nii.gz", "a.png"), ("Case.png", "case.png")])
def test_two_files_of_one_case_are_refused(tmp_path, names):
    with pytest.raises(SegError) as caught:
        find_inputs(touch(tmp_path, *names), 1)
    assert {record.code for record in caught.value.records} == {"SEG-D18"}


@pytest.mark.parametrize("name", ["case 1", "fall_ä", "a.b-c+d", "患者7", "x (2)", "A" * 150])
def test_names_that_files_can_have(name):
    assert name_records([name]) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "-rf", ".hidden", "a\nb", "", "A" * 300, "a\0b", "$HOME"])
def test_names_that_no_file_should_have(name):
    (record,) = name_records([name])
    assert record.code == "SEG-D18"
    assert "\n" not in str(record)


def test_names_that_differ_by_upper_case_alone():
    assert [record.case for record in name_records(["Case1", "case1", "case2"])] == ["case1"]
