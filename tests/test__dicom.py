"""A DICOM series is a regular stack, or it is refused; its spacing never changes in silence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import SegError
from seg._dicom import read_series

UID = "1.2.826.0.1.3680043.2.1125."


def write_slice(path: Path, number: int, position=None, *, series="1", rows=8, direction=(1, 0, 0, 0, 1, 0)) -> None:
    plane = sitk.GetImageFromArray(np.full((1, rows, 10), number, np.int16))
    plane.SetSpacing((0.5, 0.5, 1.0))
    position = position if position is not None else (-5.0, 3.0, 2.5 * number)
    tags = {
        "0008|0060": "MR", "0020|000d": UID + "9", "0020|000e": UID + series, "0020|0013": str(number),
        "0020|0032": "\\".join(map(str, position)), "0020|0037": "\\".join(map(str, direction)),
        "0008|0018": f"{UID}{series}.{number}.{abs(hash(path.name)) % 10000}",
    }  # fmt: skip
    for tag, value in tags.items():
        plane.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(plane)


@pytest.fixture
def series(tmp_path) -> Path:
    folder = tmp_path / "case_7"
    folder.mkdir()
    for number in range(7):
        write_slice(folder / f"{(number * 3) % 7}.dcm", number)  # names say nothing of the order
    return folder


def slice_of(folder: Path, number: int) -> Path:
    return folder / f"{(number * 3) % 7}.dcm"


def refused(folder: Path) -> str:
    with pytest.raises(SegError) as caught:
        read_series(folder)
    assert {record.code for record in caught.value.records} == {"SEG-D17"}
    return str(caught.value)


def test_slices_are_stacked_by_position(series):
    raw = read_series(series)
    np.testing.assert_array_equal(raw.array[0, :, 0, 0], range(7))
    assert raw.geometry.size == (10, 8, 7)
    np.testing.assert_allclose(raw.geometry.spacing, (0.5, 0.5, 2.5))
    np.testing.assert_allclose(raw.geometry.origin, (-5.0, 3.0, 0.0))
    assert raw.notes == ()


def test_a_missing_slice(series):
    slice_of(series, 3).unlink()
    assert "5 mm between" in refused(series)
    assert "1 slices seem to be missing" in refused(series)


def test_a_double_slice(series):
    write_slice(series / "copy.dcm", 3)
    assert "one slice at each position" in refused(series)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_slice_that_is_cut_short_is_named(series, share):
    path = slice_of(series, 3)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    assert str(path) in refused(series)


def test_every_broken_slice_is_named(series):
    for number in (1, 4):
        slice_of(series, number).write_bytes(b"")
    assert refused(series).count("the slice is empty") == 2


def test_two_series(series):
    write_slice(series / "other.dcm", 9, series="2")
    assert "2 series" in refused(series)


def test_a_slice_of_another_size(series):
    write_slice(series / "scout.dcm", 9, rows=12)
    assert "scout.dcm" in refused(series)


def test_a_slice_of_another_direction(series):
    write_slice(series / "scout.dcm", 9, direction=(0, 1, 0, 0, 0, 1))
    assert "scout.dcm" in refused(series)


def test_a_tilted_stack(tmp_path):
    for number in range(4):
        write_slice(tmp_path / f"{number}.dcm", number, (-5.0, 3.0 + 0.4 * number, 2.5 * number))
    assert "shifted" in refused(tmp_path)


def test_other_files_are_told_and_left_out(series):
    (series / "readme.txt").write_text("of no matter")
    raw = read_series(series)
    assert "readme.txt" in raw.notes[0].found
    assert raw.notes[0].severity == "note"
    (series / "readme.txt").unlink()
    assert read_series(series).digest == raw.digest


def test_a_folder_without_a_series(tmp_path):
    assert "no DICOM file" in refused(tmp_path)


def test_a_real_series_is_read_as_simpleitk_reads_it(tmp_path):
    folder = Path(__file__).parents[2] / "shared/data/dicom/hippocampus_crop"
    if not folder.is_dir():
        pytest.skip("the real data are not beside the repository")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image, raw = reader.Execute(), read_series(folder)
    np.testing.assert_array_equal(raw.array[0], sitk.GetArrayFromImage(image))
    assert raw.geometry.size == image.GetSize()
    np.testing.assert_allclose(raw.geometry.spacing, image.GetSpacing())
    np.testing.assert_allclose(raw.geometry.origin, image.GetOrigin())
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "17.dcm").unlink()
    assert "missing" in refused(tmp_path / "copy")
