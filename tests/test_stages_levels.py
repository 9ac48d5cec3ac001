"""The levels of a trained UNet++: measured, predicted with, and handed on as models of their own."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import seg
from helpers import PLAIN
from seg.errors import Exit, SegError
from seg.settings import PredictOptions
from seg_cli.main import execute

CASES = 6  # of the fixture `data`
WORDS = [*PLAIN, "--arch", "unetpp"]
VALIDATION = "validation/3d_fullres/fold_0"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run of one fold; tests only look at it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert execute(["run", str(data), "-o", str(folder), *WORDS]) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """A finished run to work in."""
    return shutil.copytree(run, tmp_path / "run")


def levels(folder):
    return json.loads((folder / VALIDATION / "levels.json").read_text())["levels"]


def probabilities(command, model, data, out, *words):
    """What a model says of one image, in full."""
    code, _, err = command("predict", "-m", model, "-i", data / "imagesTr/phantom_000_0000.nii.gz", "-o", out,
                           "--save-probabilities", *words)
    assert code == 0, err
    return np.load(out / "phantom_000.npz")["probabilities"]


def kept(folder):
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file() and path.name != "levels.json"}


def predictions(folder):
    """The validated predictions: they are written only when they are made."""
    return {path: found for path, found in kept(folder / "validation").items() if path.name.endswith(".nii.gz")}


def test_every_level_is_measured_and_nothing_else_is_touched(copy, command):
    before = kept(copy / "validation")
    code, out, _ = command("validate", copy, "--levels")
    assert code == 0
    assert "3d_fullres fold 0, on cpu" in out
    assert all(word in out for word in ("L1", "L2", "organ", "tumour", "seconds a case", "parameters", "memory (MB)"))
    assert kept(copy / "validation") == before
    found = levels(copy)
    assert [one["name"] for one in found] == ["L1", "L2"]
    for name in ("parameters", "weight_bytes", "activation_bytes"):
        assert 0 < found[0][name] < found[1][name]
    assert all(one["seconds"] > 0 for one in found)
    whole = json.loads((copy / VALIDATION / "metrics.json").read_text())
    assert found[-1]["evaluation"] == whole
    stamp = (copy / VALIDATION / "levels.json").stat().st_mtime_ns
    assert command("validate", copy, "--levels")[0] == 0
    assert (copy / VALIDATION / "levels.json").stat().st_mtime_ns == stamp


def test_the_whole_level_predicts_as_the_model_does(run, data, command, tmp_path):
    whole = probabilities(command, run / "model", data, tmp_path / "whole")
    np.testing.assert_array_equal(probabilities(command, run / "model", data, tmp_path / "l2", "--prune", "L2"), whole)
    other = probabilities(command, run / "model", data, tmp_path / "l1", "--prune", "L1")
    assert not np.array_equal(other, whole)


def test_a_kept_prediction_is_of_the_same_level(run, data, command, tmp_path):
    words = ["predict", "-m", run / "model", "-i", data / "imagesTr/phantom_000_0000.nii.gz", "-o", tmp_path]
    assert "1 written" in command(*words)[1]
    assert "1 written" in command(*words, "--prune", "L1")[1]
    assert "1 kept" in command(*words, "--prune", "L1")[1]


def test_a_model_of_a_level_is_that_level_of_the_whole(copy, run, data, command, tmp_path):
    assert command("run", data, "-o", copy, *WORDS, "--set", "predict.prune=L1")[0] == 0
    expected = probabilities(command, run / "model", data, tmp_path / "whole", "--prune", "L1")
    for words in ([], ["--prune", "L1"]):
        found = probabilities(command, copy / "model", data, tmp_path / f"held{len(words)}", *words)
        np.testing.assert_array_equal(found, expected)
    words = ["-m", copy / "model", "-i", data / "imagesTr", "-o", tmp_path / "p"]
    code, _, err = command("predict", *words, "--prune", "L2")
    assert code == Exit.USAGE
    assert "one of L1" in err
    assert "L1, L2" not in err
    name = "weights/3d_fullres_fold_0.safetensors"
    small, large = (load_file(folder / "model" / name) for folder in (copy, run))
    assert sum(map(np.size, small.values())) < sum(map(np.size, large.values()))
    assert {value.tobytes() for value in small.values()} <= {value.tobytes() for value in large.values()}
    assert json.loads((copy / "model/model.json").read_text())["levels"] == {"3d_fullres": "L1"}
    assert (copy / "training/3d_fullres/fold_0/weights.safetensors").read_bytes() == (
        run / "training/3d_fullres/fold_0/weights.safetensors").read_bytes()  # fmt: skip


def test_a_level_that_is_named_is_validated_itself(copy, data, command):
    assert command("validate", copy, "--levels")[0] == 0
    expected = levels(copy)
    assert command("run", data, "-o", copy, *WORDS, "--set", "predict.prune=L1")[0] == 0
    assert json.loads((copy / VALIDATION / "metrics.json").read_text()) == expected[0]["evaluation"]
    assert command("validate", copy, "--levels")[0] == 0
    assert levels(copy) == expected


@pytest.mark.parametrize("tolerance", ["1.0", "0.0"])
def test_the_level_of_auto_is_the_smallest_within_the_tolerance(tolerance, copy, data, command):
    words = ["--set", "predict.prune=auto", "--set", f"predict.prune_tolerance={tolerance}"]
    code, _, err = command("run", data, "-o", copy, *WORDS, *words)
    assert code == 0
    found = levels(copy)
    scores = [one["evaluation"]["mean"]["dice"] for one in found]
    chosen = found[0] if tolerance == "1.0" else found[scores.index(max(scores))]
    assert f"the model gets level {chosen['name']}" in err
    model = json.loads((copy / "model/model.json").read_text())
    assert model["levels"] == {"3d_fullres": chosen["name"]}
    assert model["validation"]["3d_fullres"] == chosen["evaluation"]["mean"]
    validated = json.loads((copy / VALIDATION / "metrics.json").read_text())
    assert validated == chosen["evaluation"]
    report = (copy / "report.html").read_text(encoding="utf-8")
    assert "Levels of the network" in report
    assert report.count("in the model") == 2
    assert "levels" in json.loads((copy / "timings.json").read_text())


@pytest.mark.parametrize("words", [["--set", "predict.prune=L7"], ["--arch", "unet", "--set", "predict.prune=auto"]])
def test_an_unknown_level_is_refused_before_anything_is_trained(words, data, command, tmp_path):
    code, _, err = command("run", data, "-o", tmp_path / "run", *WORDS, *words)
    assert code == Exit.USAGE
    assert "without levels" in err if "unet" in words else "one of L1, L2" in err
    assert not (tmp_path / "run/training").exists()


def test_an_unknown_level_is_refused_at_prediction(run, data, command, tmp_path):
    words = ["-m", run / "model", "-i", data / "imagesTr", "-o", tmp_path / "p"]
    code, _, err = command("predict", *words, "--prune", "L3")
    assert code == Exit.USAGE
    assert "one of L1, L2" in err
    with pytest.raises(SegError, match="one of L1, L2"):
        seg.load(run / "model", device="cpu", options=PredictOptions(prune="L3"))


def test_an_architecture_without_levels_has_none_to_measure(data, command, tmp_path):
    assert command("run", data, "-o", tmp_path, *WORDS, "--arch", "unet", "--dry-run")[0] == 0
    code, _, err = command("validate", tmp_path, "--levels")
    assert code == Exit.USAGE
    assert "without levels" in err
