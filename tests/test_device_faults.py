"""A device that fails, or is too small: one record, the other folds go on, and the same command ends as ever."""

import re
import weakref
from pathlib import Path

import pytest
import torch

import seg
from seg import SegError, training
from seg.checkpoint import load_state, newest_state
from seg.device_faults import let_go, told
from seg.errors import Exit
from seg.phantom import write_phantom
from seg_cli.main import execute

TINY = ["--device", "cpu", "--seed", "0", "--epochs", "3", "--fold", "0,1", "--set", "train.steps_per_epoch=4",
        "--set", "architecture.features=4"]  # fmt: skip
FOLDS = [Path(f"training/3d_fullres/fold_{fold}") for fold in (0, 1)]
SECOND_EPOCH = 6  # steps are done
GONE = RuntimeError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA` …")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(folder, cases=5, shape=(16, 20, 18))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seg.stages.report.write_report", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run in which nothing failed."""
    folder = tmp_path_factory.mktemp("straight")
    assert execute(["run", str(data), "-o", str(folder), *TINY]) == 0
    return folder


@pytest.fixture(scope="module")
def straight(finished):
    """The weights of both its folds."""
    return weights(finished)


@pytest.fixture
def start(data, capsys):
    """Run; exit code and standard error, in which there is no traceback."""
    def call(folder):
        code = execute(["run", str(data), "-o", str(folder), *TINY])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert "internal error" not in err
        return code, err

    return call


def weights(folder):
    return [(folder / fold / "weights.safetensors").read_bytes() for fold in FOLDS]


def failing(monkeypatch, error, step, fold="0"):
    """Have the step after `step` steps of a fold raise `error`."""
    original = training.Trainer.train_step

    def train_step(self, batch):
        if self.step == step and self.job.fold == fold:
            raise error
        original(self, batch)

    monkeypatch.setattr(training.Trainer, "train_step", train_step)


@pytest.mark.parametrize(("error", "code"), [(GONE, "SEG-R11"), (FULL, "SEG-R09")])
def test_one_fold_fails_the_other_is_trained_and_the_same_command_goes_on(
    error, code, start, straight, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        failing(patch, error, SECOND_EPOCH)
        found, err = start(tmp_path)
    assert found == Exit.RESOURCES
    assert len(re.findall(rf"^{code} error", err, flags=re.MULTILINE)) == 1
    told_once = " ".join(err.split())
    assert f"at step {SECOND_EPOCH + 1}" in told_once
    assert "after step 4" in told_once
    state = newest_state(tmp_path / FOLDS[0])
    assert load_state(state)[1]["step"] == 4
    assert not (tmp_path / FOLDS[0] / "weights.safetensors").exists()
    other = tmp_path / FOLDS[1] / "weights.safetensors"
    assert other.read_bytes() == straight[1]
    stamp = other.stat().st_mtime_ns
    assert start(tmp_path)[0] == 0
    assert weights(tmp_path) == straight
    assert other.stat().st_mtime_ns == stamp


def test_one_that_fails_before_its_first_state_begins_again(start, straight, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        failing(patch, GONE, 1)
        found, err = start(tmp_path)
    assert found == Exit.RESOURCES
    assert "no state was saved yet" in " ".join(err.split())
    assert start(tmp_path)[0] == 0
    assert weights(tmp_path) == straight


def test_a_device_that_fails_in_validation_keeps_what_was_trained(start, straight, tmp_path, monkeypatch):
    def gone(*_):
        raise GONE

    with monkeypatch.context() as patch:
        patch.setattr("seg.stages.execute.validate_fold", gone)
        found, err = start(tmp_path)
    assert found == Exit.RESOURCES
    assert "in validation" in " ".join(err.split())
    assert weights(tmp_path) == straight
    assert start(tmp_path)[0] == 0


def test_a_plan_that_cannot_fit_is_refused_before_a_case_is_prepared(start, straight, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("seg.estimates.total_memory", lambda _: 10_000)
        found, err = start(tmp_path)
    assert found == Exit.RESOURCES
    assert "SEG-R09 error" in err
    assert "planner.vram_gb=" in err
    assert not (tmp_path / "cases").exists()
    assert start(tmp_path)[0] == 0
    assert weights(tmp_path) == straight


def test_a_device_that_fails_in_a_prediction_ends_it_and_what_was_written_is_kept(
    data, finished, tmp_path, monkeypatch, capsys
):
    predict_volume = seg.Model.predict_volume

    def gone(self, array, spacing, *, case="", **words):
        if case == "phantom_002":
            raise GONE
        return predict_volume(self, array, spacing, case=case, **words)

    words = ["predict", "-m", str(finished / "model"), "-i", str(data / "imagesTr"), "-o", str(tmp_path / "out"),
             "--device", "cpu"]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(seg.Model, "predict_volume", gone)
        assert execute(words) == Exit.RESOURCES
    assert "SEG-R11 error" in capsys.readouterr().err
    first = tmp_path / "out/phantom_000.nii.gz"
    stamp = first.stat().st_mtime_ns
    assert execute(words) == 0
    assert first.stat().st_mtime_ns == stamp
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 5


def test_other_errors_are_left_alone(tmp_path):
    for error in (ValueError("x"), RuntimeError("shapes differ"), SegError([])):
        with pytest.raises(type(error)) as caught, told(tmp_path, "cuda:0", lambda: "here"):
            raise error
        assert caught.value is error


def test_what_an_error_held_is_let_go():
    class Large:
        pass

    large = []

    def train():
        held = Large()
        large.append(weakref.ref(held))
        with told(Path("nowhere"), "cuda:0", lambda: "here"):
            raise FULL.with_traceback(None)

    def work():
        try:
            train()
        except SegError as error:
            let_go(error)
            return error, large[0]()
        return None

    error, left = work()
    assert left is None
    assert error.records[0].code == "SEG-R09"
