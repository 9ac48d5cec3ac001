"""A cascade from images to a model: what is handed on is out of fold, and prediction does what validation did."""

import json

import numpy as np
import pytest
import SimpleITK
import torch
from attrs import evolve

import seg
from helpers import SHORT
from seg import Exit, SegError
from seg.arrays import load_array
from seg.convert import read_json, write_json
from seg.discovery import discover
from seg.models import Plan
from seg.runfolder import Components, RunFolder
from seg.stages.bundle import describe_model
from seg.stages.cascade import previous_predictions
from seg.stages.preprocess import store_name
from seg.stages.train import Fold
from seg.stages.validate import fold_model
from seg_cli.main import execute

WORDS = [*SHORT, "--ensembler", "mean"]
LOW, FULL, CASCADE = "3d_lowres", "3d_fullres", "3d_cascade_fullres"


@pytest.fixture(scope="module")
def data(data):
    names = [f"phantom_{index:03d}" for index in range(5)]
    folds = [{"train": names[3:], "val": names[:3]}, {"train": names[:3], "val": names[3:]}]
    (data / "splits.json").write_text(json.dumps(folds))
    return data


def with_cascade(plan):
    """The plan with a coarser configuration and a cascade, as for larger images."""
    full = plan.configurations[FULL]
    low = evolve(full, name=LOW, spacing=tuple(1.4 * side for side in full.spacing), next_stage=CASCADE)
    topology = evolve(full.topology, in_channels=3)
    cascade = evolve(full, name=CASCADE, topology=topology, previous_stage=LOW)
    two = plan.configurations["2d"]
    return evolve(plan, configurations={"2d": two, LOW: low, FULL: full, CASCADE: cascade})


@pytest.fixture(scope="module")
def plan(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    assert execute(["run", str(data), "-o", str(folder / "dry"), *WORDS, "--dry-run"]) == 0
    write_json(folder / "plan.json", with_cascade(read_json(folder / "dry/plan.json", Plan)))
    return folder / "plan.json"


@pytest.fixture(scope="module")
def run(data, plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ["--plan", str(plan), "--splits", str(data / "splits.json"), "--config", f"{LOW},{CASCADE}"]
    assert execute(["run", str(data), "-o", str(folder), *WORDS, *words]) == 0
    return folder


def fold_of(run, name, index):
    folder = RunFolder(run)
    settings = evolve(folder.settings(), configurations=(LOW, CASCADE))
    registry = discover()
    components = Components.resolve(settings, registry).with_normalisers(folder.plan(), registry)
    return Fold(folder=folder, settings=settings, components=components, plan=folder.plan(), configuration=name,
                fold=index)


def test_every_case_is_handed_on_by_the_fold_that_did_not_see_it(run):
    folds = json.loads((run / "splits.json").read_text())
    handed = previous_predictions(fold_of(run, CASCADE, "0"))
    assert len(handed) == 5
    for case, found in handed.items():
        assert case in folds[int(found.file.parts[-3].removeprefix("fold_"))]["val"]
        with fold_of(run, CASCADE, "0").store.open(case) as stored:
            assert found.load().shape == stored.arrays.label.shape


def test_the_cascade_trains_on_the_cases_of_full_resolution(run, plan):
    assert store_name(read_json(plan, Plan), CASCADE) == FULL
    assert sorted(path.name for path in (run / "cases").iterdir()) == [FULL, LOW]


def test_prediction_does_what_validation_did(run, data):
    """A model of the same folds sees of the first stage what the fold's validation saw, and gives the same labels."""
    low, cascade = fold_of(run, LOW, "1"), fold_of(run, CASCADE, "1")
    model = fold_model(cascade)
    model.networks |= fold_model(low).networks
    model.description = describe_model([low, cascade], chosen=(CASCADE,))
    for case in ("phantom_003", "phantom_004"):
        image = SimpleITK.ReadImage(str(data / f"imagesTr/{case}_0000.nii.gz"))
        found = SimpleITK.GetArrayFromImage(model.predict(image))
        validated = SimpleITK.ReadImage(str(run / f"validation/{CASCADE}/fold_1/{case}.nii.gz"))
        assert np.array_equal(found, SimpleITK.GetArrayFromImage(validated))


def test_pairs_are_validated_on_the_mean_of_the_probabilities(run):
    found = json.loads((run / "validation/selection.json").read_text())
    assert list(found["candidates"]) == [LOW, CASCADE, f"{LOW}+{CASCADE}"]
    assert set(found["differences"]) == {LOW, CASCADE}
    assert f"{LOW}+{CASCADE}" in (run / "report.html").read_text(encoding="utf-8")
    assert len(list((run / f"validation/{LOW}+{CASCADE}").glob("*.nii.gz"))) == 5
    for name in (LOW, CASCADE):
        logits = load_array(run / f"validation/{name}/fold_0/logits/phantom_000.h5")
        assert logits.dtype == torch.float16
        assert logits.shape[0] == 3


def test_the_model_predicts_with_both_stages(run, data, tmp_path):
    model = json.loads((run / "model/model.json").read_text())
    assert model["chosen"] == [LOW, CASCADE]
    assert len(model["members"]) == 4
    loaded = seg.load(run / "model", device="cpu")
    assert {name: len(networks) for name, networks in loaded.networks.items()} == {LOW: 2, CASCADE: 2}
    assert execute(["predict", "-m", str(run / "model"), "-i", str(data / "imagesTr/phantom_000_0000.nii.gz"),
                    "-o", str(tmp_path)]) == 0


def test_the_same_command_does_nothing_twice(run, data, plan, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.h5")}
    before |= {path: path.stat().st_mtime_ns for path in run.glob("validation/**/*.nii.gz")}
    words = ["--plan", str(plan), "--splits", str(data / "splits.json"), "--config", f"{LOW},{CASCADE}"]
    assert execute(["run", str(data), "-o", str(run), *WORDS, *words]) == 0
    assert "trained already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_cascade_alone_brings_its_first_stage(data, plan, tmp_path):
    words = ["--plan", str(plan), "--splits", str(data / "splits.json"), "--config", CASCADE, "--fold", "1"]
    assert execute(["run", str(data), "-o", str(tmp_path), *WORDS, *words]) == 0
    trained = {path.parent.relative_to(tmp_path / "training").as_posix()
               for path in tmp_path.glob("training/*/*/weights.safetensors")}
    assert trained == {f"{LOW}/fold_0", f"{LOW}/fold_1", f"{CASCADE}/fold_1"}
    model = json.loads((tmp_path / "model/model.json").read_text())
    assert model["chosen"] == [CASCADE]
    assert sorted(model["configurations"]) == [CASCADE, LOW]


def test_without_the_first_stage_the_second_says_what_to_do(data, plan, tmp_path):
    words = ["--plan", str(plan), "--splits", str(data / "splits.json"), "--dry-run"]
    assert execute(["run", str(data), "-o", str(tmp_path), *WORDS, *words]) == 0
    with pytest.raises(SegError, match=r"3d_lowres predicted 5 cases in none of its folds") as caught:
        previous_predictions(fold_of(tmp_path, CASCADE, "0"))
    assert caught.value.exit_code == Exit.DATA
