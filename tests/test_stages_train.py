"""What a training comes from, and the job that is made of the chosen components."""

import pytest
import torch
from attrs import evolve, field, frozen
from torch.nn import functional as F

from seg import Configuration, Description, Exit, Labels, Plan, SegError
from seg.discovery import discover
from seg.distributed import Ranks
from seg.losses import DeepSupervision
from seg.models import ComponentUse
from seg.runfolder import Components
from seg.settings import Settings, TrainOptions
from seg.stages import run, train
from seg.stages.train import Fold
from seg.training import Length
from seg_unet.unet import UNet

TOPOLOGY = UNet(features=2).topology([(3, 3)] * 2, [(1, 1), (2, 2)], 1, 2)
FLAT = Configuration(name="2d", spacing=(1.0, 1.0, 1.0), median_shape=(8.0, 8.0), patch=(8, 8), batch=4,
                     topology=TOPOLOGY, normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=())
PLAN = Plan(description=Description(name="d", channel_names=("MR",), training_cases=2,
                                    labels=Labels(values={"background": 0, "a": 1})),
            planner="p", architecture="unet", transpose_forward=(0, 1, 2), original_median_spacing=(1.0, 1.0, 1.0),
            original_median_shape=(40.0, 40.0, 40.0), intensities=(), configurations={"2d": FLAT})
SETTINGS = Settings(folds=("0",), epochs=1, device="cpu")


@frozen
class Folder:
    """As much of a run folder as is asked for here."""

    path: object

    def cases(self, configuration):
        return self.path / "cases"

    def training(self, configuration, fold):
        return self.path / "training"

    def splits(self):
        return [{"train": [], "val": []}]


@frozen(kw_only=True)
class PlainEntropy:
    """A loss of a stranger: a function, and nothing about parts."""

    built: list = field(factory=list)

    def build(self, labels, configuration):
        self.built.append((labels, configuration))
        return F.cross_entropy


@pytest.fixture
def fold(tmp_path):
    def make(**changes):
        settings = evolve(SETTINGS, **changes)
        return Fold(folder=Folder(tmp_path), settings=settings, components=Components.resolve(settings, discover()),
                    plan=PLAN, configuration="2d", fold="0")

    return make


def test_a_training_comes_from_its_loss_and_its_recipe_with_their_options(fold):
    sources = [fold(**changes).source() for changes in (
        {}, {"recipe": "budget"}, {"options": {"loss": {"top_k": 10}}}, {"options": {"recipe": {"power": 2}}})]
    assert len(set(sources)) == 4
    assert fold(train=TrainOptions(stall_s=5.0)).source() == sources[0]
    assert fold(train=TrainOptions(clip_norm=5.0)).source() != sources[0]
    assert fold(recipe="nnunet").source() == sources[0]  # what would have been chosen anyway
    assert fold(options={"ensembler": {"metric": "nsd"}}).source() == sources[0]
    assert fold(train=TrainOptions(graph="off")).source() == sources[0]
    assert fold(train=TrainOptions(clip_norm=1.0)).source() != sources[0]


def job_of(fold, monkeypatch, loss=None):
    monkeypatch.setattr("seg.estimates.PART_BYTES", 1)  # as many parts as there are samples
    if loss:
        use = ComponentUse(kind="loss", name="plain", distribution="stranger", version="1", options={})
        fold = evolve(fold, components=evolve(fold.components, loss=loss, uses={**fold.components.uses, "loss": use}))
    return train._make_job(fold, FLAT, None, torch.device("cpu"), Length(steps=1))


def test_the_job_has_the_chosen_loss_and_recipe(fold, monkeypatch):
    made = fold(options={"loss": {"dice": 0.0}, "recipe": {"optimizer": "adam"}})
    job = job_of(made, monkeypatch)
    assert job.recipe is made.components.recipe
    assert job.loss.weights == UNet().loss_weights(TOPOLOGY)
    logits, label = torch.randn(4, 2, 8, 8), torch.randint(0, 2, (4, 8, 8))
    torch.testing.assert_close(job.loss([logits] * len(job.loss.weights), label), F.cross_entropy(logits, label))


def test_a_loss_that_says_nothing_of_parts_is_given_whole_batches(fold, monkeypatch):
    assert job_of(fold(), monkeypatch).parts == 4
    assert job_of(fold(options={"loss": {"top_k": 10}}), monkeypatch).parts == 1
    plain = PlainEntropy()
    job = job_of(fold(), monkeypatch, plain)
    assert job.parts == 1
    assert job.loss == DeepSupervision(criterion=F.cross_entropy, weights=(1.0,))
    assert plain.built == [(PLAN.description.labels, FLAT)]


def test_a_loss_that_cannot_be_built_is_its_plugins_fault(fold, monkeypatch):
    class Broken:
        def build(self, labels, configuration):
            raise KeyError("a class")

    with pytest.raises(SegError, match=r"'plain' of stranger 1 .*: build raised KeyError") as caught:
        job_of(fold(), monkeypatch, Broken())
    assert caught.value.exit_code == Exit.PLUGIN


@pytest.mark.parametrize(("settings", "recipe"), [
    (Settings(device="cpu"), "budget"), (Settings(device="cpu", epochs=3), "nnunet"),
    (Settings(device="cpu", recipe="nnunet"), "nnunet"), (Settings(device="cpu", budget_s=5.0), "budget"),
])  # fmt: skip
def test_the_recipe_is_settled_with_the_length(settings, recipe):
    assert run.with_length(settings, discover()).recipe == recipe


GPUS = {"executor": {"gpus": 2}}
NONE = {"executor": {"gpus": 0}}


@pytest.mark.parametrize(("settings", "expected"), [
    (Settings(executor="slurm", options=GPUS), ("nnunet", 1000)),
    (Settings(executor="slurm", device="cuda"), ("nnunet", 1000)),
    (Settings(executor="slurm", options=NONE), ("budget", 0)),
    (Settings(executor="slurm", device="cpu"), ("budget", 0)),
    (Settings(executor="slurm", options=GPUS, budget_s=5.0), ("budget", 0)),
    (Settings(), ("budget", 0)),
])  # fmt: skip
def test_length_and_recipe_are_those_of_the_device_of_the_trainings(settings, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = run.with_length(settings, discover())
    assert (found.recipe, found.epochs) == expected


def test_a_device_of_other_machines_has_a_name_that_is_one():
    with pytest.raises(SegError, match="no device is called 'gpu'") as caught:
        run.with_length(Settings(executor="slurm", device="gpu"), discover())
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(("settings", "loss"), [({"options": {"loss": {"top_k": 10}}}, None), ({}, PlainEntropy())])
def test_a_loss_that_must_see_whole_batches_is_refused_on_several_devices(fold, settings, loss):
    made = fold(**settings)
    if loss:
        made = evolve(made, components=evolve(made.components, loss=loss))
    with pytest.raises(SegError, match="whole batches"):
        train._job(made, None, torch.device("cpu"), 0.0, Ranks(count=2))
    assert train._job(made, None, torch.device("cpu"), 0.0, Ranks()).ranks.count == 1
    assert train._job(fold(), None, torch.device("cpu"), 0.0, Ranks(count=2)).ranks.count == 2
