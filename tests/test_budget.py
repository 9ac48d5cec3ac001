"""The first form that gets its steps is taken, or the last."""

import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Configuration, Topology
from seg.budget import fit_budget, measure, step_operations


def form(features, batch=2, patch=(8, 8)):
    topology = Topology(in_channels=1, outputs=2, features=(features,), kernels=((1, 1),), strides=((1, 1),),
                        blocks=(1,), decoder_blocks=())
    return Configuration(name="2d", spacing=(999.0, 1.0, 1.0), median_shape=(8.0, 8.0), patch=patch, batch=batch,
                         topology=topology, normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=())


class Architecture:
    """One convolution of one voxel: 2 · features operations a voxel."""

    def build(self, topology):
        return nn.Conv2d(topology.in_channels, topology.features[0], 1)


class Planner:
    def __init__(self, *features):
        self.features = features

    def reductions(self, configuration):
        for features in self.features:
            yield evolve(configuration, topology=evolve(configuration.topology, features=(features,))), f"to {features}"


PLANNER = Planner(32, 16, 8)


@pytest.mark.parametrize(("seconds", "features"), [
    (6400, 64), (6399, 32), (3200, 32), (3199, 16), (1600, 16), (800, 8), (1, 8),
])  # fmt: skip
def test_the_largest_form_with_enough_steps(seconds, features):
    asked = []

    def step_seconds(configuration):
        asked.append(configuration)
        return configuration.topology.features[0]

    found = fit_budget(form(64), PLANNER, Architecture(), seconds, 100, step_seconds)
    assert found.configuration == form(features)
    assert asked == [form(8)]
    reductions = [f"to {n}" for n in (32, 16, 8) if n >= features]
    assert list(found.reasons[:-1]) == reductions
    if features == 64:
        assert found.reasons == ()
    else:
        assert f"{seconds // 64} steps" in found.reasons[-1]
        assert f"{seconds // features} now" in found.reasons[-1]


def test_a_planner_without_reductions_keeps_its_plan():
    found = fit_budget(form(64), Planner(), Architecture(), 1, 100, lambda _: 1.0)
    assert found.configuration == form(64)
    assert found.reasons == ()


def test_operations_are_counted_without_computing():
    count = step_operations(form(64), Architecture())
    assert count == 2 * 2 * 8 * 8 * 64
    assert step_operations(form(64, batch=4), Architecture()) == 2 * count
    assert step_operations(form(64, patch=(8192, 8192)), Architecture()) == count * 2**20


def test_measuring_leaves_out_the_first():
    calls = []
    assert measure(lambda: calls.append(1), torch.device("cpu"), repeats=3) >= 0
    assert len(calls) == 4
