"""`seg run` from images to a model, and each stage alone: what lies in the folder, and that nothing is done twice."""

import csv
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK

import seg
from helpers import SHORT, TINY
from seg.errors import Exit
from seg_cli.main import execute

CASES = 6  # of the fixture `data`


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run of one fold; tests only look at it."""
    folder = tmp_path_factory.mktemp("run")
    assert execute(["run", str(data), "-o", str(folder), *TINY]) == 0
    return folder


def times(folder, *patterns):
    """File → when it was last written, of all files that the patterns find."""
    return {path: path.stat().st_mtime_ns for pattern in patterns for path in folder.glob(pattern)}


def made(folder):
    """What is costly to make: cases, weights, predictions, the fingerprint."""
    return times(folder, "cases/*/*.h5", "training/*/*/*", "validation/*/*/*.nii.gz", "validation/*/*/predictions.json",
                 "fingerprint.json")


def test_a_run_folder_reads_like_a_lab_book(run):
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    cases = {f"cases/3d_fullres/phantom_{index:03d}.h5" for index in range(6)}
    weights = {f"training/3d_fullres/fold_0/{name}" for name in ("weights.safetensors", "metrics.jsonl", "done.json")}
    assert there >= cases | weights | {
        "run.toml", "fingerprint.json", "plan.json", "splits.json", "report.html", "log.txt", "timings.json",
        "model/model.json", "model/MANIFEST.sha256", "model/weights/3d_fullres_fold_0.safetensors",
        "validation/3d_fullres/fold_0/metrics.csv", "validation/3d_fullres/metrics.json",
    }  # fmt: skip
    assert any(path.startswith("training/3d_fullres/fold_0/state_") for path in there)
    assert len(list((run / "validation/3d_fullres/fold_0").glob("*.nii.gz"))) == 2


def test_no_temporary_file_is_left(run):
    assert {path.name for path in run.rglob(".*")} <= {".lock", ".epochs.csv.lock"}


def test_cases_are_read_by_plain_h5py(run):
    with h5py.File(run / "cases/3d_fullres/phantom_000.h5") as file:
        assert file["image"].dtype == np.float32
        assert file["image"].shape == (1, *file["label"].shape)
        assert file["image"].fletcher32
        assert file["image"].compression is None
        assert set(np.unique(file["label"])) <= {-1, 0, 1, 2}


def test_each_epoch_has_a_line_of_metrics(run):
    rows = [json.loads(line) for line in (run / "training/3d_fullres/fold_0/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1]
    assert rows[0]["step"] == 2
    assert rows[0]["loss"] < 10


def test_every_stage_has_its_time(run):
    found = json.loads((run / "timings.json").read_text())
    assert {"check", "fingerprint", "plan", "preprocess 3d_fullres", "train 3d_fullres fold 0",
            "validate 3d_fullres fold 0", "bundle", "report"} <= set(found)  # fmt: skip


def test_the_log_has_what_was_said(run):
    log = (run / "log.txt").read_text()
    assert "1 epochs of 2 steps" in log
    assert re.search(r"^\d{4}-\d\d-\d\dT\S+  epoch 1  step 2", log, re.MULTILINE)


def test_metrics_are_of_the_cases_that_the_fold_did_not_see(run):
    fold = json.loads((run / "splits.json").read_text())[0]
    with (run / "validation/3d_fullres/fold_0/metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["case"] for row in rows} == set(fold["val"])
    assert not set(fold["val"]) & set(fold["train"])
    assert {row["class"] for row in rows} == {"organ", "tumour"}


def test_validation_lies_on_the_grid_of_the_label_map(run, data):
    for file in (run / "validation/3d_fullres/fold_0").glob("*.nii.gz"):
        found, truth = (SimpleITK.ReadImage(str(path)) for path in (file, data / "labelsTr" / file.name))
        assert found.GetSize() == truth.GetSize()
        np.testing.assert_allclose(found.GetDirection(), truth.GetDirection(), atol=1e-5)
        np.testing.assert_allclose(found.GetSpacing(), truth.GetSpacing(), rtol=1e-5)


def test_evaluate_finds_the_metrics_that_the_run_wrote(run, data, command, tmp_path):
    folder = run / "validation/3d_fullres/fold_0"
    code, _, _ = command("evaluate", data / "labelsTr", folder, "-o", tmp_path, "--labels", "organ=1,tumour=2")
    assert code == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads((folder / "metrics.json").read_text())


def test_the_same_command_does_nothing_twice(run, data, command):
    before = made(run)
    code, out, err = command("run", data, "-o", run, *TINY)
    assert code == 0
    assert "trained already" in err
    assert "validate" not in err
    assert f"report  {run / 'report.html'}" in out
    assert made(run) == before


def test_other_words_in_a_plan_are_no_other_training(run, command, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    plan = json.loads((run / "plan.json").read_text())
    plan["configurations"]["3d_fullres"]["reasons"] = {"patch": "So be it."}
    (tmp_path / "run/plan.json").write_text(json.dumps(plan))
    code, _, err = command("train", tmp_path / "run")
    assert code == 0
    assert "trained already" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--seed", "1"], "seed: 0 then, 1 now"), (["--epochs", "2"], "epochs: 1 then, 2 now"),
     (["--arch", "unetpp"], "architecture: '' then, 'unetpp' now"), (["--set", "train.steps_per_epoch=3"], "train"),
     (["--set", "architecture.features=5"], "options"), (["--labels", "organ=1"], "labels")],
)  # fmt: skip
def test_other_settings_in_the_same_folder_are_refused_by_name(words, named, run, data, command):
    before = made(run)
    code, _, err = command("run", data, "-o", run, *TINY, *words)
    assert code == Exit.USAGE
    assert "SEG-C07 error" in err
    assert named in err
    assert made(run) == before


def test_a_lost_prediction_is_made_again_and_nothing_else(run, data, command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = made(folder)
    lost = min(folder.glob("validation/*/*/*.nii.gz"))
    content = lost.read_bytes()
    lost.unlink()
    code, _, err = command("run", data, "-o", folder, *TINY)
    assert code == 0
    assert err.count("validate 3d_fullres fold 0") == 1
    assert lost.read_bytes() == content
    changed = {path for path, time in made(folder).items() if before.get(path) != time}
    assert {path.name for path in changed} <= {lost.name, "predictions.json"}


def test_changed_data_is_never_mixed_with_an_old_training(run, data, command, tmp_path):
    other = tmp_path / "data"
    shutil.copytree(data, other)
    label = other / "labelsTr" / "phantom_001.nii.gz"
    image = SimpleITK.ReadImage(str(label))
    image[3, 3, 3] = 2
    SimpleITK.WriteImage(image, str(label))
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = (folder / "fingerprint.json").stat().st_mtime_ns
    code, _, err = command("run", other, "-o", folder, *TINY)
    assert code == Exit.USAGE
    assert "other cases or settings" in err
    assert (folder / "fingerprint.json").stat().st_mtime_ns > before


def test_unetpp_runs_as_well(data, command, tmp_path):
    code, out, _ = command("run", data, "-o", tmp_path, "--arch", "unetpp", *TINY)
    assert code == 0
    assert re.search(r"3d_fullres: 2 cases", out)
    assert json.loads((tmp_path / "model/model.json").read_text())["architecture"]["name"] == "unetpp"
    assert command("predict", "-m", tmp_path / "model", "-i", data / "imagesTr", "-o", tmp_path / "p")[0] == 0


def test_two_dimensional_pngs_with_values_of_their_own(command, tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :48]
    for index in range(6):
        label = np.where((y - 20) ** 2 + (x - 20 - index) ** 2 < 90, 255, 0).astype(np.uint8)
        image = (60 + 0.4 * label + rng.normal(0, 9, label.shape)).clip(0, 255).astype(np.uint8)
        for folder, array in (("images", image), ("labels", label)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / f"data/{folder}/s{index}.png"))
    code, out, _ = command("run", tmp_path / "data", "-o", tmp_path / "run", "--labels", "cell=255", *TINY)
    assert code == 0
    assert re.search(r"^cell +│", out, re.MULTILINE)
    validated = sorted((tmp_path / "run/validation/2d/fold_0").glob("*.png"))
    code, _, _ = command("predict", "-m", tmp_path / "run/model", "-i", tmp_path / "data/images", "-o", tmp_path / "p")
    predicted = sorted((tmp_path / "p").glob("*.png"))
    assert code == 0
    assert [path.name for path in predicted] == [f"s{index}.png" for index in range(6)]
    values = set()
    for file in (*validated, *predicted):
        found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
        assert found.shape == (40, 48)
        values |= set(np.unique(found))
    assert values <= {0, 255}
    code, out, _ = command("evaluate", tmp_path / "data/labels", tmp_path / "p", "--labels", "cell=255")
    assert code == 0
    assert re.search(r"^cell +│", out, re.MULTILINE)


def test_several_configurations_and_folds_make_one_model(data, command, tmp_path):
    words = [*SHORT, "--config", "all", "--fold", "0,1", "--ensembler", "mean"]
    code, out, _ = command("run", data, "-o", tmp_path, *words)
    assert code == 0
    assert "2d: 3 cases" in out
    assert "3d_fullres: 3 cases" in out
    model = json.loads((tmp_path / "model/model.json").read_text())
    assert len(model["members"]) == 4
    assert sorted(model["chosen"]) == ["2d", "3d_fullres"]
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("training/*/*/weights.safetensors")}
    assert command("run", data, "-o", tmp_path, *words[:-1], "none", "--postprocessor", "none")[0] == 0
    assert len(json.loads((tmp_path / "model/model.json").read_text())["chosen"]) == 1
    assert {path: path.stat().st_mtime_ns for path in weights} == weights  # nothing was trained for another choice
    assert command("run", data, "-o", tmp_path, *words)[0] == 0
    code, _, _ = command("predict", "-m", tmp_path / "model", "-i", data / "imagesTr/phantom_000_0000.nii.gz",
                         "-o", tmp_path / "p")
    assert code == 0
    assert (tmp_path / "p/phantom_000.nii.gz").exists()


def test_all_cases_at_once_need_no_folds(data, command, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(data, few)
    for index in range(3, 6):
        (few / "imagesTr" / f"phantom_{index:03d}_0000.nii.gz").unlink()
        (few / "labelsTr" / f"phantom_{index:03d}.nii.gz").unlink()
    described = json.loads((few / "dataset.json").read_text())
    (few / "dataset.json").write_text(json.dumps(described | {"numTraining": 3}))
    words = [word if word != "0" else "full" for word in TINY]
    code, out, _ = command("run", few, "-o", tmp_path / "run", *words)
    assert code == 0
    assert "3d_fullres: 3 cases" in out
    assert (tmp_path / "run/training/3d_fullres/fold_full/weights.safetensors").exists()


def test_the_stages_alone_make_what_the_run_makes(data, run, command, tmp_path):
    """Each stage by itself, then `seg run` with the same settings: it finds all done, and the weights are the same."""
    folder = tmp_path / "run"
    assert command("run", data, "-o", folder, *TINY, "--dry-run")[0] == 0
    assert command("fingerprint", data, "-o", tmp_path / "f.json")[0] == 0
    plan = ["plan", "--fingerprint", tmp_path / "f.json", "--dataset", data / "dataset.json"]
    assert command(*plan, "--set", "architecture.features=4", "-o", tmp_path / "p.json")[0] == 0
    alone, chained = (json.loads(file.read_text()) for file in (tmp_path / "p.json", folder / "plan.json"))
    assert alone["configurations"] == chained["configurations"]
    store = folder / "cases/3d_fullres"
    assert command("preprocess", data, "--plan", folder / "plan.json", "--config", "3d_fullres", "-o", store)[0] == 0
    code, _, err = command("validate", folder)
    assert code == Exit.USAGE
    assert "3d_fullres fold 0 is not trained" in err
    assert command("train", folder)[0] == 0
    code, out, _ = command("validate", folder)
    assert code == 0
    assert "3d_fullres fold 0: 2 cases" in out
    assert command("report", folder)[0] == 0
    assert (folder / "report.html").exists()
    before = made(folder)
    assert command("run", data, "-o", folder, *TINY)[0] == 0
    assert made(folder) == before
    weights = Path("training/3d_fullres/fold_0/weights.safetensors")
    assert (folder / weights).read_bytes() == (run / weights).read_bytes()


def test_training_without_cases_names_what_to_do(data, command, tmp_path):
    assert command("run", data, "-o", tmp_path, *TINY, "--dry-run")[0] == 0
    code, _, err = command("train", tmp_path)
    assert code == Exit.DATA
    assert "SEG-D31 error" in err
    assert "seg preprocess" in err


def test_a_plan_from_a_file_is_followed(data, run, command, tmp_path):
    plan = json.loads((run / "plan.json").read_text())
    plan["configurations"]["3d_fullres"]["patch"] = [8, 16, 16]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    code, _, _ = command("run", data, "-o", tmp_path / "run", "--plan", tmp_path / "plan.json", *TINY)
    assert code == 0
    used = json.loads((tmp_path / "run/model/model.json").read_text())["configurations"]["3d_fullres"]["patch"]
    assert used == [8, 16, 16]


def test_folds_from_a_file_are_followed(data, command, tmp_path):
    names = [f"phantom_{index:03d}" for index in range(6)]
    (tmp_path / "splits.json").write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    code, out, _ = command("run", data, "-o", tmp_path / "run", "--splits", tmp_path / "splits.json", *SHORT)
    assert code == 0
    assert "3d_fullres: 1 cases" in out
    assert [path.name for path in (tmp_path / "run/training/3d_fullres").iterdir()] == ["fold_0"]


def test_all_folds_are_those_of_no_word(data, command, tmp_path):
    folds = []
    for words in ([], ["--fold", "all"]):
        code, _, err = command("run", data, "-o", tmp_path / str(len(words)), *SHORT, *words, "--dry-run")
        assert code == 0
        folds.append(re.search(r"(\d+) trainings? of", err)[1])
    assert folds == ["5", "5"]


def test_the_same_from_python(data, run, tmp_path):
    from seg.settings import Settings, TrainOptions

    settings = Settings(epochs=1, folds=("0",), device="cpu", train=TrainOptions(steps_per_epoch=2),
                        options={"architecture": {"features": 4}})
    result = seg.run(data, tmp_path / "run", settings)
    assert set(result.evaluations) == {"3d_fullres"}
    weights = Path("training/3d_fullres/fold_0/weights.safetensors")
    assert (tmp_path / "run" / weights).read_bytes() == (run / weights).read_bytes()
