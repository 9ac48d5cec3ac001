"""Statistics of foreground intensities, each case with the same weight: nnU-Net's draws, counted instead of kept.

nnU-Net 2.8 draws as many voxels from each case, with replacement, and pools their values: 400 MB a channel. Here the
same draws of the same generator are made, but what is kept of a case is how often each of its values was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg import Intensities

SEED = 1234  # of each case's generator
CHUNK = 2**20  # draws that are made at once
KEPT = 2**23  # different values of a channel that are kept in all for its percentiles: 96 MiB
HALVINGS = 64  # of an interval of float32 numbers, until no number is left between its ends
QUANTILES = (0.005, 0.5, 0.995)


@frozen(kw_only=True, eq=False)
class Sample:
    """The draws from one channel of one case: their moments and extremes, and its values in ascending order.

    `up_to` says how many draws gave a value up to the one at the same place.
    """

    mean: float
    variance: float
    low: float
    high: float
    values: NDArray[np.float32]
    up_to: NDArray[np.int64]


def draw(values: NDArray[Any], draws: int, kept: int, generator: np.random.RandomState) -> Sample:
    """`draws` draws with replacement from `values` (at least one), in the order in which nnU-Net draws them.

    Of more than `kept` different values, evenly spaced ones are kept, each for the draws around it.
    """
    counts = np.zeros(len(values), dtype=np.int64)
    chunk = max(CHUNK, len(values))
    for start in range(0, draws, chunk):
        drawn = generator.randint(0, len(values), min(chunk, draws - start))
        counts += np.bincount(drawn, minlength=len(values))
    order = np.argsort(values)
    order = order[counts[order] > 0]
    ordered, counts = values[order], counts[order]
    mean = float(ordered.astype(np.float64) @ counts / draws)
    variance = float((ordered.astype(np.float64) - mean) ** 2 @ counts / draws)
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # where a run of equal values ends
    distinct, up_to = ordered[ends], np.cumsum(counts)[ends]
    if len(distinct) > kept:
        edges = np.linspace(0, len(distinct), kept + 1).astype(np.int64)
        distinct, up_to = distinct[(edges[:-1] + edges[1:]) // 2], up_to[edges[1:] - 1]
    low, high = float(ordered[0]), float(ordered[-1])
    return Sample(mean=mean, variance=variance, low=low, high=high, values=distinct, up_to=up_to)


def pool(samples: Sequence[Sample]) -> Intensities:
    """The statistics of the draws of all samples (at least one), as many from each."""
    means = np.array([each.mean for each in samples])
    mean = float(means.mean())
    variance = float(np.mean([each.variance for each in samples]) + np.mean((means - mean) ** 2))
    first, median, last = _quantiles(samples)
    return Intensities(
        mean=mean, median=median, std=variance**0.5, min=min(each.low for each in samples),
        max=max(each.high for each in samples), percentile_00_5=first, percentile_99_5=last,
    )


def _quantiles(samples: Sequence[Sample]) -> list[float]:
    """`QUANTILES` of all draws, linear between the two draws on either side, as NumPy's percentiles."""
    draws = sum(int(each.up_to[-1]) for each in samples)
    places = [quantile * (draws - 1) for quantile in QUANTILES]
    floors = [int(place) for place in places]
    values = _at_ranks(samples, [*floors, *(min(floor + 1, draws - 1) for floor in floors)])
    return [values[i] + (values[i + 3] - values[i]) * (places[i] - floors[i]) for i in range(3)]


def _at_ranks(samples: Sequence[Sample], ranks: Sequence[int]) -> list[float]:
    """The draws that stand at `ranks` (from 0) when all are in order, without bringing them together.

    The interval of values around each is halved until it holds one number; how many draws lie up to its middle is
    looked up in each sample.
    """
    low, high = min(each.low for each in samples), max(each.high for each in samples)
    below, above = np.full(len(ranks), np.nextafter(np.float32(low), np.float32(-np.inf))), np.full(len(ranks), high)
    below, wanted = below.astype(np.float64), np.array(ranks) + 1
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        found = np.zeros(len(ranks), dtype=np.int64)
        for each in samples:
            at = np.searchsorted(each.values, middle.astype(np.float32), side="right")
            found += np.where(at > 0, each.up_to[at - 1], 0)
        enough = found >= wanted
        above, below = np.where(enough, middle, above), np.where(enough, below, middle)
    return [float(value) for value in above.astype(np.float32)]
