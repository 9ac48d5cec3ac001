import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Architecture, BlockStyle, SegError
from seg.options import fill
from seg_resenc._network import ResidualBlock
from seg_resenc.resenc import ResEncUNet

THIN = ([(1, 3, 3), (3, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
FLAT = ([(3, 3)] * 4, [(1, 1), *[(2, 2)] * 3])


def small(shape, **options):
    options = {"features": 2, "max_features": 6, "blocks": (1, 2)} | options
    return ResEncUNet(**options), ResEncUNet(**options).topology(*shape, 2, 3)


def test_it_is_an_architecture():
    assert isinstance(ResEncUNet(), Architecture)


@pytest.mark.parametrize(("dims", "stages", "expected"), [(3, 6, 102_350_575), (2, 8, 140_019_061)])
def test_parameters_are_those_of_nnunet(dims, stages, expected):
    strides = [(1,) * dims, *[(2,) * dims] * (stages - 1)]
    topology = ResEncUNet().topology([(3,) * dims] * stages, strides, 1, 3)
    assert topology.blocks == (1, 3, 4, 6, 6, 6, 6, 6)[:stages]
    with torch.device("meta"):
        network = ResEncUNet().build(topology)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(("shape", "patch"), [(FLAT, (32, 40)), (THIN, (6, 16, 20))])
def test_outputs_are_finest_first_each_at_its_level(shape, patch):
    resenc, topology = small(shape)
    network, x = resenc.build(topology), torch.randn(2, 2, *patch)
    size, expected = patch, []
    for stride in topology.strides[:-1]:
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        expected.append((2, 3, *size))
    assert [tuple(out.shape) for out in network(x)] == expected
    assert len(resenc.loss_weights(topology)) == len(expected)
    assert [tuple(out.shape) for out in network.eval()(x)] == expected[:1]
    single = resenc.build(evolve(topology, deep_supervision=False))
    assert len(single(x)) == len(resenc.loss_weights(evolve(topology, deep_supervision=False))) == 1


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"activation": "relu"}])
def test_every_parameter_gets_a_gradient(options):
    resenc, topology = small(THIN, **options)
    network = resenc.build(topology)
    sum(out.square().mean() for out in network(torch.randn(2, 2, 6, 16, 16))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("features", [4, 6])
def test_a_fresh_residual_block_is_its_skip(stride, features):
    block = ResidualBlock((4, features), (3, 3, 3), stride, BlockStyle())
    x = torch.randn(2, 4, 4, 8, 8)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(block.skip(x), 0.01))
    projections = [module for module in block.skip.modules() if isinstance(module, nn.Conv3d)]
    assert len(projections) == (features != 4)


@pytest.mark.parametrize(("shape", "patch"), [(FLAT, (32, 48)), (THIN, (6, 16, 24))])
def test_feature_map_size_is_what_the_convolutions_give(shape, patch):
    resenc, topology = small(shape, max_features=64)  # all stages change features, so that each skip has a convolution
    counted = []
    with torch.device("meta"):
        network, x = resenc.build(topology).eval(), torch.empty(1, 2, *patch)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, _inputs, out: counted.append(out.numel()))
    network(x)
    assert resenc.feature_map_size(topology, patch, topology.outputs) == sum(counted)


def test_a_pooled_skip_counts_without_a_convolution():
    resenc, topology = small(FLAT, features=4, max_features=4)
    capped = resenc.feature_map_size(topology, (16, 16), 0)
    voxels = (256, 64, 16, 4)
    blocks = sum(2 * b * 4 * v for b, v in zip((1, 2, 2, 2), voxels, strict=True))
    assert capped == 4 * 256 + blocks + 4 * sum(voxels[1:]) + 2 * 4 * sum(voxels[:-1])


def test_blocks_are_at_least_one():
    assert fill(ResEncUNet, {"blocks": [2, 2]}, "architecture").blocks == (2, 2)
    for bad in ([], [1, 0]):
        with pytest.raises(SegError, match="at least 1"):
            fill(ResEncUNet, {"blocks": bad}, "architecture")


def test_without_deep_supervision_there_is_one_output_in_training():
    network = ResEncUNet(features=2, deep_supervision=False)
    topology = network.topology([(3, 3)] * 3, [(1, 1), (2, 2), (2, 2)], 1, 2)
    assert not topology.deep_supervision
    assert network.loss_weights(topology) == (1.0,)
    assert len(network.build(topology)(torch.zeros(1, 1, 16, 16))) == 1
