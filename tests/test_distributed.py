"""Ranks that share batches take the steps of one process; what happens to one of them ends all in order."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file, save_file
from torch import nn

from seg import (
    Batch,
    CaseArrays,
    CaseIndex,
    Configuration,
    Labels,
    Position,
    SegError,
    Silent,
    Topology,
    TrainingJob,
    lifeline,
)
from seg.checkpoint import load_state, newest_state
from seg.distributed import Ranks, leading, meeting
from seg.errors import Exit
from seg.losses import DeepSupervision
from seg.settings import TrainOptions
from seg.training import Data, Interrupted, Job, Length, train
from seg_basic.budget import BudgetRecipe
from seg_cli.main import execute
from seg_nnunet.loss import DiceCrossEntropy
from seg_nnunet.recipe import NnUNetRecipe

LABELS = Labels(values={"background": 0, "a": 1})
TOPOLOGY = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3, 3),), strides=((1, 1),), blocks=(1,),
                    decoder_blocks=())
RECIPES = {"nnunet": NnUNetRecipe(), "budget": BudgetRecipe()}
STEPS = 8
CPU = torch.device("cpu")


class Random:
    """Batches out of the generator alone, in which samples differ in how much of them is labelled."""

    def positions(self, index, configuration, margin, rng):
        return [Position(case=0, start=(0, 0, 0))] * configuration.batch

    def margin(self, configuration):
        return 0, 0, 0

    def batch(self, cases, positions, configuration, rng, device):
        image = torch.from_numpy(rng.standard_normal((len(positions), 1, *configuration.patch), np.float32))
        limits = torch.linspace(-1, 1.5, len(positions)).view(-1, 1, 1)
        return Batch(image=image, label=(image[:, 0] > limits).long())


def _convolution():
    return nn.Conv2d(1, 4, 3, padding=1, bias=False)  # a bias before a norm has a gradient of rounding errors alone


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = _convolution(), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return [self.last(self.norm(self.first(x)).relu())]


def make_job(folder, batch, recipe, **changes):
    configuration = Configuration(name="2d", spacing=(999.0, 1.0, 1.0), median_shape=(8.0, 8.0), patch=(8, 8),
                                  batch=batch, topology=TOPOLOGY, normalization=("zscore",),
                                  use_mask_for_norm=(False,), mirror_axes=())
    torch.manual_seed(3)
    parts = Random()
    loss = DeepSupervision(criterion=DiceCrossEntropy().build(LABELS, configuration), weights=(1.0,))
    job = Job(folder=folder, configuration=configuration, network=Network(), loss=loss, recipe=RECIPES[recipe],
              data=Data(cases=[CaseArrays(image=None, label=None)], sampler=parts, augmenter=parts,
                        index=[CaseIndex(case="c", shape=(1, 8, 8), locations={})]),
              options=TrainOptions(steps_per_epoch=4, autocast="off"), length=Length(steps=STEPS), seed=(0, 1),
              device=CPU)
    return evolve(job, **changes)


class Stop(Silent):
    """Sends this process a signal after some steps; never if that is negative."""

    def __init__(self, after):
        self.left = after

    def advance(self, steps=1):
        self.left -= steps
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


def as_rank(folder, rank, count, batch, recipe, stop):
    """What a process of its own does here: one rank, whose weights lie in `folder` afterwards."""
    ranks = Ranks(rank=rank, count=count)
    with meeting(ranks, folder / f"meeting_{stop}", CPU):
        job = make_job(folder, batch, recipe, ranks=ranks, parts=2)
        try:
            save_file(train(job, Stop(stop if rank else -1)), folder / f"weights_{rank}.safetensors")
        except Interrupted as error:
            sys.exit(error.exit_code)


def side_by_side(folder, count, batch, recipe, stop=-1):
    """The exit codes of all ranks; one that is not the first gets a signal after `stop` steps."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", RANK, __file__, str(folder)]
    words = [[str(word) for word in (rank, count, batch, recipe, stop)] for rank in range(count)]
    return [process.wait() for process in [subprocess.Popen([*command, *each]) for each in words]]


RANK = """
import importlib.util, sys, warnings
from pathlib import Path
spec = importlib.util.spec_from_file_location("ranks", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
folder, rank, count, batch, recipe, stop = sys.argv[2:]
module.as_rank(Path(folder), int(rank), int(count), int(batch), recipe, int(stop))
"""


@pytest.mark.parametrize(("batch", "recipe"), [(2, "nnunet"), (3, "nnunet"), (3, "budget")])
def test_two_ranks_take_the_steps_of_one_process_also_resumed(tmp_path, batch, recipe):
    (tmp_path / "one").mkdir()
    straight = train(make_job(tmp_path / "one", batch, recipe), Silent())
    assert side_by_side(tmp_path / "two", 2, batch, recipe, stop=5) == [143, 143]
    assert load_state(newest_state(tmp_path / "two"))[1]["step"] in (5, 6)  # all ended with the same step
    assert side_by_side(tmp_path / "two", 2, batch, recipe) == [0, 0]
    first, second = (load_file(tmp_path / f"two/weights_{rank}.safetensors") for rank in (0, 1))
    for name, value in straight.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-5)
    assert len((tmp_path / "two/metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(("code", "exit_code"), [(0, Exit.RESOURCES), (3, Exit.DATA)])
def test_a_rank_that_ends_before_all_are_there_is_told(tmp_path, code, exit_code):
    command = (sys.executable, "-c", f"print('gone'); raise SystemExit({code})")
    job = TrainingJob(configuration="2d", fold="0", command=command, log=tmp_path / "log.txt")
    with (
        lifeline() as line,
        pytest.raises(SegError, match=f"fold 0 rank 1 ended with exit code {code}; last said: gone") as caught,
        leading(job, [CPU, CPU], line, dict(os.environ)),
    ):
        pass
    assert caught.value.exit_code == exit_code


def test_shares_are_all_of_a_batch():
    batch = Batch(image=torch.arange(5).view(5, 1, 1, 1), label=torch.arange(5).view(5, 1, 1))
    shares = [Ranks(rank=rank, count=3).share(batch) for rank in range(3)]
    assert [len(share.image) for share in shares] == [2, 2, 1]
    assert torch.equal(torch.cat([share.image for share in shares]), batch.image)
    assert torch.equal(torch.cat([share.label for share in shares]), batch.label)
    assert Ranks().share(batch) is batch


# With the command line

TINY = ["--epochs", "2", "--fold", "0", "--set", "train.steps_per_epoch=2", "--set", "architecture.features=4", "--set",
        "train.autocast=off"]  # fmt: skip

MINE = """
from seg import Offer, hookimpl

@hookimpl
def seg_samplers():
    yield Offer("mine", "seg_basic.uniform:UniformSampler")
"""


def threads_of_gloo():
    """Threads of a group that are left in this process; they are none of Python's."""
    names = []
    for file in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # one may end meanwhile
            names.append(file.read_text())
    return [name for name in names if "gloo" in name]


def test_a_run_on_two_devices(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("seg.stages.report.write_report", lambda *_: None)
    (tmp_path / "mine.py").write_text(MINE)
    words = ["run", str(data), "-o", str(tmp_path / "run"), *TINY, "--plugin", str(tmp_path / "mine.py"), "--sampler",
             "mine"]  # fmt: skip
    threads = torch.get_num_threads()
    assert execute([*words, "--device", "cpu,cpu,cpu"]) == Exit.USAGE
    assert "3 devices for batches of 2" in capsys.readouterr().err
    assert execute([*words, "--device", "cpu,cpu"]) == 0
    assert "epoch 2  step 4" in capsys.readouterr().err
    fold = tmp_path / "run/training/3d_fullres/fold_0"
    assert (fold / "weights.safetensors").exists()
    assert "epoch 2  step 4" in (fold / "rank_1.txt").read_text()
    assert torch.get_num_threads() == threads
    assert not threads_of_gloo()


KILLED = """
import os, signal, sys
from seg import training
from seg_cli.main import execute
step = training.Trainer.train_step
def killed(self, batch):
    if self.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, batch)
training.Trainer.train_step = killed
sys.exit(execute(sys.argv[1:]))
"""


def test_a_rank_that_dies_is_told_and_the_same_command_goes_on(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("seg.stages.report.write_report", lambda *_: None)
    monkeypatch.setattr("seg.stages.train.command_of_seg", lambda: (sys.executable, "-c", KILLED))
    words = ["run", str(data), "-o", str(tmp_path), *TINY, "--device", "cpu,cpu"]
    assert execute(words) == Exit.RESOURCES
    err = capsys.readouterr().err
    assert "3d_fullres fold 0 rank 1 was killed (SIGKILL)" in err
    assert not threads_of_gloo()
    monkeypatch.undo()
    monkeypatch.setattr("seg.stages.report.write_report", lambda *_: None)
    assert execute(words) == 0
    assert "epoch 1 " not in capsys.readouterr().err  # it went on
