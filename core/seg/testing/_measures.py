"""Laws of normalisers and metrics: arrays (Z, Y, X) in, arrays or a number out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from seg.errors import SegError
from seg.kinds import Metric, Normaliser
from seg.testing._check import Check, expect
from seg.testing._samples import STATISTICS, balls

SHAPE = (6, 9, 8)
SPACINGS = ((1.0, 1.0, 1.0), (3.0, 0.5, 0.7), (999.0, 1.0, 1.0))


# Normalisers


def _channels() -> dict[str, NDArray[np.float32]]:
    """Channels within 0 to 255, which every scheme takes."""
    rng = np.random.default_rng(0)
    return {"random": rng.uniform(0, 255, SHAPE).astype(np.float32), "constant": np.full(SHAPE, 7, np.float32),
            "empty": np.zeros(SHAPE, np.float32), "flat": rng.uniform(0, 255, (1, 9, 8)).astype(np.float32)}


def normaliser_values(normaliser: Normaliser) -> None:
    for name, channel in _channels().items():
        half = np.zeros(channel.shape, np.bool_)
        half[..., 2:] = True
        for inside in (None, half, np.zeros_like(half), np.ones_like(half)):
            found = normaliser.normalise(channel, inside, STATISTICS)
            expect(found.shape == channel.shape and found.dtype == np.float32, f"{found.dtype} {found.shape} ({name})",
                   f"float32 {channel.shape}")
            expect(bool(np.isfinite(found).all()), f"values that are no finite numbers ({name})", "finite ones")


def normaliser_input(normaliser: Normaliser) -> None:
    for name, channel in _channels().items():
        given = channel.copy()
        normaliser.normalise(given, None, STATISTICS)
        expect(np.array_equal(given, channel), f"a channel that changed ({name})", "one that is left as it is")


def normaliser_deterministic(normaliser: Normaliser) -> None:
    channel = _channels()["random"]
    first = normaliser.normalise(channel, None, STATISTICS)
    second = evolve(normaliser).normalise(channel.copy(), None, STATISTICS)  # type: ignore[misc]
    expect(np.array_equal(first, second), "other values the second time", "the same")


def normaliser_no_statistics(normaliser: Normaliser) -> None:
    channel = _channels()["random"]
    try:
        found = normaliser.normalise(channel, None, None)
    except SegError as error:
        expect(error.records, "a SegError without a record", "what is missing, as a record")
        return
    expect(bool(np.isfinite(found).all()), "values that are no finite numbers without statistics", "finite ones")


# Metrics


def _number(metric: Metric, truth: NDArray[Any], predicted: NDArray[Any], spacing: Any = SPACINGS[0]) -> float | None:
    found = metric.measure(truth, predicted, spacing)
    told = f"{found!r} of {int(truth.sum())} true and {int(predicted.sum())} predicted voxels at {spacing} mm"
    expect(found is None or (isinstance(found, float) and math.isfinite(found)), told, "a finite float, or None")
    return found


def _maps() -> dict[str, NDArray[np.bool_]]:
    """A ball, the same moved a little, and a smaller one that does not touch it."""
    ball = np.zeros((12, 14, 30), np.bool_)
    ball[2:9, 2:11, 2:11] = balls((7, 9, 9), 0) > 0
    far = np.roll(ball, 15, 2)
    far[:5] = False  # for metrics of the volume alone
    return {"truth": ball, "near": np.roll(ball, 2, 2), "far": far, "empty": np.zeros_like(ball)}


def metric_best(metric: Metric) -> None:
    maps = _maps()
    perfect = _number(metric, maps["truth"], maps["truth"])
    expect(perfect is not None, "None for a perfect prediction", "its best value")
    sign = 1 if metric.larger_is_better else -1
    for name in ("near", "far"):
        other = _number(metric, maps["truth"], maps[name])
        expect(other is None or sign * other <= sign * perfect, f"{other!r} for one that lies {name}",  # type: ignore[operator]
               f"no better than the perfect one, {perfect!r}")
    far = _number(metric, maps["truth"], maps["far"])
    expect(far is None or far != perfect, f"{far!r} for a prediction that misses, as for a perfect one",
           "something worse")


def metric_spacing(metric: Metric) -> None:
    maps = _maps()
    for spacing in SPACINGS:
        for truth, predicted in ((maps["truth"], maps["near"]), (maps["truth"][5:6], maps["near"][5:6])):
            first = _number(metric, truth, predicted, spacing)
            turned = tuple(np.ascontiguousarray(one.transpose(0, 2, 1)) for one in (truth, predicted))
            other = _number(metric, turned[0], turned[1], (spacing[0], spacing[2], spacing[1]))
            both = first is not None and other is not None
            same = math.isclose(first, other, rel_tol=1e-6) if both else first == other  # type: ignore[arg-type]
            expect(same, f"{first!r} at {spacing} mm, {other!r} with y and x exchanged", "the same: axes have no names")


def metric_empty(metric: Metric) -> None:
    maps = _maps()
    for truth, predicted in ((maps["truth"], maps["empty"]), (maps["empty"], maps["truth"])):
        _number(metric, truth, predicted)


def metric_inputs(metric: Metric) -> None:
    maps, before = _maps(), _maps()
    _number(metric, maps["truth"], maps["near"])
    same = all(np.array_equal(maps[name], before[name]) for name in maps)
    expect(same, "maps that changed", "maps as they were: other metrics are made of them too")


CHECKS = (
    Check(id="normaliser-values", kind="normaliser", law=normaliser_values,
          reason="Every channel becomes float32 of the same shape; constant ones have no spread to divide by."),
    Check(id="normaliser-input", kind="normaliser", law=normaliser_input,
          reason="The channel is used again: for the mask, or by another configuration."),
    Check(id="normaliser-deterministic", kind="normaliser", law=normaliser_deterministic,
          reason="A case is normalised in training and in prediction, and must look alike."),
    Check(id="normaliser-no-statistics", kind="normaliser", law=normaliser_no_statistics,
          reason="A plan may have no intensities; what needs them says so by a record."),
    Check(id="metric-best", kind="metric", law=metric_best,
          reason="Reports and choices go by which of two values is better."),
    Check(id="metric-spacing", kind="metric", law=metric_spacing,
          reason="Spacing is given in (z, y, x); mixed up axes give wrong distances on anisotropic images."),
    Check(id="metric-empty", kind="metric", law=metric_empty,
          reason="A class that was missed or invented is a result, not an error."),
    Check(id="metric-inputs", kind="metric", law=metric_inputs, reason="All metrics are made of the same maps."),
)
