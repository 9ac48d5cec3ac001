"""How well a prediction agrees with the truth: Dice, 95 % Hausdorff distance, surface Dice.

Distances and surfaces are those of the package surface-distance: elements weighted by their area, see `seg._surfaces`.

What is empty, for a class in a case:

| truth | prediction | Dice | NSD | HD95 |
|---|---|---|---|---|
| absent | absent | None | None | None: the case does not count for the class |
| present | absent | 0 | 0 | None: there is no distance to nothing |
| absent | present | 0 | 0 | None |
| present | present | 2·TP / (2·TP + FP + FN) | fraction of both surfaces within the tolerance | mm |

The mean HD95 is therefore over the cases in which both are present; `hd95_cases` beside it says over how many, `cases`
over how many the others are. Voxels that the truth marks as ignored count for neither side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seg._surfaces import distances, surface
from seg.errors import Record, SegError
from seg.models import CaseMetrics, ClassMetrics, Evaluation, Labels

METRICS = ("dice", "hd95_mm", "nsd")


def case_metrics(
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    labels: Labels,
    spacing: Sequence[float],
    tolerance_mm: float = 1.0,
    case: str = "",
) -> CaseMetrics:
    """Metrics of every foreground class in one case.

    Args:
        truth: label ids (Z, Y, X).
        prediction: label ids (Z, Y, X), on the same grid.
        labels: the classes; a region counts as the union of its ids.
        spacing: mm (z, y, x). An array of one slice is measured in its plane, in pixels where a pixel is 1 mm.
        tolerance_mm: how far apart two surfaces may lie and still agree, for NSD.
        case: the name of the case.

    Raises:
        SegError: the arrays differ in shape.
    """
    if truth.shape != prediction.shape:
        raise SegError(Record(code="SEG-D01", case=case or None, found=f"the prediction has shape {prediction.shape}",
                              expected=f"the shape of the truth, {truth.shape}"))
    valid = None if labels.ignore is None else truth != labels.ignore
    classes = {}
    for name, ids in labels.foreground.items():
        masks = [_mask(array, ids, valid) for array in (truth, prediction)]
        classes[name] = mask_metrics(masks[0], masks[1], spacing, tolerance_mm)
    return CaseMetrics(case=case, classes=classes)


def mask_metrics(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Sequence[float], tolerance_mm: float = 1.0,
) -> ClassMetrics:
    """Metrics of one class: two masks (Z, Y, X) on the same grid, `spacing` in mm (z, y, x)."""
    voxels, predicted = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    if voxels == 0 or predicted == 0:
        score = None if voxels == predicted else 0.0
        return ClassMetrics(dice=score, hd95_mm=None, nsd=score, truth_voxels=voxels, predicted_voxels=predicted)
    if truth.shape[0] == 1:
        truth, prediction, spacing = truth[0], prediction[0], spacing[1:]
    box = _bounding_box(truth | prediction)
    truth, prediction = truth[box], prediction[box]
    dice = 2 * int(np.count_nonzero(truth & prediction)) / (voxels + predicted)
    hd95, nsd = _surface_metrics(truth, prediction, spacing, tolerance_mm)
    return ClassMetrics(dice=dice, hd95_mm=hd95, nsd=nsd, truth_voxels=voxels, predicted_voxels=predicted)


def evaluation(
    cases: Iterable[CaseMetrics],
    class_names: Sequence[str],
    tolerance_mm: float = 1.0,
    further: Mapping[str, bool] | None = None,
) -> Evaluation:
    """The metrics of `cases` with their means: over classes, of the mean over cases in which a class is present.

    `further` has the names of the further metrics that were made of every case, and whether larger is better.
    """
    kept, further = tuple(cases), dict(further or {})
    metrics = (*METRICS, *further)
    means = {name: _class_mean([case.classes[name] for case in kept if name in case.classes], metrics)
             for name in class_names}
    present = [mean for mean in means.values() if mean["cases"]]
    return Evaluation(
        cases=kept,
        class_means=means,
        mean={metric: _mean([mean[metric] for mean in present]) for metric in metrics},
        absent=tuple(name for name, mean in means.items() if not mean["cases"]),
        tolerance_mm=tolerance_mm,
        larger_is_better=further,
    )


def class_mask(truth: NDArray[np.integer], array: NDArray[np.integer], ids: tuple[int, ...],
               labels: Labels) -> NDArray[np.bool_]:
    """Where `array` has one of `ids`, (Z, Y, X), but for voxels that `truth` marks as ignored."""
    return _mask(array, ids, None if labels.ignore is None else truth != labels.ignore)


def _class_mean(found: list[ClassMetrics], metrics: Sequence[str]) -> dict[str, float | None]:
    values = {metric: [one.value(metric) for one in found] for metric in metrics}
    counted = {f"{prefix}cases": float(sum(value is not None for value in values[metric]))
               for prefix, metric in (("", "dice"), ("hd95_", "hd95_mm"))}
    return {metric: _mean(values[metric]) for metric in metrics} | counted


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _mask(array: NDArray[np.integer], ids: tuple[int, ...], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = array == ids[0] if len(ids) == 1 else np.isin(array, ids)
    return mask if valid is None else mask & valid


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        rows = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(rows[0]), int(rows[-1]) + 1))
    return tuple(box)


def _surface_metrics(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Sequence[float], tolerance_mm: float,
) -> tuple[float, float]:
    """HD95 in mm and NSD of two masks that both have voxels."""
    sides = surface(truth, spacing), surface(prediction, spacing)
    apart = distances(sides[0], sides[1], spacing), distances(sides[1], sides[0], spacing)
    near = sum(float(side.areas[far <= tolerance_mm].sum()) for side, far in zip(sides, apart, strict=True))
    total = sum(float(side.areas.sum()) for side in sides)
    hd95 = max(_weighted_percentile(far, side.areas, 0.95) for side, far in zip(sides, apart, strict=True))
    return hd95, near / total


def _weighted_percentile(values: NDArray[np.float64], weights: NDArray[np.float64], fraction: float) -> float:
    """The smallest value with at least `fraction` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(below, fraction)), len(values) - 1)]])
