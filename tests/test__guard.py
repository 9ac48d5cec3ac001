"""No damaged file is ever read as another volume, and NaN stays NaN."""

import gzip
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import SegError
from seg._guard import ITK, from_image, load, read_geometry, save

VOLUME = np.arange(2 * 6 * 8 * 10, dtype=np.float32).reshape(2, 6, 8, 10)[0]
FLAT = (np.arange(24 * 20) * 7 % 251).astype(np.uint8).reshape(24, 20)
VOLUMES = ["a.nii", "a.nii.gz", "a.nrrd", "raw.nrrd", "a.mha", "raw.mha"]
FLATS = ["a.png", "a.bmp", "a.tif", "lzw.tiff"]


def write(path: Path, array=None) -> Path:
    array = array if array is not None else VOLUME if path.name in VOLUMES else FLAT
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.75, 2.0)[: array.ndim])
    sitk.WriteImage(image, str(path), useCompression=not path.name.startswith("raw"))
    return path


def code(path: Path) -> str:
    with pytest.raises(SegError) as caught:
        load(path)
    (record,) = caught.value.records
    assert record.file == str(path)
    return record.code


@pytest.mark.parametrize("name", [*VOLUMES, *FLATS])
def test_what_was_written_is_read(tmp_path, name):
    raw = load(write(tmp_path / name))
    expected = VOLUME if name in VOLUMES else FLAT
    assert raw.array.shape == (1, *(expected.shape if expected.ndim == 3 else (1, *expected.shape)))
    np.testing.assert_array_equal(raw.array.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", [*VOLUMES, *FLATS])
def test_a_file_that_is_cut_short_is_refused(tmp_path, name):
    whole = write(tmp_path / name).read_bytes()
    for length in random.Random(0).sample(range(1, len(whole) - 1), 40):
        (tmp_path / name).write_bytes(whole[:length])
        try:
            array = load(tmp_path / name).array
        except SegError as error:
            assert {record.code for record in error.records} <= {"SEG-D07", "SEG-D08"}, error  # noqa: PT017
        else:  # nothing of the voxels was lost
            np.testing.assert_array_equal(array.squeeze(), VOLUME if name in VOLUMES else FLAT)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.png"])
def test_a_flipped_bit_of_compressed_voxels_is_found(tmp_path, name):
    path = write(tmp_path / name)
    expected, whole = load(path), path.read_bytes()
    start = {"a.nii.gz": 0, "a.png": 0}.get(name, len(whole) // 2)
    chance = random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[chance.randrange(start, len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            found = load(path)
        except SegError:
            continue
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.geometry == expected.geometry


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.tif"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_kept(tmp_path, name, value):
    array = VOLUME[0].copy() if name == "a.tif" else VOLUME.copy()
    array[2, 3] = value
    found = load(write(tmp_path / name, array)).array
    np.testing.assert_array_equal(found.reshape(array.shape), array)


def test_a_wrong_crc_is_refused(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    packed = bytearray(path.read_bytes())
    packed[-8] ^= 1
    path.write_bytes(packed)
    assert code(path) == "SEG-D07"


def test_members_of_gzip_are_one_file(tmp_path):
    whole = write(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in (whole[:400], whole[400:])))
    np.testing.assert_array_equal(load(path).array[0], VOLUME)


def test_what_cannot_be_read_has_one_record(tmp_path):
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.nii.gz").write_text("no image " * 100)
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no image")
    closed = write(tmp_path / "a.nii.gz")
    codes = {name: code(tmp_path / name) for name in ("empty.nii.gz", "text.nii.gz", "folder.nii.gz", "notes.txt")}
    assert set(codes.values()) == {"SEG-D08"}, codes
    assert code(tmp_path / "link.nii.gz") == "SEG-D09"
    if os.getuid():
        closed.chmod(0)
        assert code(closed) == "SEG-D08"


def test_alpha_is_dropped_and_colours_are_channels(tmp_path):
    colours = np.stack([FLAT, FLAT // 2, FLAT // 3, FLAT // 4], axis=-1)
    for name, channels in (("a.png", 4), ("b.png", 3), ("c.tif", 3)):
        sitk.WriteImage(sitk.GetImageFromArray(colours[..., :channels], isVector=True), str(tmp_path / name))
        raw = load(tmp_path / name)
        np.testing.assert_array_equal(raw.array[:, 0], np.moveaxis(colours[..., :3], -1, 0))
        assert read_geometry(tmp_path / name).channels == raw.geometry.channels == 3


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_fourth_axis_is_channels(tmp_path, name):
    array = np.stack([VOLUME, VOLUME + 1, VOLUME + 2])
    image = sitk.JoinSeries([sitk.GetImageFromArray(part) for part in array])
    sitk.WriteImage(image, str(tmp_path / name))
    raw = load(tmp_path / name)
    np.testing.assert_array_equal(raw.array, array)
    assert raw.geometry.channels == read_geometry(tmp_path / name).channels == 3
    assert raw.geometry.shape == VOLUME.shape


def test_the_voxels_of_a_second_file_belong_to_it(tmp_path):
    path = write(tmp_path / "a.mhd")
    digest = load(path).digest
    data = next(tmp_path.glob("a.*raw"))
    whole = data.read_bytes()
    write(path, VOLUME + 1)
    assert load(path).digest != digest
    data.write_bytes(whole[: len(whole) // 2])
    assert code(path) == "SEG-D07"
    data.unlink()
    assert code(path) == "SEG-D07"


def test_more_than_four_axes_are_no_image():
    with pytest.raises(ValueError, match="complex"):
        from_image(sitk.GetImageFromArray(VOLUME.astype(np.complex64)))


def test_a_spacing_of_zero_is_refused(tmp_path):
    path = write(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes())
    raw[80:84] = np.float32(0).tobytes()
    path.write_bytes(raw)
    assert code(path) == "SEG-D16"


def test_the_digest_is_of_the_content(tmp_path):
    one, other = write(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz"
    shutil.copy(one, other)
    assert load(one).digest == load(other).digest


def test_a_stack_of_pages_has_the_spacing_of_the_file_beside_it(tmp_path):
    path = write(tmp_path / "case_0000.tif", VOLUME.astype(np.uint8))
    assert load(path).geometry.spacing_zyx == (1, 1, 1)
    before = load(path).digest
    (tmp_path / "case.json").write_text('{"spacing": [3.0, 0.5, 1]}')
    raw = load(path)
    assert raw.geometry.spacing_zyx == read_geometry(path).spacing_zyx == (3, 0.5, 1)
    assert raw.digest != before
    np.testing.assert_array_equal(raw.array[0], VOLUME.astype(np.uint8))
    for text in ('{"spacing": [1, 2]}', '{"spacing": [1, 2, 0]}', "[]"):
        (tmp_path / "case.json").write_text(text)
        with pytest.raises(SegError, match="SEG-D16"):
            load(path)


@pytest.fixture
def calls(monkeypatch):
    """What is asked of SimpleITK for files, and that nobody else could ask at that moment."""
    asked = []

    def watched(name, call):
        def alone(*args, **kwargs):
            asked.append(name)
            assert ITK.locked()
            return call(*args, **kwargs)

        return alone

    for name in ("ReadImageInformation", "Execute"):
        monkeypatch.setattr(sitk.ImageFileReader, name, watched(name, getattr(sitk.ImageFileReader, name)))
    monkeypatch.setattr(sitk, "WriteImage", watched("WriteImage", sitk.WriteImage))
    return asked


def test_one_thread_at_a_time_is_in_itk(tmp_path, calls):
    """ITK 5 damages the heap where two threads read headers of NIfTI files (`_guard.ITK`)."""
    files = [tmp_path / name for name in ("a.nii.gz", "a.nrrd", "a.mha")]
    for file in files:
        save(sitk.GetImageFromArray(VOLUME), file)
        load(file)
    (tmp_path / "series").mkdir()
    image = sitk.GetImageFromArray(np.arange(80, dtype=np.int16).reshape(1, 8, 10))
    with ITK:
        sitk.WriteImage(image, str(tmp_path / "series" / "1.dcm"))
    assert load(tmp_path / "series").array.shape == (1, 1, 8, 10)
    assert set(calls) == {"ReadImageInformation", "Execute", "WriteImage"}
    assert not ITK.locked()
