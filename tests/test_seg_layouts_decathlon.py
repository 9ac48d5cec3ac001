"""The Decathlon's layout: labels by number, channels in a fourth axis, a list of pairs."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know

from seg import SegError
from seg_layouts.decathlon import DecathlonLayout

LAYOUT = DecathlonLayout()
JSON = {"name": "Made", "modality": {"0": "FLAIR", "1": "T1w"}, "labels": {"0": "background", "1": "a", "2": "b"},
        "numTraining": 2, "training": [{"image": f"./imagesTr/c{number}.nii.gz",
                                        "label": f"./labelsTr/c{number}.nii.gz"} for number in (1, 2)]}  # fmt: skip


def made(root: Path, **changes) -> Path:
    image = sitk.JoinSeries([sitk.GetImageFromArray(np.ones((2, 3, 4), np.uint8))] * 2)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(exist_ok=True)
        for number in (1, 2):
            sitk.WriteImage(image, str(root / folder / f"c{number}.nii.gz"))
            (root / folder / f"._c{number}.nii.gz").touch()
    (root / "dataset.json").write_text(json.dumps(JSON | changes))
    return root


def test_the_list_is_read(tmp_path):
    root = made(tmp_path)
    assert LAYOUT.recognises(root)
    found = LAYOUT.read(root, None)
    assert found.description.name == "Made"
    assert found.description.channel_names == ("FLAIR", "T1w")
    assert found.labels.values == {"background": 0, "a": 1, "b": 2}
    assert [case.id for case in found.cases] == ["c1", "c2"]
    assert found.cases[0].images == (root / "imagesTr" / "c1.nii.gz",)
    assert found.faults == ()


def test_stray_files_of_macos_are_no_cases(tmp_path):
    stray = {"image": "./imagesTr/._c1.nii.gz", "label": "./labelsTr/._c1.nii.gz"}
    found = LAYOUT.read(made(tmp_path, training=[*JSON["training"], stray]), None)
    assert [case.id for case in found.cases] == ["c1", "c2"]


def test_files_of_the_first_nnunet_are_found(tmp_path):
    root = made(tmp_path)
    for number in (1, 2):
        path = root / "imagesTr" / f"c{number}.nii.gz"
        for channel in range(2):
            (root / "imagesTr" / f"c{number}_{channel:04d}.nii.gz").write_bytes(path.read_bytes())
        path.unlink()
    found = LAYOUT.read(root, None)
    assert [path.name for path in found.cases[0].images] == ["c1_0000.nii.gz", "c1_0001.nii.gz"]
    assert (found.cases[0].id, found.faults) == ("c1", ())


def test_another_name_of_the_background(tmp_path):
    found = LAYOUT.read(made(tmp_path, labels={"0": "Background", "2": "b", "1": "a"}), None)
    assert found.labels.values == {"background": 0, "a": 1, "b": 2}


@pytest.mark.parametrize(("changes", "place"), [
    ({"labels": {"0": "background", "2": "b"}}, "$.labels.b"),
    ({"labels": {"0": "background", "1": "a", "2": "a"}}, "$.labels.2"),
    ({"labels": {"0": "background", "1": 5}}, "$.labels.1"),
    ({"labels": {"1": "a"}}, "$.labels.background"),
    ({"training": [JSON["training"][0], {"image": "x.nii.gz"}]}, "$.training[1]"),
    ({"training": [{"image": "$HOME/x.nii.gz", "label": "y.nii.gz"}]}, "$.training[0].image"),
    ({"training": "all"}, "$.training"),
    ({"training": []}, "$.training"),
    ({"modality": {"1": "T1w"}}, "$.modality"),
    ({"numTraining": 3}, "$.numTraining"),
])  # fmt: skip
def test_each_fault_has_its_place(tmp_path, changes, place):
    root = made(tmp_path, **changes)
    try:
        records = LAYOUT.read(root, None).faults
    except SegError as error:
        records = error.records
    assert [record.found.partition(": ")[0] for record in records if record.code == "SEG-D14"] == [place]


def test_missing_files_are_named(tmp_path):
    root = made(tmp_path)
    (root / "labelsTr" / "c2.nii.gz").unlink()
    (record,) = LAYOUT.read(root, None).faults
    assert (record.code, record.case, record.file) == ("SEG-D09", "c2", str(root / "labelsTr" / "c2.nii.gz"))


def test_other_folders_are_not_recognised(tmp_path):
    assert not LAYOUT.recognises(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    assert not LAYOUT.recognises(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    assert not LAYOUT.recognises(tmp_path)


def test_the_real_list():
    folder = Path(__file__).parents[2] / "shared/data/hippocampus"
    if not folder.is_dir():
        pytest.skip("the real data are not beside the repository")
    found = LAYOUT.read(folder, None)
    assert (len(found.cases), found.faults) == (200, ())
    assert found.labels.values == {"background": 0, "Anterior": 1, "Posterior": 2}
