import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Architecture, Prunable
from seg_unetpp.unetpp import UNetPlusPlus

FLAT = {n: ([(3, 3)] * n, [(1, 1), *[(2, 2)] * (n - 1)]) for n in (2, 4, 5)}
CUBE = {n: ([(3, 3, 3)] * n, [(1, 1, 1), *[(2, 2, 2)] * (n - 1)]) for n in (3, 6)}
THIN = ([(1, 3, 3), (3, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (2, 2, 2)])


def small(shape, **options):
    options = {"features": 2, "max_features": 5} | options
    return UNetPlusPlus(**options), UNetPlusPlus(**options).topology(*shape, 2, 3)


def test_it_is_an_architecture_with_levels():
    assert isinstance(UNetPlusPlus(), Architecture)
    assert isinstance(UNetPlusPlus(), Prunable)


@pytest.mark.parametrize(("depth", "expected"), [(1, 100_961), (2, 511_105), (3, 2_204_961), (4, 9_041_601)])
def test_parameters_are_those_of_the_paper(depth, expected):
    """The official 2-D network has no norms, one head, 32 to 512 filters."""
    with torch.device("meta"):
        network = UNetPlusPlus().prune(UNetPlusPlus().build(UNetPlusPlus().topology(*FLAT[5], 1, 1)), f"L{depth}")
    counted = {name: p.numel() for name, p in network.named_parameters() if ".norm." not in name}
    heads = {name: size for name, size in counted.items() if name.startswith("heads.")}
    assert sum(counted.values()) - sum(heads.values()) + heads["heads.0.weight"] + heads["heads.0.bias"] == expected
    assert len(heads) == 2 * depth  # those of the smaller levels stay


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


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}])
@pytest.mark.parametrize("shape", [FLAT[4], THIN])
def test_a_level_is_the_head_of_that_depth_of_the_whole(shape, options):
    nested, topology = small(shape, **options)
    network, x = nested.build(topology), torch.randn(1, 2, *(16,) * topology.dims)
    outputs, names = network(x), nested.levels(topology)
    assert names == tuple(f"L{depth}" for depth in range(1, topology.stages))
    for name, expected in zip(names, reversed(outputs), strict=True):
        (alone,) = nested.prune(network, name)(x)
        assert torch.equal(alone, expected)


def test_the_last_level_is_the_whole_to_the_bit():
    nested, topology = small(THIN)
    network, x = nested.build(topology).eval(), torch.randn(1, 2, 6, 16, 16)
    whole = nested.prune(network, nested.levels(topology)[-1])
    assert not whole.training
    assert torch.equal(whole(x)[0], network(x)[0])
    assert list(whole.state_dict()) == list(network.state_dict())


def test_the_weights_of_a_level_are_a_part_of_those_of_the_next():
    nested, topology = small(FLAT[4])
    network = nested.build(topology)
    before = set()
    for name in nested.levels(topology):
        own = {id(parameter) for parameter in nested.prune(network, name).parameters()}
        assert before < own
        before = own
    assert before == {id(parameter) for parameter in network.parameters()}


def test_pruned_twice_is_pruned_once():
    nested, topology = small(FLAT[4])
    network, x = nested.build(topology).eval(), torch.randn(1, 2, 16, 16)
    twice = nested.prune(nested.prune(network, "L2"), "L1")
    assert torch.equal(twice(x)[0], nested.prune(network, "L1")(x)[0])
    assert list(twice.state_dict()) == list(nested.prune(network, "L1").state_dict())


def test_what_is_no_level_of_a_network_is_refused():
    nested, topology = small(FLAT[4])
    network = nested.build(topology)
    for name in ("L0", "L4", "whole", ""):
        with pytest.raises(ValueError, match=r"depth must be 1|invalid literal"):
            nested.prune(network, name)
    with pytest.raises(ValueError, match="depth must be 1 to 2"):
        nested.prune(nested.prune(network, "L2"), "L3")
    with pytest.raises(TypeError):
        nested.prune(nn.Identity(), "L1")


def test_without_deep_supervision_only_the_whole_is_trained():
    nested, topology = small(FLAT[4])
    assert nested.levels(evolve(topology, deep_supervision=False)) == ("L3",)


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


def test_without_deep_supervision_there_is_one_output_in_training():
    network = UNetPlusPlus(features=2, deep_supervision=False)
    topology = network.topology([(3, 3)] * 3, [(1, 1), (2, 2), (2, 2)], 1, 2)
    assert not topology.deep_supervision
    assert network.loss_weights(topology) == (1.0,)
    assert len(network.build(topology)(torch.zeros(1, 1, 16, 16))) == 1
