"""A training step on CUDA: nothing waits for the device, and a graph does what the plain step does."""

import warnings

import numpy as np
import pytest
import torch
from attrs import evolve
from torch.utils._python_dispatch import TorchDispatchMode

from seg import CaseArrays, CaseIndex, Configuration, Labels, Position, Silent
from seg.losses import DeepSupervision
from seg.settings import TrainOptions
from seg.training import Data, Job, Length, Trainer, train
from seg_basic.budget import BudgetRecipe
from seg_nnunet.augmenter import NnUNetAugmenter
from seg_nnunet.loss import DiceCrossEntropy
from seg_nnunet.recipe import NnUNetRecipe
from seg_unet.unet import UNet

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LOSSES = pytest.mark.parametrize("loss", [DiceCrossEntropy(), DiceCrossEntropy(top_k=10.0, label_smoothing=0.1)])
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "equal", "is_nonzero", "_unique2"}
PLAIN, IGNORED = Labels(values={"background": 0, "a": 1, "b": 2}), Labels(values={"background": 0, "a": 1, "ignore": 2})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
LABELS = pytest.mark.parametrize("labels", [PLAIN, IGNORED, REGIONS], ids=["classes", "ignore", "regions"])
CERTAIN = NnUNetAugmenter(p_rotation=1.0, p_scaling=1.0, p_noise=1.0, p_blur=1.0, p_brightness=1.0, p_contrast=1.0,
                          p_low_resolution=1.0, p_gamma_inverted=1.0, p_gamma=1.0)


class Corner:
    def positions(self, index, configuration, margin, rng):
        return [Position(case=0, start=tuple(rng.integers(0, 9, 3).tolist())) for _ in range(configuration.batch)]


@pytest.fixture
def no_waiting():
    """A function that fails where the host waits for the device."""
    def call(work):
        torch.cuda.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls it a prototype, once a process
            torch.cuda.set_sync_debug_mode("error")
        try:
            return work()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return call


def make_job(folder, labels=PLAIN, loss=None, **changes):
    topology = UNet(features=4).topology([(3, 3, 3)] * 3, [(1, 1, 1), (2, 2, 2), (2, 2, 2)], 1, labels.outputs)
    configuration = Configuration(name="3d_fullres", spacing=(1.0,) * 3, median_shape=(24.0,) * 3, patch=(16, 16, 16),
                                  batch=2, topology=topology, normalization=("zscore",), use_mask_for_norm=(True,),
                                  mirror_axes=(0, 1, 2), batch_dice=changes.pop("batch_dice", False))
    rng = np.random.default_rng(0)
    case = CaseArrays(image=torch.from_numpy(rng.standard_normal((1, 24, 24, 24), np.float32)).to(DEVICE),
                      label=torch.from_numpy(rng.integers(0, 3, (24, 24, 24)).astype(np.int16)).to(DEVICE))
    torch.manual_seed(1)
    job = Job(folder=folder, configuration=configuration, network=UNet(features=4).build(topology),
              data=Data(cases=[case], index=[CaseIndex(case="c", shape=(24, 24, 24), locations={})], sampler=Corner(),
                        augmenter=CERTAIN),
              loss=DeepSupervision(criterion=(loss or DiceCrossEntropy()).build(labels, configuration),
                                   weights=UNet().loss_weights(topology)),
              recipe=NnUNetRecipe(), options=TrainOptions(steps_per_epoch=4, graph="off"), length=Length(steps=8),
              seed=(0, 1), device=DEVICE)
    return evolve(job, **changes)


class Asked(TorchDispatchMode):
    """Notes what makes a host wait for a device, on any device: values asked for, and lists that become tensors."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put_") else []
        if name in WAITING or any(one is not None and one.dtype == torch.bool for one in indices):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@LABELS
@LOSSES
def test_nothing_in_a_pass_asks_for_a_value_whatever_the_device(tmp_path, labels, loss):
    trainer = Trainer.fresh(make_job(tmp_path, labels, loss))
    batch = trainer.job.make_batch(0)
    with Asked() as asked:
        trainer._gradient(batch)
    assert asked.found == []
    with Asked() as asked:
        float(batch.image.sum())
        torch.tensor([1, 2], device=DEVICE)
        batch.image[batch.image > 0] = 0
    assert len(asked.found) >= 3  # it would be seen


@cuda
@LABELS
@LOSSES
@pytest.mark.parametrize("recipe", [NnUNetRecipe(), NnUNetRecipe(optimizer="adam", amsgrad=True), BudgetRecipe()])
def test_no_step_waits_for_the_device(tmp_path, labels, loss, recipe, no_waiting):
    trainer = Trainer.fresh(make_job(tmp_path, labels, loss, recipe=recipe))
    batch = trainer.job.make_batch(0)
    trainer.train_step(batch)  # the first one may: cuDNN tries its algorithms
    for _ in range(3):
        no_waiting(lambda: trainer.train_step(batch))
    assert trainer.sums[1] == 4


@cuda
@pytest.mark.parametrize("within", [False, True])
def test_no_batch_waits_for_the_device(tmp_path, no_waiting, within):
    job = make_job(tmp_path)
    patch = (4, 16, 16) if within else (16, 16, 16)
    job = evolve(job, configuration=evolve(job.configuration, patch=patch))
    job.make_batch(0)
    for step in range(1, 4):
        batch = no_waiting(lambda step=step: job.make_batch(step))
        assert batch.image.isfinite().all()


@cuda
def test_a_batch_is_that_of_the_cpu_but_for_its_noise(tmp_path):
    job = make_job(tmp_path)
    augmenter = evolve(CERTAIN, p_noise=0.0)
    job = evolve(job, data=evolve(job.data, augmenter=augmenter))
    case = job.data.cases[0]
    there = evolve(job, device=torch.device("cpu"), data=evolve(
        job.data, cases=[CaseArrays(image=case.image.cpu(), label=case.label.cpu())]))
    for step in range(4):
        one, other = job.make_batch(step), there.make_batch(step)
        torch.testing.assert_close(one.image.cpu(), other.image, rtol=1e-3, atol=1e-3)
        assert (one.label.cpu() != other.label).float().mean() < 1e-3


@cuda
@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_graph_gives_the_weights_of_plain_steps(tmp_path, mode):
    said = []
    progress = Silent()
    progress.say = said.append
    options = TrainOptions(steps_per_epoch=4, graph="on", autocast=mode)
    graphed = train(make_job(tmp_path / "a", options=options), progress)
    plain = train(make_job(tmp_path / "b", options=evolve(options, graph="off")), Silent())
    assert any(line.startswith("CUDA graph: used") for line in said), said
    for name, value in plain.items():
        torch.testing.assert_close(graphed[name], value, rtol=0.05, atol=0.02 if mode == "on" else 1e-3)


@cuda
def test_a_graph_waits_for_nothing_and_takes_each_batch(tmp_path, no_waiting):
    trainer = Trainer.fresh(make_job(tmp_path, options=TrainOptions(graph="on", autocast="off")))
    plain = Trainer.fresh(make_job(tmp_path, options=TrainOptions(graph="off", autocast="off")))
    trainer.record(lambda _: None)
    assert trainer.recorded is not None
    for step in range(3):
        batch = trainer.job.make_batch(step)
        found = no_waiting(lambda batch=batch: trainer.recorded(batch))
        torch.testing.assert_close(found, plain._gradient(batch), rtol=1e-4, atol=1e-5)


@cuda
def test_a_pass_that_waits_keeps_the_plain_step(tmp_path):
    job = make_job(tmp_path, options=TrainOptions(graph="on"))
    inner = job.loss

    def asking(outputs, label, **words):
        loss = inner(outputs, label, **words)
        return loss * (1 if loss.item() < 1e9 else 2)

    asking.takes_sums = False
    said = []
    trainer = Trainer.fresh(evolve(job, loss=asking))
    trainer.record(said.append)
    assert trainer.recorded is None
    assert "not used" in said[0]
    trainer.train_step(job.make_batch(0))
    assert trainer.sums.isfinite().all()


@cuda
def test_resumed_with_fused_optimisers_and_any_layout_it_goes_on(tmp_path):
    job = make_job(tmp_path / "a")
    job.network.to(memory_format=torch.channels_last_3d)
    trainer = Trainer.fresh(job)
    assert trainer.optimizer.param_groups[0]["fused"] is True
    for step in range(2):
        trainer.train_step(job.make_batch(step))
    trainer.save()
    again = make_job(tmp_path / "a")
    again.network.to(memory_format=torch.channels_last_3d)
    other = Trainer.begin(again)
    for one in (trainer, other):
        one.train_step(one.job.make_batch(2))
    for name, value in trainer.weights().items():
        torch.testing.assert_close(other.weights()[name], value, rtol=1e-3, atol=1e-4)
