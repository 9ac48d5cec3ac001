"""The kernels of `seg.fused_norm` in Triton; only CUDA imports this.

A program works on a few thousand rows (voxels) of some columns (channels) of one sample, a tile after the other. A map
is read twice and written once, forwards as backwards. What the programs of a map find is put together in a fixed order:
results are the same in every run. Offsets within a tile have 32 bits where that is enough, all others 64.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import torch
import triton
import triton.language as tl
from attrs import frozen
from torch import Tensor

from seg.fused_norm import Pair, layout_of

TILE = 2048  # values
WIDTH = 64  # columns of a tile, at most: 128 bytes in 16 bits
TILES, PARTS = 4, 512  # of a program, at least; of a map, at most
FUSED = {"enable_fp_fusion": True}  # products and sums in one rounding; Triton 3.9 warns where this is left open
JOINED = 8  # channels of a program that puts parts together


@triton.jit
def _load(places, there):
    """What lies there, as float32; zeros elsewhere."""
    return tl.load(places, mask=there, other=0.0).to(tl.float32)


@triton.jit
def _of_maps(mean, scale, weight, bias, there):
    """What belongs to each column of a tile, as rows."""
    centre, narrow = _load(mean, there)[None, :], _load(scale, there)[None, :]
    return centre, narrow, _load(weight, there)[None, :], _load(bias, there)[None, :]


@triton.jit
def _measure(
    x, means, squares, size, channels, row, column, rows_each, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Mean, and sum of squared distances from it, of each part of a map, (B, parts, C).

    Each place of the tile has a mean of its own (Welford 1962), which are joined at the end (Chan et al. 1979): squares
    of values that are not centred would lose what a map with a large mean has to tell.
    """
    part, first = tl.program_id(0), tl.program_id(0).to(tl.int64) * rows_each
    start, sample = tl.program_id(1).to(tl.int64) * COLUMNS, tl.program_id(2).to(tl.int64)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    channel = start + columns
    known = channel < channels
    place = x + sample * size * channels + first * row + start * column
    offsets = rows[:, None] * row + columns[None, :] * column
    mean = tl.zeros((ROWS, COLUMNS), tl.float32)
    square = tl.zeros((ROWS, COLUMNS), tl.float32)
    count = tl.zeros((ROWS, 1), tl.float32)
    left = size - first
    for done in range(0, rows_each, ROWS):
        there = (rows + done < left)[:, None]
        value = _load(place + offsets, there & known[None, :])
        count += tl.where(there, 1.0, 0.0)
        away = tl.where(there, value - mean, 0.0)
        mean += away * (1.0 / tl.maximum(count, 1.0))
        square += away * (value - mean)
        place += ROWS * row
    share = count / tl.sum(count, 0)[:, None]
    middle = tl.sum(mean * share, 0)
    middle += tl.sum((mean - middle[None, :]) * share, 0)  # what the first sum lost by rounding
    away = mean - middle[None, :]
    target = (sample * tl.num_programs(0) + part) * channels + channel
    tl.store(means + target, middle, mask=known)
    tl.store(squares + target, tl.sum(square + count * away * away, 0), mask=known)


@triton.jit
def _join(
    means, squares, mean, scale, size, channels, rows_each, parts, one, eps, PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Mean and 1 / √(variance + eps) of each map, (B, C), from its parts; `one` is 1 / size."""
    sample = tl.program_id(1).to(tl.int64)
    part, columns = tl.arange(0, PARTS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = (part < parts)[:, None] & (columns < channels)[None, :]
    offsets = (sample * parts + part)[:, None] * channels + columns[None, :]
    each = _load(means + offsets, there)
    held = tl.minimum(size - part.to(tl.int64) * rows_each, rows_each).to(tl.float32)
    share = tl.where(part < parts, held * one, 0.0)[:, None]
    middle = tl.sum(each * share, 0)
    middle += tl.sum((each - middle[None, :]) * share, 0)
    away = each - middle[None, :]
    variance = tl.sum(_load(squares + offsets, there), 0) * one + tl.sum(away * away * share, 0)
    target = sample * channels + columns
    tl.store(mean + target, middle, mask=columns < channels)
    tl.store(scale + target, 1.0 / tl.sqrt(variance + eps), mask=columns < channels)


@triton.jit
def _apply(
    x, y, mean, scale, weight, bias, slope, size, channels, row, column, rows_each, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """The normalised and activated map."""
    first = tl.program_id(0).to(tl.int64) * rows_each
    start, sample = tl.program_id(1).to(tl.int64) * COLUMNS, tl.program_id(2).to(tl.int64)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    channel = start + columns
    known, maps = channel < channels, sample * channels + channel
    centre, narrow, factor, shift = _of_maps(mean + maps, scale + maps, weight + channel, bias + channel, known)
    place = sample * size * channels + first * row + start * column
    offsets = rows[:, None] * row + columns[None, :] * column
    left = size - first
    for done in range(0, rows_each, ROWS):
        there = (rows + done < left)[:, None] & known[None, :]
        normed = (_load(x + place + offsets, there) - centre) * narrow
        before = normed * factor + shift
        found = tl.where(before > 0, before, before * slope)
        tl.store(y + place + offsets, found.to(y.dtype.element_ty), mask=there)
        place += ROWS * row


@triton.jit
def _add_up(
    dy, x, mean, scale, weight, bias, sums, scaled_sums, slope, size, channels, row, column, rows_each,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """The sums of g and of g x̂ of each part of a map, (B, parts, C)."""
    part, first = tl.program_id(0), tl.program_id(0).to(tl.int64) * rows_each
    start, sample = tl.program_id(1).to(tl.int64) * COLUMNS, tl.program_id(2).to(tl.int64)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    channel = start + columns
    known, maps = channel < channels, sample * channels + channel
    centre, narrow, factor, shift = _of_maps(mean + maps, scale + maps, weight + channel, bias + channel, known)
    place = sample * size * channels + first * row + start * column
    offsets = rows[:, None] * row + columns[None, :] * column
    plain = tl.zeros((ROWS, COLUMNS), tl.float32)
    scaled = tl.zeros((ROWS, COLUMNS), tl.float32)
    left = size - first
    for done in range(0, rows_each, ROWS):
        there = (rows + done < left)[:, None] & known[None, :]
        normed = (_load(x + place + offsets, there) - centre) * narrow
        gradient = _load(dy + place + offsets, there)
        gradient = tl.where(normed * factor + shift > 0, gradient, gradient * slope)
        plain += gradient
        scaled += gradient * normed
        place += ROWS * row
    target = (sample * tl.num_programs(0) + part) * channels + channel
    tl.store(sums + target, tl.sum(plain, 0), mask=known)
    tl.store(scaled_sums + target, tl.sum(scaled, 0), mask=known)


@triton.jit
def _go_back(
    dy, x, dx, mean, scale, weight, bias, sums, scaled_sums, slope, one, size, channels, row, column, rows_each,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """The gradient in x, from the sums of the whole map, (B, C); `one` is 1 / size."""
    first = tl.program_id(0).to(tl.int64) * rows_each
    start, sample = tl.program_id(1).to(tl.int64) * COLUMNS, tl.program_id(2).to(tl.int64)
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    channel = start + columns
    known, maps = channel < channels, sample * channels + channel
    centre, narrow, factor, shift = _of_maps(mean + maps, scale + maps, weight + channel, bias + channel, known)
    plain = _load(sums + maps, known)[None, :] * one
    scaled = _load(scaled_sums + maps, known)[None, :] * one
    place = sample * size * channels + first * row + start * column
    offsets = rows[:, None] * row + columns[None, :] * column
    left = size - first
    for done in range(0, rows_each, ROWS):
        there = (rows + done < left)[:, None] & known[None, :]
        normed = (_load(x + place + offsets, there) - centre) * narrow
        gradient = _load(dy + place + offsets, there)
        gradient = tl.where(normed * factor + shift > 0, gradient, gradient * slope)
        found = (gradient - plain - normed * scaled) * (factor * narrow)
        tl.store(dx + place + offsets, found.to(dx.dtype.element_ty), mask=there)
        place += ROWS * row


@frozen(kw_only=True)
class _Cut:
    """How maps (B, C, *size) are shared out among programs; it depends on their shape and layout alone."""

    batch: int
    channels: int
    size: int  # voxels of a map
    last: bool  # channels lie last
    columns: int
    rows: int
    rows_each: int  # of a program
    parts: int  # programs that share a map's rows

    @classmethod
    def of(cls, x: Tensor) -> _Cut:
        last, (batch, channels), size = layout_of(x) != torch.contiguous_format, x.shape[:2], x[0, 0].numel()
        columns = min(WIDTH, triton.next_power_of_2(channels)) if last else 1
        rows = TILE // columns
        tiles = -(-size // rows)
        each = max(TILES, -(-tiles // PARTS))
        return cls(batch=batch, channels=channels, size=size, last=last, columns=columns, rows=rows,
                   rows_each=each * rows, parts=-(-tiles // each))

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.parts, -(-self.channels // self.columns), self.batch

    @property
    def numbers(self) -> tuple[int, ...]:
        """Sizes, steps in memory from row to row and from column to column, and the rows of a program."""
        row, column = (self.channels, 1) if self.last else (1, self.size)
        return self.size, self.channels, row, column, self.rows_each

    @property
    def tile(self) -> dict[str, int]:
        return {"ROWS": self.rows, "COLUMNS": self.columns, **FUSED}


def forward(x: Tensor, affine: Pair, eps: float, slope: float) -> tuple[Tensor, Pair]:
    """As `seg.fused_norm.Way` says."""
    cut, y = _Cut.of(x), torch.empty_like(x)
    means, squares = x.new_empty((2, cut.batch, cut.parts, cut.channels), dtype=torch.float32)
    mean, scale = x.new_empty((2, cut.batch, cut.channels), dtype=torch.float32)
    with torch.cuda.device_of(x):
        _measure[cut.grid](x, means, squares, *cut.numbers, **cut.tile)
        _join[-(-cut.channels // JOINED), cut.batch](
            means, squares, mean, scale, cut.size, cut.channels, cut.rows_each, cut.parts, 1 / cut.size, eps,
            PARTS=triton.next_power_of_2(cut.parts), COLUMNS=JOINED, **FUSED)  # fmt: skip
        _apply[cut.grid](x, y, mean, scale, *affine, slope, *cut.numbers, **cut.tile)
    return y, (mean, scale)


def backward(dy: Tensor, x: Tensor, statistics: Pair, affine: Pair, slope: float) -> Pair:
    """As `seg.fused_norm.Way` says."""
    cut, dx = _Cut.of(x), torch.empty_like(x)
    given = dy, x, *statistics, *affine
    parts = x.new_empty((2, cut.batch, cut.parts, cut.channels), dtype=torch.float32)
    with torch.cuda.device_of(x):
        _add_up[cut.grid](*given, *parts, slope, *cut.numbers, **cut.tile)
        sums = parts.sum(2)
        _go_back[cut.grid](dy, x, dx, *statistics, *affine, *sums, slope, 1 / cut.size, *cut.numbers, **cut.tile)
    return dx, sums
