"""All faults of all cases in one go; faultless data have none."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its users know
from attrs import evolve

from seg import Case, Dataset, Description, Exit, Labels, Record, SegError
from seg.discovery import discover
from seg.hookspecs import Offer
from seg.phantom import write_phantom
from seg.registry import Component, Plugin, Registry
from seg.stages.check import check, find_dataset

CHECK = importlib.import_module("seg.stages.check")
PLAIN = Labels(values={"background": 0, "liver": 1, "tumour": 2})
REAL = Path(__file__).parents[2] / "shared/data"


def write(path: Path, array, spacing=(1.0, 1.0, 1.0), direction=None, origin=None) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    if direction:
        image.SetDirection(direction)
    if origin:
        image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


def picture(seed: int):
    return np.random.default_rng(seed).normal(100, 10, (4, 6, 8)).astype(np.float32)


def truth():
    label = np.zeros((4, 6, 8), np.uint8)
    label[1:3, 2:4, 2:4], label[2, 3, 3] = 1, 2
    return label


def dataset(folder: Path, cases: int = 5, labels: Labels = PLAIN, faults=(), channels=("MRI",)) -> Dataset:
    """A faultless data set of `cases` cases: image0.nii.gz, label0.nii.gz, …"""
    found = []
    for number in range(cases):
        images = [write(folder / f"image{number}_{channel}.nii.gz", picture(10 * number + channel))
                  for channel in range(len(channels))]
        label = write(folder / f"label{number}.nii.gz", truth())
        found.append(Case(id=f"case{number}", images=tuple(images), label=label))
    description = Description(name="made", channel_names=channels, labels=labels, training_cases=cases)
    return Dataset(description=description, root=folder, layout="none", cases=tuple(found), faults=faults)


def told(report, severity="error") -> set[tuple[str, str | None]]:
    return {(record.code, record.case) for record in report.records if record.severity == severity}


def test_faultless_data(tmp_path):
    report = check(dataset(tmp_path))
    assert report.records == ()
    assert report.cases == 5
    assert report.class_voxels == {"liver": 35, "tumour": 5}
    assert report.class_cases == {"liver": 5, "tumour": 5}
    assert report.orientations == {"LPS": 5}
    assert len(set(report.digests.values())) == 5


def test_digests_are_of_the_content(tmp_path):
    made = dataset(tmp_path)
    before = check(made).digests
    write(tmp_path / "label2.nii.gz", truth()[::-1].copy())
    after = check(made).digests
    assert [case for case in before if before[case] != after[case]] == ["case2"]


def test_every_fault_of_every_case_in_one_go(tmp_path):
    made = dataset(tmp_path, 12)
    write(tmp_path / "label0.nii.gz", truth()[:3])
    write(tmp_path / "label1.nii.gz", truth(), spacing=(2.0, 1.0, 1.0))
    write(tmp_path / "label2.nii.gz", truth(), origin=(50.0, 0.0, 0.0))
    write(tmp_path / "label3.nii.gz", truth(), direction=(-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    bad = picture(4)
    bad[0, 0, 0], bad[1, 1, 1] = np.nan, np.inf
    write(tmp_path / "image4_0.nii.gz", bad)
    (tmp_path / "image5_0.nii.gz").write_bytes((tmp_path / "image5_0.nii.gz").read_bytes()[:200])
    write(tmp_path / "label6.nii.gz", truth() * np.uint8(7))
    write(tmp_path / "label7.nii.gz", truth() * 1.5)
    write(tmp_path / "label8.nii.gz", -truth().astype(np.int16))
    (tmp_path / "label9.nii.gz").unlink()
    (tmp_path / "image10_0.nii.gz").write_bytes(b"")
    report = check(made)
    assert told(report) == {
        ("SEG-D01", "case0"), ("SEG-D02", "case1"), ("SEG-D03", "case2"), ("SEG-D03", "case3"), ("SEG-D05", "case4"),
        ("SEG-D07", "case5"), ("SEG-D10", "case6"), ("SEG-D11", "case7"), ("SEG-D11", "case8"), ("SEG-D09", "case9"),
        ("SEG-D08", "case10"),
    }  # fmt: skip
    assert report.errors == tuple(record for record in report.records if record.severity == "error")
    assert all(record.file for record in report.errors)
    assert "2 voxels are NaN or infinite, the first at c 0, z 0, y 0, x 0" in str(report.errors)
    assert "7: 7 voxels, 14: 1 voxels" in str(report.errors)


def test_both_shapes_are_shown(tmp_path):
    made = dataset(tmp_path)
    write(tmp_path / "label0.nii.gz", truth()[:3])
    (record,) = check(made).errors
    assert "8×6×3" in record.found
    assert "8×6×4" in record.expected


def test_channels_are_compared(tmp_path):
    made = dataset(tmp_path, channels=("T1", "T2"))
    assert check(made).errors == ()
    other = write(tmp_path / "image1_1.nii.gz", picture(99), origin=(0.0, 9.0, 0.0))
    (record,) = check(made).errors
    assert (record.code, record.case, record.file) == ("SEG-D04", "case1", str(other))
    assert "image1_0.nii.gz" in record.expected


def test_the_number_of_channels_is_that_declared(tmp_path):
    made = dataset(tmp_path)
    image = sitk.JoinSeries([sitk.GetImageFromArray(picture(number)) for number in (1, 2)])
    sitk.WriteImage(image, str(tmp_path / "image1_0.nii.gz"))
    assert told(check(made)) == {("SEG-D15", "case1")}


@pytest.mark.parametrize(("cases", "folds", "needed", "refused"), [
    (4, 5, True, True), (5, 5, True, False), (4, 5, False, False), (3, 3, True, False), (1, 5, True, True)])
def test_too_few_cases_for_the_folds(tmp_path, cases, folds, needed, refused):
    report = check(dataset(tmp_path, cases), folds=folds, needs_folds=needed)
    assert [record.code for record in report.errors] == ["SEG-D13"] * refused


def test_copies_of_an_image_count_once_for_the_folds(tmp_path):
    made = dataset(tmp_path, 6)
    for number in (1, 2):
        write(tmp_path / f"image{number}_0.nii.gz", picture(0))
    report = check(made)
    assert report.same_images == (("case0", "case1", "case2"),)
    assert told(report, "warning") == {("SEG-D21", "case1"), ("SEG-D21", "case2")}
    (record,) = report.errors
    assert (record.code, record.found[:23]) == ("SEG-D13", "4 groups in 6 cases (ca")
    assert check(made, folds=4).errors == ()


def test_no_foreground_anywhere(tmp_path):
    made = dataset(tmp_path)
    for case in made.cases:
        write(case.label, truth() * 0)
    assert told(check(made)) == {("SEG-D13", None)}


def test_warnings_refuse_nothing(tmp_path):
    labels = Labels(values={"background": 0, "Left kidney": 1, "right kidney": 2, "spleen": 3})
    made = dataset(tmp_path, 6, labels)
    write(tmp_path / "image0_0.nii.gz", picture(0), direction=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    write(tmp_path / "label0.nii.gz", truth(), direction=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    write(tmp_path / "image1_0.nii.gz", picture(0) * 0)
    write(tmp_path / "image2_0.nii.gz", picture(2), spacing=(30.0, 1.0, 1.0))
    write(tmp_path / "label2.nii.gz", truth(), spacing=(30.0, 1.0, 1.0))
    write(tmp_path / "image4_0.nii.gz", picture(30))
    report = check(made)
    assert report.errors == ()
    assert told(report, "warning") == {
        ("SEG-D19", None), ("SEG-D05", "case1"), ("SEG-D16", "case2"), ("SEG-D12", None), ("SEG-D20", None),
        ("SEG-D21", "case4"),
    }  # fmt: skip
    assert report.class_cases["spleen"] == 0
    assert report.orientations == {"LPS": 5, "RPS": 1}
    (mixed,) = (record for record in report.records if record.code == "SEG-D19")
    assert mixed.found == "mixed orientations: 5 LPS, 1 RPS"
    assert "data.reorient" in mixed.advice
    turned = check(evolve(made, description=evolve(made.description, orientation="RAS")))
    assert set(report.records) - set(turned.records) == {mixed}
    assert turned.orientations == report.orientations


def test_flat_images_cannot_be_turned(tmp_path):
    made = dataset(tmp_path)
    for case in made.cases:
        write(case.images[0], picture(int(case.id[-1]))[0])
        write(case.label, truth()[2])
    assert check(made).records == ()
    (record,) = check(evolve(made, description=evolve(made.description, orientation="RAS"))).records
    assert (record.code, record.severity, record.found[:12]) == ("SEG-D19", "warning", "5 2-D images")


@pytest.mark.parametrize(("names", "paired"), [
    (("left lung", "right lung"), True), (("lung_l", "lung_r"), True), (("LeftAtrium", "RightAtrium"), True),
    (("left", "aorta"), False), (("kidneyleft", "kidneyright"), True), (("liver", "right"), False),
    (("left lung", "right kidney"), False), (("hippocampus-Left", "hippocampus-Right"), True)])
def test_sides(names, paired):
    assert bool(CHECK._sides(names)) == paired


def test_a_float_label_map_of_whole_numbers_is_noted(tmp_path):
    made = dataset(tmp_path)
    write(tmp_path / "label3.nii.gz", truth().astype(np.float32))
    report = check(made)
    assert told(report, "note") == {("SEG-D11", "case3")}
    assert report.errors == ()


def test_mixed_dimensions(tmp_path):
    made = dataset(tmp_path)
    write(tmp_path / "image2_0.nii.gz", picture(2)[0])
    write(tmp_path / "label2.nii.gz", truth()[2])
    assert told(check(made)) == {("SEG-D15", "case2")}


def test_file_values_are_counted_as_ids(tmp_path):
    made = dataset(tmp_path, labels=Labels(values={"background": 0, "cell": 1}, file_values={1: 255}))
    for case in made.cases:
        write(case.label, (truth() > 0) * np.uint8(255))
    report = check(made)
    assert report.records == ()
    assert report.class_voxels == {"cell": 40}


def test_what_the_layout_told_is_told_once(tmp_path):
    fault = Record(code="SEG-D09", found="there is no such file", case="case1", file=str(tmp_path / "label1.nii.gz"))
    made = dataset(tmp_path, faults=(fault,))
    (tmp_path / "label1.nii.gz").unlink()
    assert check(made).errors == (fault,)


def test_no_torch_is_imported():
    code = "import sys, seg.stages.check; sys.exit('torch' in sys.modules or 'SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def refused(path: Path, registry=None) -> Record:
    with pytest.raises(SegError) as caught:
        find_dataset(path, registry or discover())
    assert caught.value.exit_code == Exit.DATA
    (record,) = caught.value.records
    return record


def test_what_is_no_data_set_is_told_with_the_layouts(tmp_path):
    assert "no such" in refused(tmp_path / "absent").found
    assert "empty" in refused(tmp_path).found
    (tmp_path / "notes.txt").touch()
    record = refused(tmp_path)
    assert "notes.txt" in record.found
    assert all(name in record.expected for name in ("nnunet", "decathlon", "folders", "filelist"))
    assert "no list" in refused(tmp_path / "notes.txt").found


def test_a_broken_layout_hurts_itself_alone(tmp_path):
    plugin = Plugin(name="lost", distribution="stranger", version="1", status="ok")
    offer = Offer("lost", "nowhere:Lost")
    lost = Component(kind="layout", name=offer.name, summary="", target=offer.target, plugin=plugin)
    known = discover()
    registry = Registry(components=(lost, *known.components), plugins=(plugin, *known.plugins))
    (tmp_path / "notes.txt").touch()
    assert "stranger:lost" in refused(tmp_path, registry).advice
    write(tmp_path / "a.png", np.ones((4, 5), np.uint8))
    (tmp_path / "list.csv").write_text("image,label\na.png,a.png\n")
    assert find_dataset(tmp_path / "list.csv", registry).layout == "filelist"


def test_paths_are_absolute_whatever_was_given(tmp_path, monkeypatch):
    write_phantom(tmp_path / "data", cases=2, shape=(8, 16, 16))
    monkeypatch.chdir(tmp_path)
    found = find_dataset(Path("data"), discover())
    paths = [path for case in found.cases for path in (*case.images, case.label)]
    assert found.root == tmp_path / "data"
    assert len(paths) == 4
    assert all(path.is_absolute() and path.is_file() for path in paths)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside the repository")
def test_the_real_data_are_faultless():
    report = check(find_dataset(REAL / "hippocampus", discover()))
    assert told(report, "note") == {("SEG-D11", "hippocampus_243")}
    assert told(report, "warning") == {("SEG-D20", None)}  # anterior and posterior
    assert len(report.records) == 2
    assert report.orientations == {"RAS": 200}
    report = check(find_dataset(REAL / "membrane", discover()))
    assert report.records == ()
    assert report.class_cases == {"foreground": 24}
