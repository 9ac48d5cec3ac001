import re
from contextlib import nullcontext

import pytest
import torch
from attrs import evolve
from torch.nn import functional as F

from seg.fused_norm import (
    LIMITS,
    PLAIN,
    TRIALS,
    Way,
    fits,
    layout_of,
    normalised,
    trial,
    trial_case,
    triton_way,
    trouble,
    usable,
)

CPU = torch.device("cpu")
EPS = 1e-5
SIZES = [(2, 3, 5, 4), (2, 3, 3, 4, 5), (1, 1, 4, 4), (3, 2, 7)]
SLOPES = [0.0, 0.01, 1.0]


def tensors(size, dtype=torch.float64, *, last=False):
    generator = torch.Generator().manual_seed(7)
    x = (torch.randn(size, generator=generator) * 2 + 3).to(dtype)
    if last:
        x = x.contiguous(memory_format=torch.channels_last if len(size) == 4 else torch.channels_last_3d)
    weight, bias = (torch.randn(size[1], generator=generator).to(dtype) for _ in range(2))
    return [each.requires_grad_() for each in (x, weight, bias)]


def by_torch(x, weight, bias, slope):
    return F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias, eps=EPS), slope)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_are_those_of_norm_and_activation(size, slope):
    given = tensors(size)
    ours, torchs = normalised(*given, EPS, slope), by_torch(*given, slope)
    dy = torch.randn_like(ours)
    torch.testing.assert_close(ours, torchs)
    for one, other in zip(torch.autograd.grad(ours, given, dy), torch.autograd.grad(torchs, given, dy), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 5, 4), (2, 3, 3, 4, 5)])
def test_gradients_are_those_of_small_differences(size, last, slope):
    given = tensors(size, last=last)
    assert torch.autograd.gradcheck(lambda *each: normalised(*each, EPS, slope), given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 5, 4), (2, 3, 3, 4, 5)])
def test_type_and_layout_stay_and_statistics_are_precise(size, last, dtype):
    x, weight, bias = tensors(size, dtype, last=last)
    given = x, *(each.detach().float().requires_grad_() for each in (weight, bias))
    y = normalised(*given, EPS, 0.01)
    dx, *others = torch.autograd.grad(y, given, torch.ones(size, dtype=dtype))  # contiguous, whatever x is
    assert y.dtype == dx.dtype == dtype
    assert {other.dtype for other in others} == {torch.float32}
    assert y.stride() == x.stride() == dx.stride()
    assert layout_of(y) == layout_of(x)
    exact = by_torch(*(each.double() for each in given), 0.01)
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=2e-6)


def test_what_lies_neither_way_comes_out_contiguous():
    x, weight, bias = tensors((2, 3, 5, 8))
    strided = x.detach()[..., ::2]
    y = normalised(strided, weight, bias, EPS, 0.01)
    assert y.is_contiguous()
    torch.testing.assert_close(y, by_torch(strided, weight, bias, 0.01))


@pytest.mark.parametrize("factor", [0.5, 40.0])
def test_brightness_and_contrast_of_a_map_do_not_matter(factor):
    x, weight, bias = tensors((2, 3, 6, 6, 6))
    shift = torch.randn(2, 3, 1, 1, 1, dtype=torch.float64)
    before, after = (normalised(each, weight, bias, 1e-12, 0.01) for each in (x, x * factor + shift))
    torch.testing.assert_close(after, before)


def test_gradients_of_a_map_sum_to_nothing_and_do_not_see_its_values():
    """y changes neither where a map is shifted nor where it is stretched."""
    x, weight, bias = tensors((2, 3, 6, 6, 6))
    y = normalised(x, weight, bias, 1e-12, 0.01)
    (dx,) = torch.autograd.grad(y, x, torch.randn_like(y))
    zero = torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(dx.sum((2, 3, 4)), zero)
    torch.testing.assert_close((dx * x.detach()).sum((2, 3, 4)), zero)


def test_large_means_cost_no_precision():
    x = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0)) + 3000
    y = normalised(x, torch.ones(2), torch.zeros(2), EPS, 1.0)
    exact = normalised(x.double(), torch.ones(2), torch.zeros(2), EPS, 1.0)
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-3)  # a rounding of the mean is 1.2e-4


def test_plain_torch_passes_the_trial():
    assert trial(lambda: PLAIN, CPU) == ""


@pytest.mark.parametrize(("shape", "dtype", "last"), TRIALS)
def test_rounding_decides_nothing_in_the_trial(shape, dtype, last):
    """No gradient comes from so near the activation's bend that two right ways could differ there."""
    x, dy, (weight, bias) = trial_case(shape, dtype, last=last)
    before = normalised(x.double(), weight, bias, EPS, 1.0)
    assert dy[before.abs() < 1e-4].count_nonzero() == 0
    assert dy.count_nonzero() > 0.9 * dy.numel()
    assert layout_of(x) == layout_of(dy)
    assert (layout_of(x) != torch.contiguous_format) == last
    assert dtype in LIMITS


def wrong_forward(x, affine, eps, slope):
    y, statistics = PLAIN.forward(x, affine, eps, slope)
    return y * 1.02, statistics


def wrong_in_one_value(x, affine, eps, slope):
    y, statistics = PLAIN.forward(x, affine, eps, slope)
    y[(-1,) * y.dim()] = torch.nan
    return y, statistics


def turned(x, affine, eps, slope):
    y, statistics = PLAIN.forward(x, affine, eps, slope)
    return y.contiguous(), statistics


def wrong_backward(dy, x, statistics, affine, slope):
    dx, sums = PLAIN.backward(dy, x, statistics, affine, slope)
    return dx + 0.05 * dy, sums


def wrong_sums(dy, x, statistics, affine, slope):
    dx, sums = PLAIN.backward(dy, x, statistics, affine, slope)
    return dx, sums.flip(0)


def raising(*given):
    raise RuntimeError("Failed to find C compiler.\nPlease specify one")


@pytest.mark.parametrize(("change", "said"), [
    ({"forward": wrong_forward}, "y of .* is wrong by"),
    ({"forward": wrong_in_one_value}, "y of .* is wrong by nan"),
    ({"forward": turned}, "y of .* lies otherwise than x"),
    ({"backward": wrong_backward}, "dx of .* is wrong by"),
    ({"backward": wrong_sums}, "sums of .* is wrong by"),
    ({"forward": raising}, "^RuntimeError: Failed to find C compiler.$"),
    ({"backward": raising}, "^RuntimeError: Failed to find C compiler.$"),
])  # fmt: skip
def test_a_way_that_fails_is_not_taken_and_the_reason_is_told(change, said):
    assert re.search(said, trial(lambda: evolve(PLAIN, **change), CPU))


def test_a_way_that_cannot_be_made_is_not_taken():
    def absent() -> Way:
        raise ModuleNotFoundError("No module named 'triton'")

    assert trial(absent, CPU) == "ModuleNotFoundError: No module named 'triton'"


@pytest.mark.parametrize("part", ["forward", "backward"])
def test_what_fails_after_the_trial_is_done_in_plain_torch_and_told(part):
    given = tensors((2, 3, 5, 4))
    results = []
    for way in (PLAIN, evolve(PLAIN, **{part: raising})):
        told = pytest.warns(UserWarning, match="slower: RuntimeError: Failed to find C compiler")
        with nullcontext() if way is PLAIN else told:
            y = normalised(*given, EPS, 0.01, way)
            results.append((y, *torch.autograd.grad(y, given, torch.ones_like(y))))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_too_little_memory_is_no_reason_to_try_again():
    def full(*given):
        raise torch.OutOfMemoryError("too little")

    with pytest.raises(torch.OutOfMemoryError):
        normalised(*tensors((2, 3, 5, 4)), EPS, 0.01, evolve(PLAIN, forward=full))


def test_kernels_are_for_cuda_alone():
    assert not usable(CPU)
    assert trouble(CPU)
    assert trouble(torch.device("meta"))
    assert not fits(torch.zeros(1, 2, 3, 3))
    assert not fits(torch.zeros(1, 2, 3, 3, device="meta"))


def test_without_triton_or_a_gpu_the_kernels_are_refused_not_fatal():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert trial(triton_way, CPU)


def test_it_runs_on_meta_tensors():
    x = torch.empty(2, 3, 4, 4, device="meta")
    assert normalised(x, x[0, :, 0, 0], x[0, :, 0, 0], EPS, 0.01).shape == x.shape
