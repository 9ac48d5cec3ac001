"""The attention U-Net keeps the contract of its kind, and its gates do what they are for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import seg.testing
import torch
from seg import Topology
from segplug_attention.architecture import Attention
from segplug_attention.network import Gate


def topology(dims: int) -> Topology:
    return Attention(features=4).topology([(3,) * dims] * 3, [(1,) * dims, (2,) * dims, (2,) * dims], 1, 2)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_gate_opens_and_shuts(dims: int) -> None:
    gate = Gate(topology(dims), 0)
    skip, coarse = torch.randn(2, 4, *[8] * dims), torch.randn(2, 8, *[4] * dims)
    with torch.no_grad():
        gate.score.weight.zero_()
        for bias, passed in ((50.0, skip), (-50.0, torch.zeros_like(skip))):
            gate.score.bias.fill_(bias)
            torch.testing.assert_close(gate(skip, coarse), passed)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_gate_learns(dims: int) -> None:
    network = Attention(features=4).build(topology(dims))
    sum(output.square().sum() for output in network(torch.randn(2, 1, *[16] * dims))).backward()
    assert len(network.gates) == 2
    assert all(bool(one.grad.any()) for one in network.gates.parameters())


def test_it_learns_to_tell_bright_from_dark() -> None:
    torch.manual_seed(0)
    component = Attention(features=4)
    network = component.build(component.topology([(3, 3)] * 2, [(1, 1), (2, 2)], 1, 2))
    image = torch.rand(2, 1, 16, 16)
    label = (image[:, 0] > 0.5).long()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(image)[0], label)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@seg.testing.parametrize("architecture", Attention(features=4))
def test_it_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_attention")
