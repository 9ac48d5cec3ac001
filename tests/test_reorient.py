"""`data.reorient`: mixed orientations are trained on as if they lay alike, and predictions lie as their images."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK
from attrs import evolve

import seg
from helpers import PLAIN
from seg import Exit
from seg.convert import read_json
from seg.models import Description, Fingerprint
from seg.phantom import write_phantom
from seg_cli.main import execute

WORDS = [*PLAIN, "--set", "fingerprinter.samples=9999"]
TURNED = [*WORDS, "--set", "data.reorient=RAS"]
CODES = ("PSR", "RAS", "LPS", "SAL", "IRP")  # fold 0 validates the first
STORE = "cases/3d_fullres"
VALIDATED = "validation/3d_fullres/fold_0"


def turn(folder, codes):
    """A phantom whose cases lie as `codes` say, one after the other."""
    write_phantom(folder, cases=5, shape=(16, 20, 18))
    for name in ("imagesTr", "labelsTr"):
        for file, code in zip(sorted((folder / name).glob("*.nii.gz")), codes, strict=True):
            SimpleITK.WriteImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(file)), code), str(file))
    return folder


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    return turn(tmp_path_factory.mktemp("data") / "phantom", ("RAS",) * 5)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return turn(tmp_path_factory.mktemp("data") / "phantom", CODES)


@pytest.fixture(scope="module")
def plain(alike, tmp_path_factory):
    """Fingerprint and cases of data that lie alike, without the option."""
    folder = tmp_path_factory.mktemp("plain")
    assert execute(["run", str(alike), "-o", str(folder), *WORDS, "--dry-run"]) == 0
    words = ["--plan", str(folder / "plan.json"), "--config", "3d_fullres", "-o", str(folder / STORE)]
    assert execute(["preprocess", str(alike), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def run(mixed, tmp_path_factory):
    """A run on mixed data, with the option."""
    folder = tmp_path_factory.mktemp("turned")
    assert execute(["run", str(mixed), "-o", str(folder), *TURNED]) == 0
    return folder


def read(path):
    return SimpleITK.ReadImage(str(path))


def upright(image):
    return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "RAS"))


def same_grid(one, other):
    assert one.GetSize() == other.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(one, name)(), getattr(other, name)(), rtol=1e-6, atol=1e-5)


def test_the_fingerprint_is_that_of_data_that_lie_alike(run, plain):
    found, wanted = (read_json(folder / "fingerprint.json", Fingerprint) for folder in (run, plain))
    assert found.orientations == {"RAS": 5}
    assert evolve(found, source="") == evolve(wanted, source="")


def test_preprocessed_cases_are_those_of_data_that_lie_alike(run, plain):
    files = sorted((run / STORE).glob("*.h5"))
    assert len(files) == 5
    for file in files:
        with h5py.File(file) as found, h5py.File(plain / STORE / file.name) as wanted:
            np.testing.assert_array_equal(found["label"], wanted["label"])
            np.testing.assert_array_equal(found["image"], wanted["image"])


def test_the_warning_on_mixed_orientations_says_the_option_until_it_is_set(run, mixed, command, tmp_path):
    assert "SEG-D19" not in (run / "check.json").read_text()
    code, _, err = command("run", mixed, "-o", tmp_path, *WORDS, "--dry-run")
    assert code == 0
    assert "mixed orientations: 1 " in err
    assert "data.reorient=RAS" in err


def test_validation_lies_as_the_label_maps_and_is_measured_there(run, mixed, command, tmp_path):
    (file,) = (run / VALIDATED).glob("*.nii.gz")
    assert file.name == "phantom_000.nii.gz"
    same_grid(read(file), read(mixed / "labelsTr" / file.name))
    image = mixed / "imagesTr/phantom_000_0000.nii.gz"
    assert command("predict", "-m", run / "model", "-i", image, "-o", tmp_path)[0] == 0
    np.testing.assert_array_equal(*(SimpleITK.GetArrayFromImage(read(path)) for path in (file, tmp_path / file.name)))
    code, _, _ = command("evaluate", mixed / "labelsTr", run / VALIDATED, "-o", tmp_path,
                         "--labels", "organ=1,tumour=2")
    assert code == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(
        (run / VALIDATED / "metrics.json").read_text())


def test_a_case_is_predicted_alike_however_it_lies_and_on_its_own_grid(run, mixed, command, tmp_path):
    (tmp_path / "in").mkdir()
    source = read(mixed / "imagesTr/phantom_003_0000.nii.gz")
    for code in CODES:
        SimpleITK.WriteImage(SimpleITK.DICOMOrient(source, code), str(tmp_path / f"in/{code}.nrrd"))
    words = ("predict", "-m", run / "model", "-i", tmp_path / "in", "-o", tmp_path / "out", "--save-probabilities")
    code, _, err = command(*words)
    assert (code, "SEG-D19" in err) == (0, False)
    found = {code: read(tmp_path / f"out/{code}.nrrd") for code in CODES}
    for code, labels in found.items():
        same_grid(labels, read(tmp_path / f"in/{code}.nrrd"))
        np.testing.assert_array_equal(upright(labels), upright(found["RAS"]))
        chances = np.load(tmp_path / f"out/{code}.npz")["probabilities"].astype(np.float32)
        own = SimpleITK.GetArrayFromImage(labels)
        assert chances.shape == (3, *own.shape)
        chosen = np.take_along_axis(chances, own[None].astype(int), axis=0)[0]
        assert (chosen >= chances.max(axis=0) - 1e-3).all()  # half precision


def test_images_in_memory_are_turned_and_arrays_are_not(run, mixed):
    model = seg.load(run / "model", device="cpu")
    given = read(mixed / "imagesTr/phantom_003_0000.nii.gz")
    found = model.predict(given)
    same_grid(found, given)
    standing = SimpleITK.DICOMOrient(given, "RAS")
    labels = model.predict(SimpleITK.GetArrayFromImage(standing), spacing=standing.GetSpacing()[::-1])
    np.testing.assert_array_equal(upright(found), labels)


def test_the_stages_alone_turn_too(run, mixed, command, tmp_path):
    turned = ("--set", "data.reorient=RAS", "--set", "fingerprinter.samples=9999")
    assert command("fingerprint", mixed, "-o", tmp_path / "f.json", *turned)[0] == 0
    plan = ("plan", "--fingerprint", tmp_path / "f.json", "--dataset", mixed / "dataset.json")
    assert command(*plan, "-o", tmp_path / "p.json", "--set", "architecture.features=4", *turned)[0] == 0
    alone, chained = (json.loads(file.read_text()) for file in (tmp_path / "p.json", run / "plan.json"))
    assert alone["configurations"] == chained["configurations"]
    assert alone["description"]["orientation"] == "RAS"
    code, _, _ = command("preprocess", mixed, "--plan", tmp_path / "p.json", "--config", "3d_fullres",
                         "-o", tmp_path / "cases")
    assert code == 0
    for file in sorted((tmp_path / "cases").glob("*.h5")):
        assert file.read_bytes() == (run / STORE / file.name).read_bytes()


def test_nothing_stale_is_kept(run, mixed, command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    code, _, err = command("run", mixed, "-o", folder, *WORDS)
    assert code == Exit.USAGE
    assert "data: {'reorient': 'RAS'} then" in err
    (folder / "plan.json").unlink()  # from here on the folder is no longer bound to its settings
    before = {path: path.stat().st_mtime_ns for path in (folder / "fingerprint.json", *folder.glob(f"{STORE}/*.h5"))}
    code, _, err = command("run", mixed, "-o", folder, *WORDS)
    assert code == Exit.USAGE
    assert "a training of other cases or settings" in err
    assert all(path.stat().st_mtime_ns > time for path, time in before.items())


def test_a_plan_for_another_orientation_is_refused(run, mixed, command, tmp_path):
    words = ("run", mixed, "-o", tmp_path / "run", "--plan", run / "plan.json", "--dry-run")
    code, _, err = command(*words, *WORDS)
    assert code == Exit.USAGE
    assert "a plan for images turned to RAS" in err
    assert command(*words, *TURNED)[0] == 0


def test_what_was_written_before_there_was_an_orientation_is_read(run):
    data = json.loads((run / "plan.json").read_text())["description"]
    assert data.pop("orientation") == "RAS"
    assert seg.Description(**data).orientation == ""
    file = Path(run) / "description.json"
    file.write_text(json.dumps(data))
    assert read_json(file, Description).orientation == ""
    file.write_text(json.dumps({**data, "orientation": "XYZ"}))
    with pytest.raises(seg.SegError, match="for example RAS"):
        read_json(file, Description)
