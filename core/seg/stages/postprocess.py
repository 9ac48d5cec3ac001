"""Learn what makes validated predictions better, and measure them after it.

Both are done on the same cases, as in nnU-Net: the gain that is measured is somewhat larger than that on new cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from seg.contracts import check_labels, check_steps
from seg.convert import load_json, to_data, write_json
from seg.files import digest_file, digest_json
from seg.further import directions, with_further
from seg.images import write_label
from seg.kinds import Metric, Postprocessor
from seg.metrics import case_metrics, evaluation
from seg.models import CaseMetrics, ComponentUse, Evaluation, Labels
from seg.progress import Progress, Silent
from seg.stages._ledger import Ledger
from seg.stages.evaluate import read_pair, write_evaluation

STEPS = "postprocessing.json"


@frozen(kw_only=True)
class PredictedCase:
    """A case with its truth and its prediction, as files, and the metrics of the prediction where they are known."""

    case: str
    truth: Path
    prediction: Path
    metrics: CaseMetrics | None = None


@frozen(kw_only=True)
class Postprocessing:
    """The chosen post-processor, the record of its use, and the classes that it works on.

    Its results are compared with the truth by `metrics` too; `measured_by` says of them all that a digest needs.
    """

    postprocessor: Postprocessor
    use: ComponentUse
    labels: Labels
    tolerance_mm: float = 1.0
    metrics: dict[str, Metric] = field(factory=dict)
    measured_by: dict[str, Any] = field(factory=dict)

    def source(self, cases: Sequence[PredictedCase], *more: Any) -> str:
        """Digest of all that a result comes from: the component, the classes, the files of `cases`, and `more`."""
        files = [[case.case, digest_file(case.truth), digest_file(case.prediction)] for case in cases]
        return digest_json([to_data(self.use), to_data(self.labels), files, *more])


def learn_steps(
    cases: Sequence[PredictedCase], how: Postprocessing, folder: Path, progress: Progress | None = None
) -> tuple[str, ...]:
    """The steps that help on `cases`, for `ModelDescription.postprocessing`.

    One case is read at a time. What was learnt stands in `folder`, and is kept while it comes from the same files.

    Raises:
        SegError: a file cannot be read, or the grids of truth and prediction differ.
    """
    progress = progress or Silent()
    file, source = folder / STEPS, how.source(cases)
    stored = load_json(file) if file.exists() else {}
    if stored.get("source") == source:
        return tuple(stored["steps"])
    progress.start("learn post-processing", len(cases))
    learnt = how.postprocessor.learn([_reader(case, how.labels, progress) for case in cases], how.labels)
    steps = check_steps(learnt, how.use)
    write_json(file, {"source": source, "steps": steps})
    return steps


def evaluate_steps(
    cases: Sequence[PredictedCase],
    how: Postprocessing,
    steps: tuple[str, ...],
    folder: Path,
    progress: Progress | None = None,
) -> Evaluation:
    """Metrics of `cases` after `steps`; the label maps go to `folder` under the names of the predictions.

    Files that are whole and current are kept. A case that the steps do not change keeps the metrics it came with, which
    must be those that `how` asks for.

    Raises:
        SegError: a file cannot be read or written, or the grids of truth and prediction differ.
    """
    progress = progress or Silent()
    ledger = Ledger(folder, {case.case: how.source([case], steps, how.tolerance_mm, how.measured_by) for case in cases})
    progress.start("post-processing", len(cases))
    for case in cases:
        if case.case not in ledger:
            file, metrics = _one(case, how, steps, folder)
            ledger.add(metrics, [file])
        progress.advance()
    metrics_of_all = ledger.metrics(case.case for case in cases)
    result = evaluation(metrics_of_all, list(how.labels.foreground), how.tolerance_mm, directions(how.metrics))
    write_evaluation(result, folder)
    return result


def _one(
    case: PredictedCase, how: Postprocessing, steps: tuple[str, ...], folder: Path
) -> tuple[Path, CaseMetrics]:
    """Do the steps to one case, write it, compare it."""
    truth, predicted, grid = read_pair(case.truth, case.prediction, how.labels)
    found = check_labels(how.postprocessor.apply(predicted, how.labels, steps), predicted, how.use)
    file = folder / case.prediction.name
    write_label(file, found, grid, how.labels)
    if case.metrics is not None and np.array_equal(found, predicted):
        return file, case.metrics
    measured = case_metrics(truth, found, how.labels, grid.spacing_zyx, how.tolerance_mm, case.case)
    return file, with_further(measured, truth, found, how.labels, grid.spacing_zyx, how.metrics)


def _reader(
    case: PredictedCase, labels: Labels, progress: Progress
) -> Callable[[], tuple[NDArray[Any], NDArray[Any]]]:
    """Reads truth and prediction; `progress` advances at the first time."""
    told = False

    def read() -> tuple[NDArray[Any], NDArray[Any]]:
        nonlocal told
        truth, predicted, _ = read_pair(case.truth, case.prediction, labels)
        if not told:
            progress.advance()
            told = True
        return truth, predicted

    return read
