import pytest
import torch
from torch import nn

from seg import BlockStyle, ConvBlock, Topology, UpBlock, channels_last, encoder_stage, initialise, output_head
from seg.blocks import InstanceNorm, _slope, norms_fused, norms_not_fused
from seg.fused_norm import normalised


@pytest.fixture
def topology():
    return Topology(in_channels=2, outputs=3, features=(4, 6), kernels=((1, 3, 3), (3, 3, 3)),
                    strides=((1, 1, 1), (1, 2, 2)), blocks=(2, 1), decoder_blocks=(2,))  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), (1, 1)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 1, 2))])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_block_divides_the_size_by_its_stride(kernel, stride, norm):
    block = ConvBlock((2, 5), kernel, stride, BlockStyle(norm=norm))
    size = (8,) * len(kernel)
    out = block(torch.randn(2, 2, *size))
    assert out.shape == (2, 5, *(n // s for n, s in zip(size, stride, strict=True)))


@pytest.mark.parametrize("activation", ["leaky_relu", "relu"])
def test_a_block_is_convolution_norm_activation(activation):
    block = ConvBlock((2, 5), (3, 3, 3), (1, 1, 1), BlockStyle(activation=activation))
    x = torch.randn(2, 2, 6, 6, 6)
    mapped = block.conv(x)
    centred = mapped - mapped.mean((2, 3, 4), keepdim=True)
    normed = centred / (centred.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
    slope = 0.01 if activation == "leaky_relu" else 0.0
    torch.testing.assert_close(block(x), torch.where(normed > 0, normed, slope * normed), atol=1e-5, rtol=1e-4)


def test_only_the_first_convolution_of_a_stage_has_its_stride(topology):
    x = torch.randn(1, 2, 4, 8, 8)
    fine = encoder_stage(topology, 0, BlockStyle())
    coarse = encoder_stage(topology, 1, BlockStyle())
    assert [len(fine), len(coarse)] == [2, 1]
    assert fine(x).shape == (1, 4, 4, 8, 8)
    assert coarse(fine(x)).shape == (1, 6, 4, 4, 4)


@pytest.mark.parametrize("skips", [1, 3])
def test_upsampling_ends_at_the_size_of_the_skips(topology, skips):
    node = UpBlock(topology, 0, BlockStyle(), skips=skips)
    same_level = [torch.randn(1, 4, 4, 8, 8) for _ in range(skips)]
    out = node(torch.randn(1, 6, 4, 4, 4), same_level)
    assert out.shape == (1, 4, 4, 8, 8)
    assert output_head(topology, 0)(out).shape == (1, 3, 4, 8, 8)


def test_initial_weights_keep_the_variance_and_biases_are_zero():
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ConvTranspose2d(64, 64, 2))
    initialise(network)
    for layer in network:
        fan = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / fan) ** 0.5, rel=0.05)
        assert layer.bias.count_nonzero() == 0


def test_channels_last_changes_the_order_in_memory_and_no_value(topology):
    stage = encoder_stage(topology, 0, BlockStyle())
    x = torch.randn(2, 2, 4, 8, 8)
    before, weights = stage(x), {name: value.clone() for name, value in stage.state_dict().items()}
    assert channels_last(stage) is stage
    assert stage[0].conv(x).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(stage(x), before, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, weights[name]) for name, value in stage.state_dict().items())
    stage(x).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in stage.parameters())


def test_channels_last_in_two_dimensions_too():
    block = ConvBlock((2, 5), (3, 3), (1, 1), BlockStyle())
    x = torch.randn(3, 2, 8, 8)
    before = block(x)
    assert channels_last(block).conv(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(block(x), before, atol=1e-5, rtol=1e-4)



@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("activation", ["leaky_relu", "relu"])
def test_norm_and_activation_in_one_are_those_of_the_block(activation, active):
    block = ConvBlock((2, 5), (3, 3), (1, 1), BlockStyle(activation=activation), active=active)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    x = torch.randn(3, 2, 8, 8)
    in_one = normalised(block.conv(x), block.norm.weight, block.norm.bias, block.norm.eps, _slope(block.activation))
    torch.testing.assert_close(in_one, block(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("module", [nn.PReLU(), nn.GELU(), nn.Sequential(nn.ReLU())])
def test_other_activations_are_left_alone(module):
    assert _slope(module) is None


def test_channels_last_is_for_networks_of_our_norms_on_cuda():
    ours, torchs, none = InstanceNorm(4), nn.InstanceNorm3d(4), nn.BatchNorm3d(4)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert not norms_fused(ours, cpu)
    assert not norms_not_fused(ours, cpu)
    for network in (none, nn.Sequential(ours, torchs), nn.Sequential(ours, nn.GroupNorm(2, 4))):
        assert not norms_fused(network, cuda)
        assert not norms_not_fused(network, cuda)


@pytest.mark.parametrize("shape", [(8, 1, 3, 3, 3), (8, 4, 1, 1, 1), (8, 1, 3, 3)])
def test_strides_tell_weights_that_lie_both_ways(shape):
    """What `channels_last` does on CUDA: cuDNN's layout follows the strides, which `contiguous` would leave alone."""
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    weight = torch.randn(shape)
    turned = torch.empty_like(weight, memory_format=layout).copy_(weight)
    assert torch.equal(turned, weight)
    assert turned.stride(1) == 1
    assert turned.stride() != weight.contiguous(memory_format=layout).stride()
    assert turned.bfloat16().stride() == turned.stride()
