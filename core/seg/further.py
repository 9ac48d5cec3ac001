"""Metrics beside Dice, HD95 and NSD: components of the kind metric, by the names that the user gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from seg.errors import nearest, tell, usage_error
from seg.kinds import Ensembler, Metric
from seg.metrics import METRICS, class_mask
from seg.models import CaseMetrics, ClassMetrics, ComponentUse, Labels
from seg.registry import Registry

TAKEN = (*METRICS, "cases", "hd95_cases", "case", "class", "truth_voxels", "predicted_voxels")


def resolve_metrics(
    names: Iterable[str], registry: Registry
) -> tuple[dict[str, Metric], dict[str, ComponentUse]]:
    """The metrics called `names` (or `distribution:name`), with default options, and the record of each use.

    Raises:
        SegError: an unknown name, or one of those that every evaluation has (exit 2); a broken plugin or two of that
            name (exit 6).
    """
    metrics, uses = {}, {}
    for name in dict.fromkeys(names):
        if name in TAKEN:
            raise usage_error(f"the further metric {name!r}", expected="another than those that are always made")
        metrics[name], uses[name] = registry.build("metric", name)
    return metrics, uses


def refuse_unknown_metric(ensembler: Ensembler, metrics: Mapping[str, Metric]) -> None:
    """Refuse an ensembler that is to choose by a metric that is not made.

    Raises:
        SegError: the record names those that are made (exit 2).
    """
    known, wanted = [*METRICS, *metrics], getattr(ensembler, "metric", METRICS[0])
    if wanted not in known:
        raise usage_error(f"ensembler.metric={wanted}", expected=f"one of {', '.join(known)}",
                          advice=nearest(str(wanted), known) or f"Ask for it too: --set metrics.also={wanted}")


def directions(metrics: Mapping[str, Metric]) -> dict[str, bool]:
    """Of each metric, whether larger is better."""
    return {name: metric.larger_is_better for name, metric in metrics.items()}


def with_further(
    found: CaseMetrics,
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    labels: Labels,
    spacing: Sequence[float],
    metrics: Mapping[str, Metric],
) -> CaseMetrics:
    """`found`, the metrics of a case, with further ones of every class.

    One that fails, or gives no number, is not defined in this case; `CaseMetrics.failed` tells why.

    Args:
        found: what `seg.metrics.case_metrics` made of the same case.
        truth: label ids (Z, Y, X).
        prediction: label ids (Z, Y, X), on the same grid.
        labels: the classes; voxels that the truth marks as ignored count for neither side.
        spacing: mm (z, y, x).
        metrics: those that are wanted, by name.
    """
    if not metrics:
        return found
    mm = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    failed: list[str] = []
    classes: dict[str, ClassMetrics] = {}
    for name, ids in labels.foreground.items():
        others: dict[str, float | None] = dict.fromkeys(metrics)
        if found.classes[name].dice is not None:  # else both are empty
            masks = [class_mask(truth, array, ids, labels) for array in (truth, prediction)]
            for metric, component in metrics.items():
                try:
                    others[metric] = _number(component.measure(masks[0], masks[1], mm))
                except Exception as error:  # noqa: BLE001 - one metric that fails harms no other
                    failed.append(f"{metric} of {name}: {tell(error)}")
        classes[name] = evolve(found.classes[name], others=others)
    return evolve(found, classes=classes, failed=tuple(failed))


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"gave {value!r}, expected a finite number or None")
    return float(value)
