"""The first minutes with real data: the check, layouts, DICOM, models of nnU-Net; skipped where they are not there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from helpers import TINY
from seg_cli.main import execute

DATA = Path(__file__).parents[2] / "shared" / "data"
MODELS = Path(__file__).parents[2] / "shared" / "peer" / "models"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data for development does not lie beside the repository")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Five cases of the hippocampus in the decathlon's layout."""
    folder = tmp_path_factory.mktemp("few")
    described = json.loads((DATA / "hippocampus/dataset.json").read_text())
    described["training"] = described["training"][:5]
    described["numTraining"] = 5
    for pair in described["training"]:
        for file in pair.values():
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copy(DATA / "hippocampus" / file, folder / file)
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="module")
def model(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert execute(["run", str(few), "-o", str(folder), *TINY]) == 0
    return folder / "model"


def test_the_check_of_the_hippocampus_has_one_note(command, tmp_path):
    """One label file is stored as float; beside it stands but the warning that the classes are front and back."""
    code, out, _ = command("check", DATA / "hippocampus", "--json", tmp_path / "records.json")
    assert code == 0
    assert "200 cases checked, no faults" in out
    records = json.loads((tmp_path / "records.json").read_text())
    assert [record["code"] for record in records if record["severity"] == "note"] == ["SEG-D11"]
    assert {record["code"] for record in records if record["severity"] != "note"} <= {"SEG-D20"}


def test_the_decathlon_layout_runs(model, few, command, tmp_path):
    described = json.loads((model / "model.json").read_text())["plan"]["description"]
    assert described["labels"]["values"] == {"background": 0, "Anterior": 1, "Posterior": 2}
    code, _, _ = command("predict", "-m", model, "-i", few / "imagesTr", "-o", tmp_path)
    assert code == 0
    assert len(list(tmp_path.glob("hippocampus_*.nii.gz"))) == 5


def test_a_dicom_series_is_predicted_on_its_own_grid(model, command, tmp_path):
    series = DATA / "dicom/hippocampus_crop"
    code, out, _ = command("predict", "-m", model, "-i", series, "-o", tmp_path)
    assert code == 0
    assert "1 written" in out
    (file,) = tmp_path.glob("hippocampus_crop*")
    found = SimpleITK.ReadImage(str(file))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    given = reader.Execute()
    assert found.GetSize() == given.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, name)(), getattr(given, name)(), rtol=1e-4, atol=1e-3)


def test_the_membrane_needs_its_classes_named(command, tmp_path):
    code, _, err = command("run", DATA / "membrane", "-o", tmp_path, "--labels", "cell=255", *TINY, "--dry-run")
    assert code == 0
    assert "error" not in err
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert list(plan["configurations"]) == ["2d"]
    assert plan["description"]["labels"]["file_values"] == {"1": 255}


@pytest.mark.parametrize("case", sorted(MODELS.glob("*")), ids=lambda case: case.name)
def test_a_model_of_nnunet_predicts_as_in_nnunet(case, command, tmp_path):
    """The first image of each; nnU-Net stored its probabilities in 16 bits."""
    (folder,) = (case / "model").iterdir()
    assert command("import-nnunet", folder, "-o", tmp_path / "model")[0] == 0
    inputs = [word for file in sorted((case / "input").glob("case_00*")) for word in ("-i", file)]
    code, _, err = command("predict", "-m", tmp_path / "model", *inputs, "-o", tmp_path, "--save-probabilities",
                           "--device", "cpu")
    assert (code, err.count("error")) == (0, 0)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(case / "expected/case_00.nii.gz")))
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "case_00.nii.gz")))
    assert set(np.unique(found)) == set(np.unique(expected)) != {0}
    assert (found != expected).mean() < 1e-3
    with np.load(case / "expected/case_00.npz") as theirs, np.load(tmp_path / "case_00.npz") as ours:
        difference = np.abs(ours["probabilities"].astype(np.float32) - theirs["probabilities"].astype(np.float32))
    assert difference.mean() < 1e-3
