"""Runs that were cut short: whatever stopped them, the same command ends with the same weights, bit for bit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seg import checkpoint, training
from seg.convert import load_json
from seg.errors import Exit
from seg.files import locked
from seg_cli.main import execute

TINY = ["--device", "cpu", "--seed", "0", "--epochs", "3", "--fold", "0", "--set", "train.steps_per_epoch=4",
        "--set", "architecture.features=4"]  # fmt: skip
FOLD = Path("training/3d_fullres/fold_0")
SECOND_EPOCH = 6  # a step of it

KILLED = """
import os, signal, sys
from seg import training
from seg_cli.main import execute
step = training.Trainer.train_step
def killed(self, batch):
    if self.step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, batch)
training.Trainer.train_step = killed
sys.exit(execute(sys.argv[2:]))
"""


@pytest.fixture(scope="module", autouse=True)
def _no_report():
    """Drawing it is the longest part of so short a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seg.stages.report.write_report", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """The weights of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    assert start(data, folder) == 0
    return weights(folder)


def start(data, folder):
    return execute(["run", str(data), "-o", str(folder), *TINY])


def weights(folder):
    """The bytes of the weights, also those in the bundle."""
    trained = (folder / FOLD / "weights.safetensors").read_bytes()
    assert (folder / "model/weights/3d_fullres_fold_0.safetensors").read_bytes() == trained
    return trained


def epochs(folder):
    rows = (folder / FOLD / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["epoch"] for row in rows]


@contextlib.contextmanager
def at_step(monkeypatch, number, action):
    """Do `action(trainer)` just before the training's step `number`."""
    original = training.Trainer.train_step

    def step(self, batch):
        if self.step == number:
            action(self)
        original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "train_step", step)
        yield


def raised(number):
    return lambda _: os.kill(os.getpid(), number)


def killed_at(step, data, folder):
    """Run in a process of its own, which `kill -9` ends before `step`."""
    command = [sys.executable, "-c", KILLED, str(step), "run", str(data), "-o", str(folder), *TINY]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums of other blocks are other sums
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | threads)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_twice_the_same_is_the_same(data, straight, tmp_path):
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight
    assert epochs(tmp_path) == [1, 2, 3]


def test_killed_in_the_second_epoch_and_started_again(data, straight, tmp_path, capsys):
    killed_at(SECOND_EPOCH, data, tmp_path)
    assert epochs(tmp_path) == [1]
    assert not (tmp_path / FOLD / "weights.safetensors").exists()
    cases = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cases/*/*.h5")}
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight
    assert epochs(tmp_path) == [1, 2, 3]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cases/*/*.h5")} == cases
    assert "epoch 1 " not in capsys.readouterr().err  # it went on, it did not begin again


@pytest.mark.parametrize("stop", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_step_saves_the_state_and_the_same_command_goes_on(
    stop, data, straight, tmp_path, monkeypatch, capsys
):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with at_step(monkeypatch, SECOND_EPOCH, raised(stop[0])):
        assert start(data, tmp_path) == stop[1]
    err = capsys.readouterr().err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    saved = checkpoint.newest_state(tmp_path / FOLD)
    assert checkpoint.load_state(saved)[1]["step"] == SECOND_EPOCH + 1
    with locked(tmp_path):  # nothing holds the folder any more
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight
    assert epochs(tmp_path) == [1, 2, 3]


def test_a_signal_from_another_process(data, tmp_path):
    """As a scheduler does it, whatever the run is at: here somewhere between preparations and the first epoch."""
    script = "from seg_cli.main import main; main()"
    longer = [word.replace("steps_per_epoch=4", "steps_per_epoch=200") for word in TINY]
    command = [sys.executable, "-c", script, "run", str(data), "-o", str(tmp_path), *longer]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        said = [next(line for line in process.stderr if "train 3d_fullres" in line)]
        process.send_signal(signal.SIGTERM)
        said += process.stderr.readlines()
    assert process.returncode == 143, said
    assert "the same command goes on" in said[-1]


def test_ctrl_c_outside_of_the_training(data, straight, tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("seg.stages.execute.train_fold", stopped)
        assert start(data, tmp_path) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight


def test_a_torn_state_is_passed_over(data, straight, tmp_path, monkeypatch):
    def stop(trainer):
        trainer.save()
        os.kill(os.getpid(), signal.SIGINT)

    with at_step(monkeypatch, SECOND_EPOCH, stop):
        assert start(data, tmp_path) == 130
    newest = checkpoint.newest_state(tmp_path / FOLD)
    content = bytearray(newest.read_bytes())
    content[-7] ^= 1
    newest.write_bytes(content)
    older = checkpoint.newest_state(tmp_path / FOLD)
    assert older not in (None, newest)
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight


def test_nothing_at_all_to_go_on_from_begins_anew(data, straight, tmp_path, monkeypatch):
    with at_step(monkeypatch, SECOND_EPOCH, raised(signal.SIGINT)):
        assert start(data, tmp_path) == 130
    for state in (tmp_path / FOLD).glob("state_*"):
        state.write_bytes(b"torn")
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight
    assert epochs(tmp_path) == [1, 2, 3]


def test_killed_between_the_cases_only_the_rest_is_done(data, straight, tmp_path, monkeypatch):
    """The store goes on where it was; the manifest says what is whole."""
    script = """
import os, signal, sys
from seg import store
from seg_cli.main import execute
write = store.Store.write
def killed(self, case, *rest):
    if len(self.cases) >= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, case, *rest)
store.Store.write = killed
sys.exit(execute(sys.argv[1:]))
"""
    command = [sys.executable, "-c", script, "run", str(data), "-o", str(tmp_path), *TINY]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = tmp_path / "cases/3d_fullres"
    whole = load_json(folder / "manifest.json")["cases"]
    before = {case: (folder / f"{case}.h5").stat().st_mtime_ns for case in whole}
    assert 2 <= len(whole) < 5
    assert execute(["train", str(tmp_path)]) == Exit.DATA
    assert start(data, tmp_path) == 0
    assert {case: (folder / f"{case}.h5").stat().st_mtime_ns for case in whole} == before
    assert not list(folder.glob(".*.h5"))
    assert weights(tmp_path) == straight


def test_a_finished_run_ignores_what_is_left_of_its_states(data, straight, tmp_path):
    assert start(data, tmp_path) == 0
    for state in (tmp_path / FOLD).glob("state_*"):
        state.unlink()
    assert start(data, tmp_path) == 0
    assert weights(tmp_path) == straight
