import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Architecture
from seg_unetpp.unetpp import UNetPlusPlus

FLAT = {n: ([(3, 3)] * n, [(1, 1), *[(2, 2)] * (n - 1)]) for n in (2, 4, 5)}
CUBE = {n: ([(3, 3, 3)] * n, [(1, 1, 1), *[(2, 2, 2)] * (n - 1)]) for n in (3, 6)}
THIN = ([(1, 3, 3), (3, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (2, 2, 2)])


def small(shape, **options):
    options = {"features": 2, "max_features": 5} | options
    return UNetPlusPlus(**options), UNetPlusPlus(**options).topology(*shape, 2, 3)


def test_it_is_an_architecture():
    assert isinstance(UNetPlusPlus(), Architecture)


@pytest.mark.parametrize(("depth", "expected"), [(1, 100_961), (2, 511_105), (3, 2_204_961), (4, 9_041_601)])
def test_parameters_are_those_of_the_paper(depth, expected):
    """The official 2-D network has no norms, one head, 32 to 512 filters."""
    with torch.device("meta"):
        network = UNetPlusPlus().build(UNetPlusPlus().topology(*FLAT[5], 1, 1)).pruned(depth)
    assert sum(p.numel() for name, p in network.named_parameters() if ".norm." not in name) == expected


@pytest.mark.parametrize(("shape", "patch"), [
    (FLAT[2], (8, 12)), (FLAT[4], (32, 40)), (CUBE[3], (8, 16, 12)), (THIN, (6, 16, 20)),
])  # fmt: skip
def test_every_head_is_at_full_resolution(shape, patch):
    nested, topology = small(shape)
    network, x = nested.build(topology), torch.randn(2, 2, *patch)
    heads = topology.stages - 1
    assert [tuple(out.shape) for out in network(x)] == [(2, 3, *patch)] * heads
    assert nested.loss_weights(topology) == pytest.approx((1 / heads,) * heads)
    assert [tuple(out.shape) for out in network.eval()(x)] == [(2, 3, *patch)]


@pytest.mark.parametrize("shape", [FLAT[4], THIN])
def test_head_d_needs_the_nodes_of_the_network_pruned_to_d_alone(shape):
    nested, topology = small(shape)
    network, x = nested.build(topology), torch.randn(1, 2, *(16,) * topology.dims)
    outputs = network(x)
    for depth in range(1, topology.stages):
        (alone,) = network.pruned(depth)(x)
        torch.testing.assert_close(alone, outputs[-depth])
    with pytest.raises(ValueError, match="depth must be 1"):
        network.pruned(topology.stages)


def test_the_deepest_head_comes_first():
    """Only the outermost node reads the bottleneck, so only the first output may depend on it."""
    nested, topology = small(CUBE[3])
    network = nested.build(topology)
    for index, output in enumerate(network(torch.randn(1, 2, 8, 8, 8))):
        network.zero_grad()
        output.square().sum().backward(retain_graph=True)
        touched = network.columns[0][-1][0].conv.weight.grad is not None
        assert touched == (index == 0)


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"activation": "relu"}])
def test_every_parameter_gets_a_gradient(options):
    nested, topology = small(THIN, **options)
    network = nested.build(topology)
    sum(out.square().mean() for out in network(torch.randn(2, 2, 6, 16, 16))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_weights_fit_with_and_without_deep_supervision():
    nested, topology = small(THIN)
    x = torch.randn(1, 2, 6, 16, 16)
    deep, single = nested.build(topology), nested.build(evolve(topology, deep_supervision=False))
    single.load_state_dict(deep.state_dict())
    assert len(single(x)) == len(nested.loss_weights(evolve(topology, deep_supervision=False))) == 1
    torch.testing.assert_close(single(x)[0], deep(x)[0])


@pytest.mark.parametrize(("shape", "patch"), [(FLAT[4], (32, 48)), (THIN, (6, 16, 24))])
@pytest.mark.parametrize("deep_supervision", [True, False])
def test_feature_map_size_is_what_the_convolutions_give(shape, patch, deep_supervision):
    nested, topology = small(shape)
    topology = evolve(topology, deep_supervision=deep_supervision)
    counted = []
    with torch.device("meta"):
        network, x = nested.build(topology), torch.empty(1, 2, *patch)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, _inputs, out: counted.append(out.numel()))
    network(x)
    assert nested.feature_map_size(topology, patch, topology.outputs) == sum(counted)


def test_feature_map_size_of_the_128_cubed_plan():
    nested = UNetPlusPlus()
    assert nested.feature_map_size(nested.topology(*CUBE[6], 1, 3), (128,) * 3, 0) == 1_431_117_824
