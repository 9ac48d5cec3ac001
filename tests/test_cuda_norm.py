"""What only a GPU can show of the fused instance norm; skipped elsewhere."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

from seg.blocks import ConvBlock, channels_last, norms_fused, norms_not_fused
from seg.fused_norm import PLAIN, normalised, triton_way, trouble
from seg_resenc.resenc import ResEncUNet
from seg_unet.unet import UNet
from seg_unetpp.unetpp import UNetPlusPlus

DEVICE = torch.device("cuda", 0)
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}

if torch.cuda.get_device_capability(DEVICE) < (8, 0):
    pytest.skip(f"the kernels are not for this GPU: {trouble(DEVICE)}", allow_module_level=True)


class Stock(nn.Module):
    """Torch's own norm with the parameters of ours."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x):
        return F.instance_norm(x, weight=self.weight, bias=self.bias)


def test_the_kernels_pass_their_trial():
    assert trouble(DEVICE) == ""
    assert trouble(torch.device("cuda")) == ""


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", [(2, 32, 64, 64, 64), (2, 320, 4, 4, 4), (3, 17, 33, 65), (1, 1, 9, 10, 11)])
def test_kernels_give_what_plain_torch_gives(shape, last, dtype, limit):
    generator = torch.Generator().manual_seed(1)
    layout = LAYOUTS[len(shape)] if last else torch.contiguous_format
    x, dy = (torch.randn(shape, generator=generator).to(DEVICE, dtype).contiguous(memory_format=layout) for _ in "xy")
    weight, bias = (torch.randn(shape[1], generator=generator).to(DEVICE) for _ in range(2))
    results = []
    for way, each in ((triton_way(), x), (PLAIN, x.double())):
        given = [one.clone().requires_grad_() for one in (each, weight, bias)]
        y = normalised(*given, 1e-5, 0.3, way)
        results.append((y.detach(), *torch.autograd.grad(y, given, dy.to(y.dtype))))
    assert results[0][0].stride() == results[0][1].stride() == x.stride()
    for one, other in zip(*results, strict=True):
        error = (one.double() - other.double()).norm() / other.double().norm()  # a rounded bend moves single values
        assert float(error) < limit


def test_offsets_beyond_32_bits():
    """The last of these maps starts beyond 2**31 values; each is normalised for itself."""
    if torch.cuda.mem_get_info(DEVICE)[0] < 20 << 30:
        pytest.skip("takes 20 GB")
    x = torch.empty((3, 64, 240, 240, 240), dtype=torch.bfloat16, device=DEVICE, memory_format=torch.channels_last_3d)
    x.normal_()
    y, statistics = triton_way().forward(x, (torch.ones(64, device=DEVICE), torch.zeros(64, device=DEVICE)), 1e-5, 1.0)
    assert x.numel() > 2**31
    last, alone = y[2:], triton_way().forward(x[2:], (torch.ones(64, device=DEVICE), torch.zeros(64, device=DEVICE)),
                                              1e-5, 1.0)[0]
    assert torch.equal(last, alone)
    torch.testing.assert_close(statistics[0][2], x[2].flatten(1).double().mean(1).float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", [UNet(features=16), UNetPlusPlus(features=8), ResEncUNet(features=16)])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("precise", [True, False])
def test_a_network_gives_the_same_and_its_maps_stay_channels_last(architecture, dims, precise):
    torch.manual_seed(0)
    kernels, strides = [(3,) * dims] * 3, [(1,) * dims, *[(2,) * dims] * 2]
    network = architecture.build(architecture.topology(kernels, strides, 1, 3)).to(DEVICE).train()
    assert norms_fused(network, DEVICE)
    assert not norms_not_fused(network, DEVICE)
    fused, seen = channels_last(copy.deepcopy(network)), []
    stock = copy.deepcopy(network)
    for module in stock.modules():
        if isinstance(module, ConvBlock):
            module.norm = Stock(module.norm)
    for module in fused.modules():
        if isinstance(module, ConvBlock):
            module.register_forward_hook(lambda _module, given, made: seen.append((given[0], made)))
    x = torch.randn(2, 1, *(32,) * dims, device=DEVICE)
    results = []
    for one in (fused, stock):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # the layouts may get different arithmetic
            with torch.autocast("cuda", torch.bfloat16, enabled=not precise):
                outputs = one(x)
            sum(output.float().square().mean() for output in outputs).backward()
        gradients = torch.cat([parameter.grad.flatten() for name, parameter in one.named_parameters()
                               if name.endswith(("weight",)) and parameter.grad is not None])
        results.append((outputs[0].detach().float(), gradients))
    pooled = [given for given, _ in seen if given.is_contiguous() and given.shape[1] > 1]
    assert all(isinstance(architecture, ResEncUNet) for _ in pooled)  # torch's pooling in 3-D gives contiguous maps
    kept = [made for given, made in seen if not given.is_contiguous() or given.shape[1] == 1]
    layout = LAYOUTS[2 + dims]
    assert kept
    assert all(made.is_contiguous(memory_format=layout) and not made.is_contiguous() for made in kept)
    for one, other in zip(*results, strict=True):
        error = (one - other).norm() / other.norm()
        assert float(error) < (1e-2 if precise else 0.2)  # bfloat16 turns signs, and LeakyReLU with them


def test_a_graph_of_a_step_can_be_captured():
    x = torch.randn(2, 16, 8, 8, 8, device=DEVICE).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    weight, bias = torch.ones(16, device=DEVICE, requires_grad=True), torch.zeros(16, device=DEVICE, requires_grad=True)

    def step():
        y = normalised(x, weight, bias, 1e-5, 0.01)
        return y, *torch.autograd.grad(y.square().sum(), (x, weight, bias))

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = [one.detach() for one in step()]  # what hangs on its graph would tie the last step to this stream
    with torch.no_grad():
        x.normal_()
    graph.replay()
    for one, other in zip(captured, step(), strict=True):
        torch.testing.assert_close(one, other)
