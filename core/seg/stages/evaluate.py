"""Compare two folders of label maps, and write what was measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve
from numpy.typing import NDArray

from seg._geometry import differences
from seg.convert import write_json
from seg.errors import Record, SegError
from seg.files import write_text
from seg.further import directions, with_further
from seg.images import Geometry, read_label
from seg.inputs import case_name, list_images
from seg.kinds import Metric
from seg.metrics import case_metrics, evaluation
from seg.models import CaseMetrics, Evaluation, Labels
from seg.progress import Progress, Silent

COLUMNS = ("case", "class", "dice", "hd95_mm", "nsd", "truth_voxels", "predicted_voxels")
NAMED = 5  # cases without a prediction are named; the others are counted
Pair = tuple[NDArray[Any], NDArray[Any], Geometry]


def evaluate_folders(
    truth: Path,
    prediction: Path,
    labels: Labels | None = None,
    tolerance_mm: float = 1.0,
    progress: Progress | None = None,
    metrics: Mapping[str, Metric] | None = None,
) -> Evaluation:
    """Metrics of every file in the folder `prediction`, against the file of the same name in `truth`.

    The two may differ in format. Truths without a prediction are said as a warning and count nowhere.

    Args:
        truth: folder of the true label maps.
        prediction: folder of the predicted ones.
        labels: the classes; None takes every value that occurs as a class named by it.
        tolerance_mm: of the surface Dice.
        progress: is told of each case and of the warnings.
        metrics: further ones, by name (see `seg.further`).

    Raises:
        SegError: a prediction without a truth (D40), two grids that differ (D01, D02, D03), a file that cannot be read;
            the faults of all cases in one.
    """
    progress, metrics = progress or Silent(), metrics or {}
    pairs = _pairs(truth, prediction, progress)
    cases: list[CaseMetrics] = []
    faults: list[Record] = []
    progress.start("evaluate", len(pairs))
    for name, (true_file, file) in pairs.items():
        try:
            cases.append(_compare(name, read_pair(true_file, file, labels), labels, tolerance_mm, metrics))
        except SegError as error:
            faults += [evolve(record, case=name) for record in error.records]
        progress.advance()
    if faults:
        raise SegError(faults)
    names = list(labels.foreground) if labels else sorted({name for case in cases for name in case.classes}, key=int)
    result = evaluation(cases, names, tolerance_mm, directions(metrics))
    for told in result.failed:
        progress.say(told)
    return result


def read_pair(truth: Path, prediction: Path, labels: Labels | None = None) -> Pair:
    """Two label maps as ids (Z, Y, X), and the grid that they share; see `seg.read_label`.

    Raises:
        SegError: a file cannot be read, or the grids differ (D01, D02, D03).
    """
    true, grid = read_label(truth, labels)
    predicted, found = read_label(prediction, labels)
    faults = [Record(code=code, found=is_, expected=should, file=str(prediction),
                     advice="Bring truth and prediction to the same grid.")
              for code, is_, should in differences(grid, found)]
    if faults:
        raise SegError(faults)
    return true, predicted, grid


def write_evaluation(result: Evaluation, folder: Path, stem: str = "metrics") -> None:
    """Write `<stem>.json`, all of it, and `<stem>.csv`, one row for each case and class; undefined values are empty."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*COLUMNS, *result.larger_is_better])
    for case in result.cases:
        for name, found in case.classes.items():
            further = [found.value(metric) for metric in result.larger_is_better]
            writer.writerow([case.case, name, found.dice, found.hd95_mm, found.nsd, found.truth_voxels,
                             found.predicted_voxels, *further])
    write_text(folder / f"{stem}.csv", table.getvalue())
    write_json(folder / f"{stem}.json", result)


def _pairs(truth: Path, prediction: Path, progress: Progress) -> dict[str, tuple[Path, Path]]:
    """Name → truth and prediction of every case in `prediction`."""
    for folder in (truth, prediction):
        if not folder.is_dir():
            raise SegError(Record(code="SEG-D40", found="no such folder", file=str(folder)))
    truths = {case_name(path): path for path in list_images(truth)}
    files = {case_name(path): path for path in list_images(prediction)}
    faults = [Record(code="SEG-D40", case=name, found="a prediction without a truth", file=str(path),
                     expected=f"a file {name} in {truth}") for name, path in files.items() if name not in truths]
    if not files:
        faults = [Record(code="SEG-D40", found="no label maps", file=str(prediction))]
    if faults:
        raise SegError(faults)
    if without := sorted(set(truths) - set(files)):
        named = ", ".join(without[:NAMED]) + (", …" if len(without) > NAMED else "")
        progress.say(str(Record(code="SEG-D40", severity="warning", file=str(truth), advice="They count nowhere.",
                                found=f"truths without a prediction: {len(without)} ({named})")))
    return {name: (truths[name], path) for name, path in files.items()}


def _compare(
    name: str, pair: Pair, labels: Labels | None, tolerance_mm: float, metrics: Mapping[str, Metric]
) -> CaseMetrics:
    true, predicted, grid = pair
    classes = labels or _found(true, predicted)
    found = case_metrics(true, predicted, classes, grid.spacing_zyx, tolerance_mm, name)
    return with_further(found, true, predicted, classes, grid.spacing_zyx, metrics)


def _found(*arrays: NDArray[Any]) -> Labels:
    """A class for each value that occurs, named by it."""
    values = sorted({int(value) for array in arrays for value in np.unique(array)} - {0})
    return Labels(values={"background": 0, **{str(value): value for value in values}})
