"""What components give back is checked, and whoever broke a promise is named: plugin, version, hook, types."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Batch, CaseIndex, Position, Record, SegError
from seg.contracts import (
    FirstBatch,
    FirstPositions,
    blamed,
    build_network,
    check_labels,
    check_map,
    check_selection,
    check_steps,
    labelled,
    loss_weights,
    small_patch,
    try_loss,
    try_network,
)
from seg.models import ComponentUse, Configuration, Dataset, Fingerprint, Labels
from seg.phantom import write_phantom
from seg.stages.fingerprint import make_fingerprint
from seg.stages.plan import make_plan
from seg_basic.ensemblers import MeanEnsembler
from seg_cli.main import execute
from seg_unet import unet

UNET = unet.UNet(features=2)
TOPOLOGY = UNET.topology([[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]], 1, 2)
CONFIGURATION = Configuration(
    name="3d", spacing=(1.0, 1.0, 1.0), median_shape=(16.0,) * 3, patch=(16, 16, 8), batch=2, topology=TOPOLOGY,
    normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=(0,))
LABELS = Labels(values={"background": 0, "organ": 1, "tumour": 2})
WEIGHTS = UNET.loss_weights(TOPOLOGY)


def use_of(kind):
    return ComponentUse(kind=kind, name="mine", distribution="segplug-x", version="1.4")


def refusal(work, *arguments, hook):
    """What is told of a broken promise; it always names who broke it."""
    with pytest.raises(SegError) as caught:
        work(*arguments)
    told = str(caught.value)
    assert caught.value.exit_code == 6
    assert "SEG-P10" in told
    assert "segplug-x 1.4" in told
    assert f"hook {hook}" in told
    assert "expected" in told
    return told


class Network(nn.Module):
    """One convolution for each output; `bend` spoils what it gives."""

    def __init__(self, bend, outputs=1):
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv3d(1, 2, 3, padding=1) for _ in range(outputs))
        self.norm = nn.BatchNorm3d(1)
        self.bend = bend

    def forward(self, x):
        x = self.norm(x)
        return self.bend(self, [head(x) for head in self.heads])


def raises(*_):
    raise RuntimeError("no such shape")


BENT = {
    "none": (lambda self, out: None, "gave NoneType"),
    "tensor": (lambda self, out: out[0], "expected a list of logits"),
    "number": (lambda self, out: [42], "gave int 42"),
    "empty": (lambda self, out: [], "0 outputs"),
    "two": (lambda self, out: out * 2, "2 outputs"),
    "none in eval": (lambda self, out: out if self.training else [], "in eval() gave 0 outputs"),
    "smaller": (lambda self, out: [out[0][..., ::2]], "(1, 2, 8, 4, 4)"),
    "classes": (lambda self, out: [out[0][:, :1]], "expected (1, 2, 8, 4, 4)"),
    "flat": (lambda self, out: [out[0][0]], "torch.Tensor"),
    "whole": (lambda self, out: [out[0].int()], "no numbers"),
    "nan": (lambda self, out: [out[0] * torch.nan], "no numbers"),
    "inf in training": (lambda self, out: [out[0] / (0 if self.training else 1)], "in training"),
    "raises": (raises, "raised RuntimeError: no such shape"),
}


@pytest.mark.parametrize("bend", BENT)
def test_a_network_is_tried_once_it_is_built(bend):
    spoil, told = BENT[bend]
    text = refusal(try_network, Network(spoil), CONFIGURATION, (1.0,), use_of("architecture"), hook="seg_architectures")
    assert told in text or told.replace("8, 4, 4", "16, 16, 8") in text


def test_trying_changes_nothing():
    network = Network(lambda _, out: out).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    try_network(network, CONFIGURATION, (1.0,), use_of("architecture"))
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_needs_the_planned_patch_gets_it():
    sizes = []

    def choosy(_, out):
        sizes.append(tuple(out[0].shape[2:]))
        return out if sizes[-1] == CONFIGURATION.patch else None

    try_network(Network(choosy), CONFIGURATION, (1.0,), use_of("architecture"))
    assert sizes == [(8, 4, 4), (16, 16, 8), (16, 16, 8)]


def test_the_small_patch_is_divisible_and_no_larger_than_the_planned_one():
    assert small_patch(CONFIGURATION) == (8, 4, 4)
    assert small_patch(evolve(CONFIGURATION, patch=(4, 4, 8))) == (4, 4, 8)
    assert small_patch(evolve(CONFIGURATION, patch=(4, 4, 4))) == (4, 4, 4)
    try_network(UNET.build(TOPOLOGY), CONFIGURATION, WEIGHTS, use_of("architecture"))


@pytest.mark.parametrize("weights", [None, 1.0, (), (0.5, 0.4), (2.0, -1.0), ("a",), (float("nan"),)])
def test_loss_weights_are_numbers_that_sum_to_1(weights):
    bad = SimpleNamespace(loss_weights=lambda _: weights)
    refusal(loss_weights, bad, TOPOLOGY, use_of("architecture"), hook="seg_architectures")


@pytest.mark.parametrize("built", [None, 42, nn.Module])
def test_build_gives_a_module(built):
    bad = SimpleNamespace(build=lambda _: built)
    told = refusal(build_network, bad, TOPOLOGY, use_of("architecture"), hook="seg_architectures")
    assert "expected torch.nn.modules.module.Module" in told


def batch_of(**changed):
    image = torch.zeros(2, 1, *CONFIGURATION.patch)
    label = torch.zeros(2, *CONFIGURATION.patch, dtype=torch.int64)
    return Batch(**{"image": image, "label": label, **changed})


def augment(batch):
    inner = SimpleNamespace(margin=lambda _: (0, 0, 0), batch=lambda *_: batch)
    return FirstBatch(inner, use_of("augmenter")).batch([], [], CONFIGURATION, None, torch.device("cpu"))


@pytest.mark.parametrize("batch", [
    None, (1, 2), batch_of(image=None), batch_of(image=torch.zeros(2, 1, 16, 16, 9)),
    batch_of(image=batch_of().image.double()), batch_of(label=batch_of().label.int()),
    batch_of(label=batch_of().label[:1]), batch_of(label=batch_of().label - 1),
    batch_of(image=batch_of().image * torch.nan), batch_of(image=np.zeros((2, 1, 16, 16, 8), np.float32)),
    batch_of(image=batch_of().image.to("meta")),
])  # fmt: skip
def test_the_first_batch_is_checked(batch):
    refusal(augment, batch, hook="seg_augmenters")


def test_only_the_first_batch_is():
    given = [batch_of(), None]
    inner = SimpleNamespace(margin=lambda _: (0, 0, 0), batch=lambda *_: given.pop(0))
    checked = FirstBatch(inner, use_of("augmenter"))
    for expected in (given[0], None):
        assert checked.batch([], [], CONFIGURATION, None, torch.device("cpu")) is expected


@pytest.mark.parametrize("margin", [None, 3, (1, 2), (0, 0, -1)])
def test_a_margin_is_three_numbers(margin):
    checked = FirstBatch(SimpleNamespace(margin=lambda _: margin), use_of("augmenter"))
    refusal(checked.margin, CONFIGURATION, hook="seg_augmenters")


HERE = Position(case=0, start=(0, 0, 0))


@pytest.mark.parametrize("found", [
    None, 42, [HERE], [HERE] * 3, [HERE, 1], [HERE, evolve(HERE, case=1)], [HERE, evolve(HERE, case=-1)],
    [HERE, evolve(HERE, start=(0, 0))],
])  # fmt: skip
def test_the_first_positions_are_checked(found):
    index = [CaseIndex(case="a", shape=(9, 9, 9), locations={})]
    checked = FirstPositions(SimpleNamespace(positions=lambda *_: found), use_of("sampler"))
    refusal(checked.positions, index, CONFIGURATION, (0, 0, 0), None, hook="seg_samplers")
    good = FirstPositions(SimpleNamespace(positions=lambda *_: [HERE, HERE]), use_of("sampler"))
    assert good.positions(index, CONFIGURATION, (0, 0, 0), None) == [HERE, HERE]
    assert good.checked


SPOILT = {
    "none": lambda loss: None, "number": lambda loss: 0.5, "vector": lambda loss: loss[None],
    "detached": lambda loss: loss.detach(), "inf": lambda loss: loss / 0, "whole": lambda loss: loss.int(),
    "raises": raises,
}  # fmt: skip


@pytest.mark.parametrize("fault", SPOILT)
def test_a_loss_is_tried(fault):
    bad = lambda logits, _: SPOILT[fault](logits.mean())  # noqa: E731
    refusal(try_loss, bad, LABELS, CONFIGURATION, use_of("loss"), hook="seg_losses")


def test_a_loss_that_is_tried_sees_what_it_will_see():
    seen = []

    def loss(logits, ids):
        seen.append((tuple(logits.shape), tuple(ids.shape), ids.dtype, set(ids.unique().tolist())))
        return logits.mean()

    try_loss(loss, LABELS, CONFIGURATION, use_of("loss"))
    assert seen == [((2, LABELS.outputs, 8, 4, 4), (2, 8, 4, 4), torch.int64, {0, 1, 2})]


@pytest.mark.parametrize("chosen", [None, 42, (), ("c",), ("a", "a"), "a", (1,)])
def test_an_ensembler_chooses_known_names(chosen):
    refusal(check_selection, chosen, ["a", "b"], use_of("ensembler"), hook="seg_ensemblers")
    assert check_selection(["b"], ["a", "b"], use_of("ensembler")) == ("b",)


@pytest.mark.parametrize("found", [None, np.zeros((2, 3, 3, 3)), torch.zeros(2, 3, 3), torch.zeros(2, 3, 3, 3).int()])
def test_an_ensembler_gives_a_map(found):
    refusal(check_map, found, (2, 3, 3, 3), use_of("ensembler"), "combine_folds", hook="seg_ensemblers")
    refusal(check_map, found, None, use_of("ensembler"), "combine_folds", hook="seg_ensemblers")


class Asks:
    def __init__(self, answer):
        self.answer = answer

    def for_labels(self, labels):
        return self.answer(labels)


def test_an_ensembler_that_asks_for_labels_gets_them_and_gives_an_ensembler():
    labels, use, plain = Labels(values={"background": 0, "a": 1}), use_of("ensembler"), MeanEnsembler()
    asked = []
    assert labelled(plain, labels, use) is plain
    assert labelled(Asks(lambda labels: asked.append(labels) or plain), labels, use) is plain
    assert asked == [labels]
    for wrong in (lambda _: None, lambda labels: labels.nothing):
        refusal(labelled, Asks(wrong), labels, use, hook="seg_ensemblers")


@pytest.mark.parametrize("found", [None, np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 2), np.int16)])
def test_a_postprocessor_keeps_shape_and_dtype(found):
    given = np.zeros((2, 2, 2), np.uint8)
    refusal(check_labels, found, given, use_of("postprocessor"), hook="seg_postprocessors")
    assert check_labels(given, given, use_of("postprocessor")) is given


def test_steps_are_texts():
    for found in (None, "text", [1]):
        refusal(check_steps, found, use_of("postprocessor"), hook="seg_postprocessors")


def test_what_ours_raise_is_a_bug_and_refusals_stay():
    ours = evolve(use_of("planner"), distribution="segplug")
    for use, error in ((ours, KeyError), (use_of("planner"), MemoryError), (use_of("planner"), KeyboardInterrupt)):
        with pytest.raises(error), blamed(use, "plan"):
            raise error
    with pytest.raises(SegError, match="no"), blamed(use_of("planner"), "plan"):
        raise SegError(Record(code="SEG-D00", found="no"))


@pytest.mark.parametrize("found", [None, 42, Dataset])
def test_plans_and_fingerprints_are_what_they_are_called(found, tmp_path):
    write_phantom(tmp_path / "data", cases=1, shape=(8, 9, 10))
    from seg.discovery import discover
    from seg.stages.check import find_dataset

    dataset = find_dataset(tmp_path / "data", discover())
    bad = SimpleNamespace(fingerprint=lambda *_: found, plan=lambda *_: found, topology=lambda *_: found)
    told = refusal(lambda: make_fingerprint(dataset, bad, use=use_of("fingerprinter")), hook="seg_fingerprinters")
    assert "expected seg.models.Fingerprint" in told
    uses = {kind: use_of(kind) for kind in ("planner", "architecture")}
    empty = Fingerprint(cases=(), shapes=(), spacings=(), relative_size_after_cropping=1.0, intensities=(None,))
    asked = (empty, dataset.description, bad, "mine", UNET, "unet", "", uses)
    assert "expected seg.models.Plan" in refusal(make_plan, *asked, hook="seg_planners")
    told = refusal(make_plan, *asked[:4], bad, "mine", "", uses, hook="seg_architectures")
    assert "expected seg.models.Topology" in told


LOCAL = """
from attrs import frozen
from seg import Offer, hookimpl
from seg_unet.unet import UNet

@hookimpl
def seg_architectures():
    yield Offer("bad", f"{__name__}:BadNet")

@hookimpl
def seg_samplers():
    yield Offer("bad", f"{__name__}:BadSampler")

@hookimpl
def seg_planners():
    yield Offer("bad", f"{__name__}:BadPlanner")

class BadNet(UNet):
    def loss_weights(self, topology):
        return (1.0,)

@frozen
class BadSampler:
    def positions(self, index, configuration, margin, rng):
        return []

@frozen
class BadPlanner:
    default_architecture = "unet"
    def plan(self, fingerprint, description, architecture):
        return {}["nothing"]
    def reductions(self, configuration):
        return iter(())
"""


@pytest.fixture
def bad(tmp_path):
    before, file = set(sys.modules), tmp_path / "bad.py"
    file.write_text(LOCAL)
    yield file
    for name in set(sys.modules) - before:
        if name.startswith("seg_local"):
            del sys.modules[name]


@pytest.mark.parametrize(("option", "told"), [
    ("--arch", "one for each of its loss weights"), ("--sampler", "0 positions"), ("--planner", "raised KeyError"),
])  # fmt: skip
def test_a_run_with_it_is_exit_6(bad, tmp_path, capsys, option, told):
    write_phantom(tmp_path / "data", cases=5, shape=(16, 20, 18))
    words = ["run", tmp_path / "data", "-o", tmp_path / "run", "--epochs", 1, "--fold", 0, "--device", "cpu",
             "--set", "train.steps_per_epoch=1", "--plugin", bad, option, "bad"]
    assert execute([str(word) for word in words]) == 6
    err = capsys.readouterr().err
    assert told in err
    assert f"file:{bad.name}" in err
    assert "hook seg_" in err
