"""Convolutions of oneDNN are those of torch, whoever calls them."""

import pytest
import torch
from torch import nn

from seg.onednn import direct_convolutions

CPU = torch.device("cpu")


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("more", [{}, {"stride": 2}, {"stride": (1, 2, 2), "padding": 0}, {"bias": False},
                                  {"groups": 4}, {"dilation": 2}, {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
                                  {"kernel_size": 1, "padding": 0}, {"padding": "same"}])
@torch.inference_mode()
def test_a_convolution_is_that_of_torch(more, last):
    conv = nn.Conv3d(**{"in_channels": 4, "out_channels": 8, "kernel_size": 3, "padding": 1, **more})
    image = noise(1, 4, 9, 10, 11)
    if last:
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last_3d)
        image = image.contiguous(memory_format=torch.channels_last_3d)
    expected = conv(image)
    with direct_convolutions(CPU, single=True):
        found = conv(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("more", [{}, {"stride": (1, 2, 2), "kernel_size": (1, 2, 2)}, {"bias": False},
                                  {"kernel_size": 3}, {"padding": 1}, {"groups": 2}, {"output_padding": 1}])
@torch.inference_mode()
def test_a_transposed_convolution_is_that_of_torch(more, last):
    conv = nn.ConvTranspose3d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 2, "stride": 2, **more})
    image = noise(2, 4, 5, 6, 7)
    image = image.contiguous(memory_format=torch.channels_last_3d) if last else image
    expected = conv(image)
    with direct_convolutions(CPU, single=True):
        found = conv(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_other_types_and_dimensions_are_left_alone():
    with direct_convolutions(CPU, single=True):
        assert nn.Conv3d(1, 2, 3).double()(noise(1, 1, 4, 4, 4).double()).dtype == torch.float64
        assert nn.Conv3d(1, 2, 3)(noise(1, 4, 4, 4)).shape == (2, 2, 2, 2)
        assert nn.Conv2d(1, 2, 3)(noise(1, 1, 4, 4)).shape == (1, 2, 2, 2)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
def test_only_single_precision_on_a_cpu_is_direct(monkeypatch):
    called, real = [], torch.mkldnn_convolution
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *given: called.append(given) or real(*given))
    conv, image = nn.Conv3d(1, 2, 3), noise(1, 1, 4, 4, 4)
    for device, single, count in ((CPU, False, 0), (torch.device("cuda"), True, 0), (CPU, True, 1)):
        with torch.inference_mode(), direct_convolutions(device, single=single):
            conv(image)
        assert len(called) == count
    conv(image)
    assert len(called) == 1
