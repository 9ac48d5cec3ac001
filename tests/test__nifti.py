"""Our reading of NIfTI voxels equals SimpleITK's, wherever SimpleITK's is right."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg._guard import load
from seg._nifti import read_header, read_voxels

CHANCE = np.random.default_rng(0)


def made(dtype: str, slope: float = 0.0, intercept: float = 0.0, dim=(3, 5, 4, 3)) -> bytes:
    """A NIfTI file written by hand, in the byte order of `dtype`."""
    kind = np.dtype(dtype)
    code = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
    order = ">" if dtype.startswith(">") else "<"
    header = np.zeros(352, np.uint8)

    def put(at, kind, *values):
        raw = np.array(values, f"{order}{kind}").view(np.uint8)
        header[at: at + len(raw)] = raw

    full = (*dim, *(1,) * (8 - len(dim)))
    put(0, "i4", 348)
    put(40, "i2", *full)
    put(70, "i2", code[dtype[1:]], kind.itemsize * 8)
    put(76, "f4", 1, 0.5, 0.75, 2, 1, 1, 1, 1)
    put(108, "f4", 352, slope, intercept)
    header[344:348] = np.frombuffer(b"n+1\0", np.uint8)
    values = CHANCE.integers(0, 100, int(np.prod(dim[1:]))).astype(kind)
    return header.tobytes() + values.tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4", "i8", "u8"])
def test_every_type_is_read_as_simpleitk_reads_it(tmp_path, order, kind):
    path = tmp_path / "a.nii"
    path.write_bytes(made(order + kind))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    found = load(path).array
    np.testing.assert_array_equal(found[0], expected)
    assert found.dtype.newbyteorder("=") == expected.dtype


@pytest.mark.parametrize("kind", ["<i2", ">u1", "<f4", "<f8"])
@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -3.25), (1.0, 7.0), (0.1, 0.0), (0.0, 0.0), (1.0, 0.0)])
def test_slope_and_intercept_are_applied_as_simpleitk_does(tmp_path, kind, slope, intercept):
    path = tmp_path / "a.nii"
    path.write_bytes(made(kind, slope, intercept))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    found = load(path).array[0]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.newbyteorder("=") == expected.dtype


@pytest.mark.parametrize("dim", [(2, 5, 4), (3, 5, 4, 1), (3, 5, 4, 3), (4, 5, 4, 3, 1), (4, 5, 4, 3, 2),
                                 (4, 5, 4, 1, 2)])
def test_axes_are_those_of_simpleitk(tmp_path, dim):
    path = tmp_path / "a.nii"
    path.write_bytes(made("<i2", dim=dim))
    image = sitk.ReadImage(str(path))
    raw = load(path)
    assert raw.geometry.size == image.GetSize()[:3]
    np.testing.assert_array_equal(raw.array.ravel(), sitk.GetArrayFromImage(image).ravel())


def test_colours(tmp_path):
    colours = CHANCE.integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(load(path).array, np.moveaxis(expected, -1, 0))


def test_a_header_cannot_ask_for_more_than_is_there():
    huge = bytearray(made("<i2"))
    huge[42:48] = np.array([32767] * 3, "<i2").tobytes()
    assert read_header(bytes(huge)).size > 1 << 40
    for data in (bytes(huge), gzip.compress(bytes(huge))):
        with pytest.raises(ValueError, match="cut short"):
            read_voxels(data)


def test_a_gzip_bomb_takes_no_more_memory_than_its_header_says():
    import tracemalloc

    raw = gzip.compress(made("<i2") + bytes(50_000_000), 9)
    tracemalloc.start()
    found = read_voxels(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.size == 60
    assert peak < 4_000_000


@pytest.mark.parametrize(("at", "value"), [(0, 7), (0, 540), (40, 9), (40, 0), (42, 0), (70, 1)])
def test_a_senseless_header_is_refused(at, value):
    raw = bytearray(made("<i2"))
    raw[at: at + 2] = np.array([value], "<i2").tobytes()
    with pytest.raises(ValueError, match=r"no NIfTI|no sense|not read"):
        read_voxels(bytes(raw))


def test_real_cases_are_read_as_simpleitk_reads_them():
    folder = Path(__file__).parents[2] / "shared/data/hippocampus"
    if not folder.is_dir():
        pytest.skip("the real data are not beside the repository")
    for path in sorted(folder.glob("*Tr/*.nii.gz"))[::4]:
        image, raw = sitk.ReadImage(str(path)), load(path)
        np.testing.assert_array_equal(raw.array[0], sitk.GetArrayFromImage(image))
        assert (raw.geometry.size, raw.geometry.spacing) == (image.GetSize(), image.GetSpacing())
        assert (raw.geometry.origin, raw.geometry.direction) == (image.GetOrigin(), image.GetDirection())
