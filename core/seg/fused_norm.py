"""Instance norm and (leaky) ReLU in one, which leaves the order of axes in memory as it is.

Torch's own instance norm copies maps that lie channels last forth and back on CUDA (pytorch 59168), and its activation
reads and writes each map once more. The kernels are in `_triton_norm`; here is what they must give, in plain torch, and
the trial that each device puts them to before anything relies on them.

Axes: B batch, C channels, then spatial axes with M voxels. With mean and variance of each map,
x̂ = (x − mean) / √(variance + eps) and p = weight · x̂ + bias, y is p where p > 0, else slope · p. Backwards, g is dy
where p > 0, else slope · dy, and with sums over a map dx = weight · (g − Σg / M − x̂ · Σ(g x̂) / M) / √(variance + eps).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from attrs import frozen
from torch import Tensor
from torch.autograd.function import once_differentiable

Pair = tuple[Tensor, Tensor]

TYPES = (torch.float32, torch.bfloat16, torch.float16)  # that the kernels know
CAPABILITY = 8, 0  # of a GPU, the least that Triton says it supports (its README, Compatibility)
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
TRIALS = (  # shape, type, whether channels lie last: a usual map in both arithmetics, odd ones, and channels first
    ((2, 32, 8, 24, 20), torch.bfloat16, True),
    ((2, 32, 8, 24, 20), torch.float32, True),
    ((3, 70, 13, 19), torch.float32, True),
    ((1, 5, 11, 13, 17), torch.bfloat16, True),
    ((2, 3, 17, 19, 23), torch.float32, False),
)
EPSILON, SLOPE = 1e-5, 0.01  # of the trials
NEAR = 1e-3  # the activation's bend
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 1e-2}  # of the largest error, as part of the largest value


@frozen(kw_only=True)
class Way:
    """One way to compute it.

    `forward(x, (weight, bias), eps, slope)` gives y, and mean and 1 / √(variance + eps) of each map, (B, C).
    `backward(dy, x, (mean, the other), (weight, bias), slope)` gives dx, and (2, B, C): Σg and Σ(g x̂).
    Both get x contiguous or channels last, and give y and dx in x's type and layout, the rest in float32.
    """

    forward: Callable[[Tensor, Pair, float, float], tuple[Tensor, Pair]]
    backward: Callable[[Tensor, Tensor, Pair, Pair, float], Pair]


def normalised(x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float, way: Way | None = None) -> Tensor:
    """Instance norm of `x`, then LeakyReLU of `slope`: 1 is no activation, 0 is ReLU.

    Args:
        x: (B, C, *size), of a floating type.
        weight: (C,).
        bias: (C,).
        eps: added to the variance of each map.
        slope: for negative values.
        way: how; without it by Triton on CUDA, by plain torch elsewhere.

    Returns:
        Of x's shape and type; channels last where x is, else contiguous. Statistics are computed in float32 (float64 of
        float64), gradients in x have its type, those in weight and bias theirs. It cannot be differentiated twice.
    """
    how = _How(eps=float(eps), slope=float(slope), way=way or (triton_way() if x.is_cuda else PLAIN))
    laid_out = x.contiguous(memory_format=layout_of(x))
    return cast("Tensor", _Normalised.apply(laid_out, weight, bias, how))  # type: ignore[no-untyped-call]


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels last if `x` lies so, else contiguous."""
    last = LAYOUTS.get(x.dim(), torch.contiguous_format)
    return last if not x.is_contiguous() and x.is_contiguous(memory_format=last) else torch.contiguous_format


def fits(x: Tensor) -> bool:
    """Whether `x` is one for the kernels: on a device where they hold, of a type they know, while nobody traces."""
    return x.is_cuda and x.dtype in TYPES and not torch.compiler.is_compiling() and usable(x.device)


def usable(device: torch.device) -> bool:
    """Whether the kernels hold on a device; the first question tries them, which takes some seconds."""
    return not trouble(device)


def trouble(device: torch.device) -> str:
    """Why the kernels are not used on a device; empty where they are."""
    if device.type != "cuda":
        return "they are for CUDA"
    return _trouble(device.index if device.index is not None else torch.cuda.current_device())


@cache  # once a process and device
def _trouble(index: int) -> str:
    if torch.version.cuda is None:
        return "they are untried on AMD"
    if (found := torch.cuda.get_device_capability(index)) < CAPABILITY:
        return f"the GPU has compute capability {found[0]}.{found[1]}, Triton needs {CAPABILITY[0]}.{CAPABILITY[1]}"
    return trial(triton_way, torch.device("cuda", index))


def triton_way() -> Way:
    """By Triton's kernels.

    Raises:
        ImportError: there is no Triton, which torch brings along on Linux alone.
    """
    from seg._triton_norm import backward, forward

    return Way(forward=forward, backward=backward)


def trial(make: Callable[[], Way], device: torch.device) -> str:
    """What is wrong with a way on a device; empty: on small maps it gives what plain torch gives in float64."""
    try:
        way = make()
        return next((f"{what} of {shape} in {dtype} {how}" for shape, dtype, last in TRIALS
                     for what, how in _faults(way, device, trial_case(shape, dtype, last=last))), "")
    except Exception as error:  # noqa: BLE001 - Triton, the compiler it calls and the driver raise what they like
        text = str(error).strip() or "without a word"
        return f"{type(error).__name__}: {text.splitlines()[0][:200]}"


def trial_case(shape: tuple[int, ...], dtype: torch.dtype, *, last: bool) -> tuple[Tensor, Tensor, Pair]:
    """Made-up x, dy and (weight, bias) on the CPU; means are several deviations away from 0.

    dy is 0 near the activation's bend, where two right ways may differ.
    """
    generator = torch.Generator().manual_seed(shape[1])
    layout = LAYOUTS[len(shape)] if last else torch.contiguous_format
    x, dy = (torch.randn(shape, generator=generator) for _ in range(2))
    affine = 1 + torch.randn(shape[1], generator=generator) / 3, torch.randn(shape[1], generator=generator) / 3
    x = (2 * x + 9).to(dtype).contiguous(memory_format=layout)
    before, _ = PLAIN.forward(x.double(), affine, EPSILON, 1.0)
    dy = torch.where(before.abs() > NEAR, dy, 0.0).to(dtype).contiguous(memory_format=layout)
    return x, dy, affine


def _faults(way: Way, device: torch.device, case: tuple[Tensor, Tensor, Pair]) -> list[tuple[str, str]]:
    x, dy, affine = case
    wanted = _both(PLAIN, x.double(), dy.double(), affine)
    found = _both(way, x.to(device), dy.to(device), (affine[0].to(device), affine[1].to(device)))
    faults = []
    for what, one, other in zip(("y", "dx", "sums"), found, wanted, strict=True):
        error = float((one.cpu().double() - other).abs().amax() / other.abs().amax())
        if not error <= LIMITS[x.dtype]:  # a NaN too
            faults.append((what, f"is wrong by {error:.1e}"))
        elif what != "sums" and (one.dtype, one.stride()) != (x.dtype, x.stride()):
            faults.append((what, "lies otherwise than x"))
    return faults


def _both(way: Way, x: Tensor, dy: Tensor, affine: Pair) -> tuple[Tensor, ...]:
    y, statistics = way.forward(x, affine, EPSILON, SLOPE)
    return y, *way.backward(dy, x, statistics, affine, SLOPE)


@frozen(kw_only=True)
class _How:
    eps: float
    slope: float
    way: Way


class _Normalised(torch.autograd.Function):
    """Keeps x, not what it makes of it: that is computed again on the way back."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, weight, bias, how = given
        y, (mean, scale) = _or_plain(how.way, lambda way: way.forward(x, (weight, bias), how.eps, how.slope))
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.how = how
        return cast("Tensor", y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=layout_of(x))
        how = ctx.how
        dx, sums = _or_plain(how.way, lambda way: way.backward(dy, x, (mean, scale), (weight, bias), how.slope))
        shift, scaled = sums.sum(1)
        return dx, scaled.to(weight.dtype), shift.to(bias.dtype), None


def _or_plain(way: Way, work: Callable[[Way], Any]) -> Any:
    """What `work` gives by `way`; by plain torch where that raises: not every shape can be in the trial."""
    try:
        return work(way)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if way is PLAIN:
            raise
        warnings.warn(f"instance norm by plain torch, which is slower: {type(error).__name__}: {error}", stacklevel=2)
        return work(PLAIN)


def _plain_forward(x: Tensor, affine: Pair, eps: float, slope: float) -> tuple[Tensor, Pair]:
    wide = _wide(x)
    variance, mean = torch.var_mean(wide, _space(x), correction=0)
    scale = (variance + eps).rsqrt()
    before = _before(wide, (mean, scale), affine)[1]
    return torch.where(before > 0, before, slope * before).to(x.dtype), (mean, scale)


def _plain_backward(dy: Tensor, x: Tensor, statistics: Pair, affine: Pair, slope: float) -> Pair:
    wide, gradient = _wide(x), _wide(dy)
    normed, before = _before(wide, statistics, affine)
    gradient = torch.where(before > 0, gradient, slope * gradient)
    sums = torch.stack([gradient.sum(_space(x)), (gradient * normed).sum(_space(x))])
    shift, scaled = (_per_map(one, x) / x[0, 0].numel() for one in sums)
    factor = _per_map(affine[0].to(wide.dtype), x) * _per_map(statistics[1], x)
    return ((gradient - shift - normed * scaled) * factor).to(x.dtype), sums


def _before(wide: Tensor, statistics: Pair, affine: Pair) -> Pair:
    """x̂, and what comes before the activation."""
    mean, scale = (_per_map(one, wide) for one in statistics)
    weight, bias = (_per_map(one.to(wide.dtype), wide) for one in affine)
    normed = (wide - mean) * scale
    return normed, normed * weight + bias


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _per_map(values: Tensor, x: Tensor) -> Tensor:
    return values.view(*values.shape, *(1,) * (x.dim() - 2))


PLAIN = Way(forward=_plain_forward, backward=_plain_backward)
