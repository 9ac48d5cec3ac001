"""A disk that gives no more cases in the middle of a training: it ends, is told, and goes on as if nothing had been."""

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from seg import CaseArrays, CaseIndex, Configuration, Labels, SegError, Silent, Topology
from seg.checkpoint import load_state, newest_state
from seg.losses import DeepSupervision
from seg.phantom import write_phantom
from seg.settings import TrainOptions
from seg.training import Data, Interrupted, Job, Length, train
from seg_basic.plain import NoAugmenter
from seg_basic.uniform import UniformSampler
from seg_cli.main import execute
from seg_nnunet.loss import DiceCrossEntropy
from seg_nnunet.recipe import NnUNetRecipe


class Disk:
    """A map on a disk that answers so many reads, then none until it is mended."""

    def __init__(self, reads, mended):
        self.array = np.random.default_rng(0).standard_normal((1, 9, 12, 12)).astype(np.float32)
        self.shape, self.left, self.mended = self.array.shape, reads, mended

    def __getitem__(self, where):
        self.left -= 1
        if self.left < 0:
            self.mended.wait()
        return self.array[where]


def job_on_disk(folder, reads, mended):
    """A training of three epochs of four steps, each of which reads two patches."""
    topology = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3, 3),), strides=((1, 1),), blocks=(1,),
                        decoder_blocks=())
    configuration = Configuration(name="2d", spacing=(999.0, 1.0, 1.0), median_shape=(8.0, 8.0), patch=(8, 8), batch=2,
                                  topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=())
    case = CaseArrays(image=Disk(reads, mended), label=(Disk(0, mended).array[0] > 0.5).astype(np.int16))
    data = Data(cases=[case], index=[CaseIndex(case="c", shape=(9, 12, 12), locations={})], sampler=UniformSampler(),
                augmenter=NoAugmenter(), read_from=folder)
    torch.manual_seed(3)
    criterion = DiceCrossEntropy().build(Labels(values={"background": 0, "a": 1}), configuration)
    return Job(folder=folder, configuration=configuration, network=Network(), data=data, recipe=NnUNetRecipe(),
               loss=DeepSupervision(criterion=criterion, weights=(1.0,)), length=Length(steps=12), seed=(0, 1),
               options=TrainOptions(steps_per_epoch=4, autocast="off", stall_s=1.0), device=torch.device("cpu"))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.only = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return [self.only(x)]


class Stop(Silent):
    """Sends a signal after some steps."""

    def __init__(self, after):
        self.left = after

    def advance(self, steps=1):
        self.left -= steps
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


def numbers(folder):
    """What the lines of the metrics say, but for the time."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


@pytest.fixture
def mended():
    """Set where the disk answers again; no thread outlasts the test."""
    answers, before = threading.Event(), set(threading.enumerate())
    yield answers
    answers.set()
    for thread in set(threading.enumerate()) - before:
        if thread.name in ("batches", "states"):
            thread.join(60)


def test_a_disk_that_gives_no_more_cases_ends_it_with_its_state_saved(tmp_path, mended):
    straight = train(job_on_disk(tmp_path / "a", 99, mended), Silent())
    with pytest.raises(SegError, match="the disk does not give the cases; expected one within 1 s") as caught:
        train(job_on_disk(tmp_path / "b", 13, mended), Silent())
    (record,) = caught.value.records
    assert (record.code, caught.value.exit_code, record.file) == ("SEG-R10", 5, str(tmp_path / "b"))
    assert "the same command goes on from here" in record.advice
    assert load_state(newest_state(tmp_path / "b"))[1]["step"] == 6
    mended.set()
    resumed = train(job_on_disk(tmp_path / "b", 99, mended), Silent())
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


def test_a_disk_that_takes_no_state_either_is_not_waited_for(tmp_path, mended, monkeypatch):
    monkeypatch.setattr("seg.saving.save_state", lambda *_: mended.wait())
    for name in ("seg.training.LAST_SAVE_S", "seg.saving.LAST_S"):
        monkeypatch.setattr(name, 0.01)
    with pytest.raises(SegError, match="nor does it take the state") as caught:
        train(job_on_disk(tmp_path, 3, mended), Silent())
    assert "from the last state that was saved" in caught.value.records[0].advice


def test_a_signal_does_not_wait_for_the_disk(tmp_path, mended):
    with pytest.raises(Interrupted):
        train(job_on_disk(tmp_path, 5, mended), Stop(2))
    assert load_state(newest_state(tmp_path))[1]["step"] == 2


STUCK = """
import io, sys, threading
from types import SimpleNamespace
import h5py
from seg import store, training
from seg.stages import _cases, validate
from seg_cli.main import main

class Disk(io.FileIO):
    hangs = False
    def readinto(self, into):
        if Disk.hangs:
            threading.Event().wait()
        return super().readinto(into)

def opened(path, mode, **how):
    return h5py.File(Disk(path), mode, rdcc_nbytes=0) if mode == "r" else h5py.File(path, mode, **how)

store.h5py = SimpleNamespace(File=opened)
"""
IN_A_STEP = """
step = training.Trainer.train_step
def stepped(self, batch):
    step(self, batch)
    Disk.hangs = self.step >= 3

training.Trainer.train_step = stepped
_cases.free_memory = lambda device: 0
"""
AT_THE_BEGINNING = """
place_for = _cases.place_for
def hanging(size, device):
    Disk.hangs = True
    return place_for(size, device)

_cases.place_for = hanging
"""
AT_THE_VALIDATION = """
ready = validate.ready
def hanging(*args, **kwargs):
    Disk.hangs = True
    return ready(*args, **kwargs)

validate.ready = hanging
"""


def run_stuck(tmp_path, when):
    """A run of two folds whose disk hangs within HDF5, from when `when` says; it ends with one record."""
    write_phantom(tmp_path / "data", cases=5, shape=(16, 20, 18))
    words = ["run", str(tmp_path / "data"), "-o", str(tmp_path / "run"), "--device", "cpu", "--epochs", "2", "--fold",
             "0,1", "--set", "train.steps_per_epoch=4", "--set", "architecture.features=4"]
    done = subprocess.run([sys.executable, "-c", f"{STUCK}{when}main()", *words, "--set", "train.stall_s=1"],
                          check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 5, done.stderr
    assert "SEG-R10 error" in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr, tmp_path / "run/training/3d_fullres"


def test_a_run_whose_disk_hangs_within_hdf5_ends_with_one_record_and_goes_on(tmp_path):
    """A reader holds h5py's lock then: neither its files nor the process may be waited for, nor the next fold begun."""
    told, folds = run_stuck(tmp_path, IN_A_STEP)
    assert "read from the disk patch by patch: 0 B of memory free" in told
    assert [folder.name for folder in folds.iterdir() if folder.is_dir()] == ["fold_0"]
    assert load_state(newest_state(folds / "fold_0"))[1]["step"] in (3, 4)  # one was made ahead
    assert execute(["train", str(tmp_path / "run")]) == 0


def test_so_it_does_where_the_cases_of_a_training_are_loaded(tmp_path):
    told, folds = run_stuck(tmp_path, AT_THE_BEGINNING)
    assert "not read after 1 s" in told
    assert newest_state(folds / "fold_0") is None
    assert execute(["train", str(tmp_path / "run")]) == 0


def test_and_where_they_are_validated(tmp_path):
    told, folds = run_stuck(tmp_path, AT_THE_VALIDATION)
    assert "not read after 1 s" in told
    assert (folds / "fold_0" / "done.json").exists()
    assert execute(["train", str(tmp_path / "run")]) == 0
