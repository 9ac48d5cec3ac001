"""Events for TensorBoard: one file a training, steps that are done again void, nothing without the package."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import seg_tensorboard
from seg import Evaluation

EVALUATION = Evaluation(cases=(), class_means={"organ": {"dice": 0.75, "hd95_mm": None}}, mean={"dice": 0.5})
EVENTS = "tensorboard/2d_fold_0/events.out.tfevents.seg"


def epoch(run, number, loss):
    row = {"epoch": number, "step": 2 * number, "seconds": 0.5, "loss": loss, "lr": 0.01}
    seg_tensorboard.seg_epoch_ended(folder=run / "training/2d/fold_0", configuration="2d", fold="0", row=row)


def validation(run):
    training = run / "training/2d/fold_0"
    training.mkdir(parents=True)
    (training / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (2, 4, 6)))
    seg_tensorboard.seg_validation_done(folder=run / "validation/2d/fold_0", configuration="2d", fold="0",
                                        evaluation=EVALUATION)


class Writer:
    """Stands for torch's writer where its package is not installed: a line of text for each event."""

    def __init__(self, folder, purge_step):
        self.file, self.purge = Path(folder) / "events", purge_step

    def __enter__(self):
        self.stream = self.file.open("w")
        self.stream.write(f"purge {self.purge}\n")
        return self

    def __exit__(self, *_):
        self.stream.close()

    def add_scalar(self, name, value, step):
        self.stream.write(f"{name} {value} {step}\n")

    def add_text(self, name, text, step):
        self.stream.write(f"{name} {len(text.splitlines())} lines {step}\n")


@pytest.fixture
def fake(monkeypatch):
    module, writers = ModuleType("tensorboard"), ModuleType("torch.utils.tensorboard")
    module.__spec__, writers.SummaryWriter = ModuleSpec("tensorboard", None), Writer
    monkeypatch.setitem(sys.modules, "tensorboard", module)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writers)


@pytest.mark.usefixtures("fake")
def test_what_is_written(tmp_path):
    (tmp_path / "run.toml").write_text("[run]\nseed = 1\n")
    epoch(tmp_path, 1, 0.5)
    epoch(tmp_path, 2, 0.25)
    validation(tmp_path)
    assert (tmp_path / EVENTS).read_text().splitlines() == [
        "purge 2", "training/loss 0.5 2", "training/lr 0.01 2", "settings 5 lines 0",
        "purge 4", "training/loss 0.25 4", "training/lr 0.01 4",
        "purge 7", "validation/dice/mean 0.5 6", "validation/dice/organ 0.75 6"]


def test_nothing_is_written_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(seg_tensorboard, "find_spec", lambda _: None)
    epoch(tmp_path, 1, 0.5)
    validation(tmp_path)
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.filterwarnings("ignore")  # other people's
def test_tensorboard_reads_it_and_sees_no_step_twice(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "run.toml").write_text("[run]\nseed = 1\n")
    for number, loss in ((1, 0.5), (2, 0.25), (3, 0.125), (2, 0.75)):
        epoch(tmp_path, number, loss)
    validation(tmp_path)
    found = EventAccumulator(str((tmp_path / EVENTS).parent))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("training/loss")] == [(2, 0.5), (4, 0.75)]
    assert [(event.step, event.value) for event in found.Scalars("validation/dice/organ")] == [(6, 0.75)]
    (text,) = found.Tensors("settings/text_summary")
    assert b"seed = 1" in text.tensor_proto.string_val[0]
