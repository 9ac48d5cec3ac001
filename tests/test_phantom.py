import json

import numpy as np
import pytest
import SimpleITK

from seg import SegError, read_image, read_label
from seg.phantom import COARSE_MM, FINE_MM, LARGE_MM, SMALL_MM, TUMOUR_MM, write_phantom


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_phantom(tmp_path / name, cases=2, seed=seed, shape=(12, 16, 16))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_more_cases_leave_the_first_as_they_were(tmp_path):
    write_phantom(tmp_path, cases=1, shape=(12, 16, 16))
    first = contents(tmp_path)
    write_phantom(tmp_path, cases=2, shape=(12, 16, 16))
    for name, data in contents(tmp_path).items():
        assert name == "dataset.json" or data == first.get(name, data)


def test_volumes_differ_in_grid_and_scanner_and_have_both_classes(tmp_path):
    write_phantom(tmp_path, cases=6)
    description = json.loads((tmp_path / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "organ": 1, "tumour": 2}
    assert description["numTraining"] == 6
    spacings, brightness = [], []
    for label in sorted((tmp_path / "labelsTr").iterdir()):
        volume = read_image([tmp_path / "imagesTr" / label.name.replace(".nii.gz", "_0000.nii.gz")])
        truth, geometry = read_label(label)
        assert volume.array.shape[1:] == truth.shape
        assert set(np.unique(truth)) == {0, 1, 2}
        assert geometry.direction != (1, 0, 0, 0, 1, 0, 0, 0, 1)
        spacings.append(volume.spacing)
        brightness.append(float(volume.array.max()))
    assert len(set(spacings)) == 6
    assert max(brightness) > 1.8 * min(brightness)


def test_a_ball_is_a_tumour_by_its_size_in_mm(tmp_path):
    """Tumours are of one size in mm; in voxels they are as other balls are in images of the other kind."""
    write_phantom(tmp_path, cases=12)
    low, high = (4 / 3 * np.pi * radius**3 for radius in TUMOUR_MM)
    in_plane = []
    for path in sorted((tmp_path / "labelsTr").iterdir()):
        parts = SimpleITK.ConnectedComponent(SimpleITK.ReadImage(str(path)) == 2)
        sizes = np.bincount(SimpleITK.GetArrayFromImage(parts).ravel())[1:] * np.prod(parts.GetSpacing())
        assert (sizes > 0.7 * low).all()
        assert (sizes < 1.3 * high).all()
        in_plane.append(parts.GetSpacing()[0])
    assert min(in_plane) <= FINE_MM[1]
    assert max(in_plane) >= COARSE_MM[0]
    fine, coarse = np.mean(FINE_MM), np.mean(COARSE_MM)
    assert np.mean(TUMOUR_MM) / coarse == pytest.approx(np.mean(SMALL_MM) / fine, rel=0.05)
    assert np.mean(LARGE_MM) / coarse == pytest.approx(np.mean(TUMOUR_MM) / fine, rel=0.05)


def test_flat_images_are_8_bit_png(tmp_path):
    write_phantom(tmp_path, cases=2, dims=2)
    label = tmp_path / "labelsTr" / "phantom_000.png"
    image = SimpleITK.ReadImage(str(tmp_path / "imagesTr" / "phantom_000_0000.png"))
    assert image.GetPixelID() == SimpleITK.sitkUInt8
    assert set(np.unique(read_label(label)[0])) == {0, 1, 2}
    assert json.loads((tmp_path / "dataset.json").read_text())["file_ending"] == ".png"


@pytest.mark.parametrize(("dims", "shape"), [(3, (20, 24, 28)), (2, (40, 30))])
def test_a_given_shape_is_kept(tmp_path, dims, shape):
    write_phantom(tmp_path, cases=1, dims=dims, shape=shape)
    assert read_label(next((tmp_path / "labelsTr").iterdir()))[0].shape[-dims:] == shape


def test_other_peoples_folders_and_odd_shapes_are_refused(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "mine_0000.nii.gz").write_bytes(b"")
    with pytest.raises(SegError, match="other files"):
        write_phantom(tmp_path, cases=1)
    with pytest.raises(SegError):
        write_phantom(tmp_path / "new", dims=3, shape=(16, 16))
