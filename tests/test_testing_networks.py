"""The kit refuses broken architectures, planners, fingerprinters, layouts, samplers and augmenters."""

import importlib
import itertools

import numpy as np
import pytest
import torch
from attrs import define, evolve
from torch import nn
from torch.nn import functional as F

from helpers import changed
from seg import Batch, Case, Dataset, Description, Labels, Silent
from seg.testing import checks
from seg_basic.plain import NoAugmenter
from seg_basic.uniform import UniformSampler
from seg_layouts.folders import FoldersLayout
from seg_nnunet.fingerprint import NnUNetFingerprinter
from seg_nnunet.planner import NnUNetPlanner
from seg_unet.unet import UNet

HERE = ("architecture", "planner", "fingerprinter", "layout", "sampler", "augmenter")
COUNT = itertools.count()


# Architectures


class Wrapped(nn.Module):
    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        return self.change(self, self.network(x))


def wrapped(change, prepare=lambda module: None):
    def build(self, topology):
        module = Wrapped(UNet.build(self, topology), change)
        prepare(module)
        return module

    return changed(UNet, build=build)


def blurred_in_prediction(module, outputs):
    return outputs if module.training else [F.interpolate(outputs[0], scale_factor=0.5)]


def fresh_noise(module):
    module.network.heads[0].bias.data += torch.rand(1, generator=torch.Generator().manual_seed(next(COUNT)))


@define(kw_only=True)
class Thawed:
    topology = UNet.topology
    feature_map_size = UNet.feature_map_size
    loss_weights = UNet.loss_weights
    build = UNet.build


def of_flat_kernels(self, kernels, strides, in_channels, outputs):
    return UNet.topology(self, [(3,) * len(kernel) for kernel in kernels], strides, in_channels, outputs + 1)


ARCHITECTURES = [
    ("component", Thawed()),
    ("component", object()),
    ("outputs", wrapped(lambda _, outputs: [one[..., :-1] for one in outputs])),
    ("outputs", wrapped(lambda _, outputs: [one[:, :-1] for one in outputs])),
    ("outputs", wrapped(lambda _, outputs: outputs[:1])),
    ("outputs", changed(UNet, loss_weights=lambda self, topology: (0.5, 0.25, 0.25))),
    ("outputs", wrapped(lambda _, outputs: [one * torch.nan for one in outputs])),
    ("loss-weights", changed(UNet, loss_weights=lambda self, topology: (1.0, 0.5))),
    ("prediction", wrapped(blurred_in_prediction)),
    ("gradient", wrapped(lambda _, outputs: outputs,
                         lambda module: module.register_parameter("dead", nn.Parameter(torch.ones(1))))),
    ("deterministic", wrapped(lambda _, outputs: outputs, fresh_noise)),
    ("batch", wrapped(lambda _, outputs: [one - one.mean(0) for one in outputs])),
    ("memory-grows", changed(UNet, feature_map_size=lambda self, topology, patch, classes: 10**6)),
    ("memory-truth", changed(UNet, feature_map_size=lambda *given: 10 * UNet.feature_map_size(*given))),
    ("memory-truth", changed(UNet, feature_map_size=lambda *given: UNet.feature_map_size(*given) // 10)),
    ("state", wrapped(lambda module, outputs: [one * module.hidden for one in outputs],
                      lambda module: module.register_buffer("hidden", torch.rand(1), persistent=False))),
    ("topology", changed(UNet, topology=of_flat_kernels)),
    ("topology", changed(UNet, topology=lambda *given: evolve(UNet.topology(*given), blocks=(2,)))),
    ("levels", changed(UNet, levels=lambda self, topology: ("a", "a"), prune=lambda self, network, level: network)),
    ("levels", changed(UNet, levels=lambda self, topology: ("a", "b"),
                       prune=lambda self, network, level: Wrapped(network, lambda _, outputs: [outputs[0] + 1]))),
]

# Planners


def planning(change):
    return changed(NnUNetPlanner, plan=lambda self, *given: change(NnUNetPlanner.plan(self, *given)))


def each(plan, **changes):
    return evolve(plan, configurations={name: evolve(one, **changes) for name, one in plan.configurations.items()})


def longer(plan):
    first = next(iter(plan.configurations.values()))
    return evolve(plan, configurations={first.name: evolve(first, patch=(*first.patch[:-1], first.patch[-1] + 1))})


def with_torch(plan):
    importlib.import_module("torch")
    return plan


def endless(self, configuration):
    while True:
        configuration = evolve(configuration, topology=evolve(
            configuration.topology, features=tuple(n + 1 for n in configuration.topology.features)))
        yield configuration, "more"


PLANNERS = [
    ("component", changed(NnUNetPlanner, reductions=property())),
    ("valid", planning(longer)),
    ("file", planning(lambda plan: evolve(plan, transpose_forward=list(plan.transpose_forward)))),
    ("deterministic", planning(lambda plan: evolve(plan, reasons={"patch": str(next(COUNT))}))),
    ("reasons", planning(lambda plan: each(plan, reasons={}))),
    ("reasons", planning(lambda plan: each(plan, reasons={"patch": "so", "pach": "so"}))),
    ("reductions", changed(NnUNetPlanner, reductions=endless)),
    ("reductions", changed(NnUNetPlanner, reductions=lambda self, one: iter([(evolve(one, batch=1), "")]))),
    ("light", planning(with_torch)),
    ("default-architecture", changed(NnUNetPlanner, default_architecture="nothing")),
]

# Fingerprinters and layouts


def seeing(change):
    return changed(NnUNetFingerprinter, fingerprint=lambda self, data, progress: change(
        NnUNetFingerprinter.fingerprint(self, data, progress)))


FINGERPRINTERS = [
    ("component", object()),
    ("cases", seeing(lambda found: evolve(found, spacings=tuple(one[::-1] for one in found.spacings)))),
    ("cases", seeing(lambda found: evolve(found, cases=found.cases[::-1]))),
    ("cases", seeing(lambda found: evolve(found, shapes=((99, 99, 99), *found.shapes[1:])))),
    ("statistics", seeing(lambda found: evolve(found, intensities=()))),
    ("statistics", seeing(lambda found: evolve(found, intensities=(evolve(found.intensities[0], max=-1e9),)))),
    ("file", seeing(lambda found: evolve(found, shapes=list(found.shapes)))),
    ("file", seeing(lambda found: evolve(found, source=str(next(COUNT))))),
    ("progress", changed(NnUNetFingerprinter, fingerprint=lambda self, data, progress:
                         NnUNetFingerprinter.fingerprint(self, data, Silent()))),
]


def invented(self, path, labels):
    description = Description(name="x", channel_names=("a",), labels=Labels(values={"b": 0}), training_cases=1)
    return Dataset(description=description, root=path, layout="x", cases=(Case(id="a", images=(path,)),))


LAYOUTS = [
    ("component", object()),
    ("strange", changed(FoldersLayout, recognises=lambda self, path: True)),
    ("strange", changed(FoldersLayout, recognises=lambda self, path: None)),
    ("refuses", changed(FoldersLayout, read=invented)),
    ("damaged", changed(FoldersLayout, recognises=lambda self, path: "maybe")),
]

# Samplers and augmenters


def placing(change):
    def positions(self, index, configuration, margin, rng):
        return [change(one) for one in UniformSampler.positions(self, index, configuration, margin, rng)]

    return changed(UniformSampler, positions=positions)


SAMPLERS = [
    ("component", object()),
    ("count", changed(UniformSampler, positions=lambda *given: UniformSampler.positions(*given)[1:])),
    ("count", placing(lambda one: evolve(one, case=one.case + 1))),
    ("count", placing(lambda one: evolve(one, start=tuple(np.float64(n) for n in one.start)))),
    ("overlap", placing(lambda one: evolve(one, start=(99, 0, 0)))),
    ("replay", placing(lambda one: evolve(one, start=(next(COUNT), 0, 0)))),
    ("replay", placing(lambda one: evolve(one, case=0, start=(0, 0, 0)))),
    ("forced", placing(lambda one: evolve(one, forced_class=7))),
    ("reach", placing(lambda one: evolve(one, case=0))),
    ("reach", placing(lambda one: evolve(one, start=(-99, 0, 0)))),
    ("no-foreground", placing(lambda one: evolve(one, forced_class=0))),
]


def making(change):
    return changed(NoAugmenter, batch=lambda self, cases, positions, configuration, rng, device: change(
        NoAugmenter.batch(self, cases, positions, configuration, rng, device), cases))


def spoilt(batch, cases):
    cases[0].image.add_(1)
    return batch


AUGMENTERS = [
    ("component", object()),
    ("margin", changed(NoAugmenter, margin=lambda self, configuration: (-1, 0, 0))),
    ("margin", changed(NoAugmenter, margin=lambda self, configuration: (0, 0))),
    ("shapes", making(lambda batch, _: Batch(image=batch.image.double(), label=batch.label))),
    ("shapes", making(lambda batch, _: Batch(image=batch.image[..., 1:], label=batch.label))),
    ("shapes", making(lambda batch, _: Batch(image=batch.image / 0, label=batch.label))),
    ("labels", making(lambda batch, _: Batch(image=batch.image, label=batch.label - (batch.label == 3).long()))),
    ("labels", making(lambda batch, _: Batch(image=batch.image, label=batch.label - 1))),
    ("labels", making(lambda batch, _: Batch(image=batch.image, label=batch.label % 3))),
    ("together", making(lambda batch, _: Batch(image=batch.image.flip(-1), label=batch.label))),
    ("replay", making(lambda batch, _: Batch(image=batch.image + next(COUNT), label=batch.label))),
    ("inputs", making(spoilt)),
    ("cascade", making(lambda batch, _: Batch(image=batch.image[:, :2], label=batch.label))),
    ("cascade", making(lambda batch, _: Batch(image=batch.image * 5, label=batch.label))),
    ("disk", making(lambda batch, cases: batch if isinstance(cases[0].image, torch.Tensor)
                    else Batch(image=batch.image + 1, label=batch.label))),
]

TABLES = dict(zip(HERE, (ARCHITECTURES, PLANNERS, FINGERPRINTERS, LAYOUTS, SAMPLERS, AUGMENTERS), strict=True))
MUTANTS = [pytest.param(f"{kind}-{name}", kind, mutant, id=f"{kind}-{name}-{number}")
           for kind, table in TABLES.items() for number, (name, mutant) in enumerate(table)]


@pytest.mark.parametrize(("name", "kind", "mutant"), MUTANTS)
def test_mutants_do_not_pass(name, kind, mutant):
    (check,) = [check for check in checks(kind) if check.id == name]
    with pytest.raises(AssertionError, match=r"^found .*; expected "):
        check(mutant)


def test_every_check_has_a_mutant():
    for kind in HERE:
        assert {check.id for check in checks(kind)} == {f"{kind}-{name}" for name, _ in TABLES[kind]}
