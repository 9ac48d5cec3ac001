"""The fingerprint: cropping, foreground, faults of cases; and nnU-Net's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from seg import Case, Dataset, Description, Labels, SegError, Silent
from seg.nnunet_files import fingerprint_to_nnunet
from seg.stages.fingerprint import make_fingerprint
from seg_layouts.nnunet import NnUNetLayout
from seg_nnunet.fingerprint import NnUNetFingerprinter

PEER = Path(__file__).parents[2] / "shared" / "peer" / "preprocess"
QUICK = NnUNetFingerprinter(samples=3000)


def write(path, array, spacing=(3.0, 1.0, 2.0)):
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    SimpleITK.WriteImage(image, str(path))
    return path


def data_set(folder, pairs, values=None):
    """Cases of one channel from (image, label) arrays (Z, Y, X)."""
    found = [Case(id=f"c{index}", images=(write(folder / f"i{index}.nii.gz", image.astype(np.float32)),),
                  label=write(folder / f"l{index}.nii.gz", label.astype(np.uint8)))
             for index, (image, label) in enumerate(pairs)]
    labels = Labels(values=values or {"background": 0, "a": 1, "b": 2})
    description = Description(name="d", channel_names=("MR",), labels=labels, training_cases=len(found))
    return Dataset(description=description, root=folder, layout="test", cases=tuple(found))


def case(value=5.0, label=1):
    image, mask = np.zeros((6, 8, 10)), np.zeros((6, 8, 10))
    image[1:5, 2:8, 3:6] = value
    mask[2, 3, 4] = label
    return image, mask


def test_it_holds_what_lies_in_the_non_zero_region(tmp_path):
    image, label = case()
    label[0, 0, 0] = 1  # outside: not in the intensities, but of the class
    image[2, 3, 5], label[2, 3, 5] = 9.0, 2
    found = make_fingerprint(data_set(tmp_path, [(image, label), case(7.0)]), QUICK, source="digest")
    assert found.shapes == ((4, 6, 3), (4, 6, 3))
    assert found.spacings == ((3.0, 1.0, 2.0),) * 2
    assert found.relative_size_after_cropping == pytest.approx(72 / 480)
    assert (found.intensities[0].min, found.intensities[0].median, found.intensities[0].max) == (5.0, 7.0, 9.0)
    assert (found.class_voxels, found.class_cases) == ({"a": 3, "b": 1}, {"a": 2, "b": 1})
    assert (sum(found.orientations.values()), found.source) == (2, "digest")


def test_the_ignore_label_is_foreground_and_no_class(tmp_path):
    pairs = [case(5.0, 2)]
    found = QUICK.fingerprint(data_set(tmp_path, pairs, {"background": 0, "a": 1, "ignore": 2}), Silent())
    assert found.intensities[0].mean == 5.0
    assert found.class_voxels == {"a": 0}


def test_a_case_without_foreground_adds_nothing_and_none_at_all_is_refused(tmp_path):
    found = QUICK.fingerprint(data_set(tmp_path, [case(5.0), case(9.0, 0)]), Silent())
    assert found.intensities[0].max == 5.0
    with pytest.raises(SegError, match="SEG-D13"):
        QUICK.fingerprint(data_set(tmp_path, [case(9.0, 0)]), Silent())


def test_faults_of_all_cases_come_together(tmp_path):
    dataset = data_set(tmp_path, [case(), case(), case()])
    (tmp_path / "i0.nii.gz").write_bytes(b"no image")
    write(tmp_path / "l2.nii.gz", np.ones((6, 8, 9), np.uint8))
    with pytest.raises(SegError) as caught:
        QUICK.fingerprint(dataset, Silent())
    assert [record.case for record in caught.value.records] == ["c0", "c2"]


@pytest.mark.parametrize("name", ["Dataset901_AnisoMR", "Dataset902_CT"])
def test_it_is_nnunets_own(name):
    if not PEER.exists():
        pytest.skip("nnU-Net's own fingerprints are not beside the repository")
    dataset = NnUNetLayout().read(PEER / "raw" / name, None)
    found = fingerprint_to_nnunet(make_fingerprint(dataset, NnUNetFingerprinter()))
    want = json.loads((PEER / "expected" / name / "dataset_fingerprint.json").read_text(encoding="utf-8"))
    statistics = "foreground_intensity_properties_per_channel"
    for channel, values in want.pop(statistics).items():
        assert found[statistics][channel] == pytest.approx(values, rel=1e-5)
    assert {key: found[key] for key in want} == want
