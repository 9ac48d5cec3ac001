"""Triton's kernels give what plain torch gives: on the CPU, by Triton's interpreter, in a process of its own."""

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from packaging.version import Version

if __name__ != "__main__":
    if find_spec("triton") is None:
        pytest.skip("there is no Triton here", allow_module_level=True)
    if Version(version("triton")) < Version("3.9") and Version(version("numpy")) >= Version("2.4"):
        pytest.skip("Triton's interpreter does not run with this NumPy before 3.9", allow_module_level=True)

CASES = [  # shape, type, channels last, slope
    ((2, 32, 4, 6, 5), "float32", True, 0.01),
    ((2, 32, 4, 6, 5), "bfloat16", True, 0.01),
    ((2, 32, 4, 6, 5), "float16", True, 0.0),
    ((1, 64, 9, 21, 23), "float32", True, 0.01),  # several programs for a map, the last one not full
    ((3, 70, 7, 9), "float32", True, 1.0),
    ((2, 5, 11, 13, 7), "bfloat16", True, 0.01),
    ((2, 1, 11, 13), "float32", True, 0.01),
    ((2, 3, 31, 37, 11), "float32", False, 0.01),
    ((2, 130, 2, 3), "float32", False, 0.0),
    ((1, 1024, 3, 2), "float32", True, 0.01),
    ((2, 4, 2, 3), "float32", True, 0.01),
]


def make(shape, dtype, last, mean=3.0):
    import torch

    generator = torch.Generator().manual_seed(5)
    layout = torch.contiguous_format
    if last:
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x, dy = ((torch.randn(shape, generator=generator) * 2 + shift).to(getattr(torch, dtype)) for shift in (mean, 0))
    weight, bias = (torch.randn(shape[1], generator=generator) for _ in range(2))
    return x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout), (weight, bias)


def close(one, other, dtype="float32", rtol=2e-5):
    import torch

    rtol = {"float32": rtol, "bfloat16": 8e-3, "float16": 1e-3}[dtype]
    torch.testing.assert_close(one.double(), other.double(), rtol=rtol, atol=rtol * float(other.abs().max()))


def both(way, x, dy, affine, slope):
    y, statistics = way.forward(x, affine, 1e-5, slope)
    return y, *statistics, *way.backward(dy, x, statistics, affine, slope)


def same_as_plain():
    from seg.fused_norm import PLAIN, triton_way

    for shape, dtype, last, slope in CASES:
        x, dy, affine = make(shape, dtype, last)
        found = both(triton_way(), x, dy, affine, slope)
        wanted = both(PLAIN, x.double(), dy.double(), affine, slope)
        types = [dtype, "float32", "float32", dtype, "float32"]
        for one, other, its in zip(found, wanted, types, strict=True):
            assert str(one.dtype) == f"torch.{its}"
            close(one, other, its)
        assert found[0].stride() == found[3].stride() == x.stride()


def same_as_torch_through_autograd():
    import torch
    from torch.nn import functional as F

    from seg.fused_norm import normalised, triton_way

    x, dy, (weight, bias) = make((2, 6, 5, 6, 7), "float32", last=True)
    given = [each.requires_grad_() for each in (x, weight, bias)]
    ours = normalised(*given, 1e-5, 0.01, triton_way())
    torchs = F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias), 0.01)
    close(ours, torchs)
    both_ways = (torch.autograd.grad(y, given, dy.contiguous()) for y in (ours, torchs))
    for one, other in zip(*both_ways, strict=True):
        close(one, other, rtol=1e-4)


def large_means_cost_no_precision():
    from seg.fused_norm import PLAIN, triton_way

    for mean in (1e3, -3e4):
        x, dy, affine = make((1, 8, 20, 20, 20), "float32", last=True, mean=mean)
        found, wanted = (both(way, each, dy.to(each), affine, 0.01)
                         for way, each in ((triton_way(), x), (PLAIN, x.double())))
        close(found[1], wanted[1], rtol=1e-7)
        close(found[2], wanted[2], rtol=1e-5)


def a_spike_costs_no_precision():
    """All but one value are the same: the variance is a sum of one large square and many small ones."""
    import torch

    from seg.fused_norm import PLAIN, triton_way

    for place in (0, -1):
        x = torch.full((1, 2, 9, 21, 23), 500.0).contiguous(memory_format=torch.channels_last_3d)
        x[..., place, place, place] = 501.0
        dy, affine = torch.randn_like(x), (torch.ones(2), torch.zeros(2))
        found, wanted = (both(way, each, dy.to(each), affine, 0.01)
                         for way, each in ((triton_way(), x), (PLAIN, x.double())))
        close(found[2], wanted[2], rtol=1e-4)


def the_same_in_every_run():
    import torch

    from seg.fused_norm import triton_way

    case = make((2, 16, 9, 11, 13), "float32", last=True)
    first, second = (both(triton_way(), *case, 0.01) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def nothing_beyond_is_read_or_written():
    """x and dy lie amid numbers that are none, outputs amid sevens; all of these stay, and spoil nothing."""
    import torch

    from seg._triton_norm import _apply, _Cut, _go_back
    from seg.fused_norm import PLAIN, triton_way

    for shape, last in (((2, 5, 5, 7, 9), True), ((2, 40, 5, 7), True), ((2, 3, 5, 7, 59), False)):
        x, dy, affine = make(shape, "float32", last)
        x, dy = (amid(each, float("nan")) for each in (x, dy))
        found = both(triton_way(), x, dy, affine, 0.01)
        wanted = both(PLAIN, x.double(), dy.double(), affine, 0.01)
        for one, other in zip(found, wanted, strict=True):
            close(one, other)
        cut, y, dx = _Cut.of(x), amid(torch.zeros_like(x), 7.0), amid(torch.zeros_like(x), 7.0)
        _apply[cut.grid](x, y, *found[1:3], *affine, 0.01, *cut.numbers, **cut.tile)
        _go_back[cut.grid](dy, x, dx, *found[1:3], *affine, *found[4], 0.01, 1 / cut.size, *cut.numbers, **cut.tile)
        for one, other in ((y, wanted[0]), (dx, wanted[3])):
            close(one, other)
            whole = torch.empty(0).set_(one.untyped_storage())
            assert len(whole) == x.numel() + 2 * ROOM
            assert (whole[:ROOM] == 7).all()
            assert (whole[-ROOM:] == 7).all()


ROOM = 1 << 14


def amid(x, value):
    """`x` in the middle of a longer piece of memory."""
    import torch

    whole = torch.full((x.numel() + 2 * ROOM,), value)
    return whole.as_strided(x.shape, x.stride(), ROOM).copy_(x)


CHECKS = [same_as_plain, same_as_torch_through_autograd, large_means_cost_no_precision, a_spike_costs_no_precision,
          the_same_in_every_run, nothing_beyond_is_read_or_written]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kernels(check):
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__, check.__name__], capture_output=True, text=True, check=False,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    globals()[sys.argv[1]]()
