import subprocess
import sys
from math import prod

import pytest
import torch
from attrs import evolve
from torch import nn

from seg import Architecture
from seg_unet.unet import UNet

ISOTROPIC = {n: ([(3, 3, 3)] * n, [(1, 1, 1), *[(2, 2, 2)] * (n - 1)]) for n in (2, 3, 4, 6)}
FLAT = {n: ([(3, 3)] * n, [(1, 1), *[(2, 2)] * (n - 1)]) for n in (2, 3, 4, 8)}
PROSTATE = (
    [(1, 3, 3)] * 2 + [(3, 3, 3)] * 5,
    [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)],
)
THIN = ([(1, 3, 3), (3, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (2, 2, 2)])


def small(shape, **options):
    options = {"features": 2, "max_features": 5} | options
    return UNet(**options), UNet(**options).topology(*shape, 2, 3)


def test_it_is_an_architecture_that_imports_no_torch():
    assert isinstance(UNet(), Architecture)
    code = """
import sys
from seg_unet.unet import UNet
unet = UNet()
topology = unet.topology([(3, 3)] * 2, [(1, 1), (2, 2)], 1, 2)
unet.feature_map_size(topology, (16, 16), 2), unet.loss_weights(topology)
print("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(("shape", "channels", "expected"), [
    (ISOTROPIC[6], 1, 31_196_399), (FLAT[8], 1, 46_326_581), (PROSTATE, 2, 44_578_770),
    (FLAT[4], 1, 1_928_489), (ISOTROPIC[4], 1, 5_603_177),
])  # fmt: skip
def test_parameters_are_those_of_nnunet(shape, channels, expected):
    with torch.device("meta"):
        network = UNet().build(UNet().topology(*shape, channels, 3))
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(("shape", "patch"), [
    (FLAT[2], (8, 12)), (FLAT[4], (32, 40)), (ISOTROPIC[3], (16, 16, 24)), (THIN, (6, 16, 20)),
])  # fmt: skip
def test_outputs_are_finest_first_each_at_its_level(shape, patch):
    unet, topology = small(shape)
    network, x = unet.build(topology), torch.randn(2, 2, *patch)
    size, expected = patch, []
    for stride in topology.strides[:-1]:
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        expected.append((2, 3, *size))
    assert [tuple(out.shape) for out in network(x)] == expected
    assert len(unet.loss_weights(topology)) == len(expected)
    assert sum(unet.loss_weights(topology)) == pytest.approx(1)
    assert [tuple(out.shape) for out in network.eval()(x)] == expected[:1]


def test_weights_fit_with_and_without_deep_supervision():
    unet, topology = small(THIN)
    x = torch.randn(1, 2, 6, 16, 16)
    deep, single = unet.build(topology), unet.build(evolve(topology, deep_supervision=False))
    single.load_state_dict(deep.state_dict())
    assert len(single(x)) == 1
    torch.testing.assert_close(single(x)[0], deep(x)[0])


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"activation": "relu"}, {"convolutions": 1}])
def test_every_parameter_gets_a_gradient(options):
    unet, topology = small(THIN, **options)
    network = unet.build(topology)
    sum(out.square().mean() for out in network(torch.randn(2, 2, 6, 16, 16))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_network_obeys_the_topology_alone():
    unet, topology = small(ISOTROPIC[3])
    changed = evolve(topology, features=(3, 4, 7), blocks=(1, 2, 3), decoder_blocks=(1, 3))
    network = unet.build(changed)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3)]
    assert [m.out_channels for m in convolutions] == [3, 4, 4, 7, 7, 7, 3, 4, 4, 4]
    assert network(torch.randn(1, 2, 8, 8, 8))[0].shape == (1, 3, 8, 8, 8)


@pytest.mark.parametrize(("shape", "patch"), [(FLAT[4], (32, 48)), (THIN, (6, 16, 24))])
def test_feature_map_size_is_what_the_convolutions_give(shape, patch):
    unet, topology = small(shape)
    counted = []
    with torch.device("meta"):
        network, x = unet.build(topology).eval(), torch.empty(1, 2, *patch)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, _inputs, out: counted.append(out.numel()))
    network(x)
    assert unet.feature_map_size(topology, patch, topology.outputs) == sum(counted)
    more = unet.feature_map_size(topology, patch, topology.outputs + 1)
    assert more - sum(counted) == prod(patch)


def test_feature_map_size_of_the_128_cubed_plan():
    assert UNet().feature_map_size(UNet().topology(*ISOTROPIC[6], 1, 3), (128,) * 3, 0) == 446_504_960


def test_half_precision_agrees_with_single():
    torch.manual_seed(0)
    unet, topology = small(THIN)
    network, x = unet.build(topology).eval(), torch.randn(2, 2, 6, 16, 16)
    with torch.no_grad():
        full = network(x)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(x)[0]
    assert (full - half.float()).abs().max() < 0.1 * full.abs().max()


def test_without_deep_supervision_there_is_one_output_in_training():
    network = UNet(features=2, deep_supervision=False)
    topology = network.topology([(3, 3)] * 3, [(1, 1), (2, 2), (2, 2)], 1, 2)
    assert not topology.deep_supervision
    assert network.loss_weights(topology) == (1.0,)
    assert len(network.build(topology)(torch.zeros(1, 1, 16, 16))) == 1
