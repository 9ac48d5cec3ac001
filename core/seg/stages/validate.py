"""Predict the whole cases that a training did not see, and compare them with the truth on their own grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seg.arrays import write_array, write_maps
from seg.aside import read_within
from seg.convert import to_data
from seg.device import choose_devices
from seg.events import ValidationDone
from seg.files import digest_file, digest_json
from seg.further import directions, with_further
from seg.images import Geometry, read_label, turn_of, write_label
from seg.levels import at_level
from seg.metrics import case_metrics, evaluation
from seg.model import Model, fitted, ready
from seg.models import Case, CaseMetrics, Evaluation
from seg.patches import with_previous
from seg.progress import Progress, Silent
from seg.restoring import labels_for_next_stage, restore_labels
from seg.splits import members
from seg.stages._ledger import Ledger
from seg.stages.cascade import NEXT_STAGE, Handed, previous_predictions
from seg.stages.evaluate import write_evaluation
from seg.stages.train import WEIGHTS, Fold, read_weights, weights_file
from seg.store import StoredCase

LOGITS = "logits"


def validate_fold(fold: Fold, progress: Progress | None = None) -> Evaluation:
    """Metrics of the validation cases of a fold; predictions that are whole and current are kept.

    Beside the label maps lie, where a later stage needs them, the logits (`logits/`) and what the next stage of a
    cascade is given (`next_stage/`).

    Raises:
        SegError: the fold is not trained, or a case cannot be read.
    """
    progress = progress or Silent()
    folder = fold.folder.validation(fold.configuration, fold.fold)
    cases = validation_cases(fold)
    previous = previous_predictions(fold)
    ledger = Ledger(folder, _sources(fold, cases, previous))
    waiting = [case for case in cases if case.id not in ledger]
    if waiting:  # a run asks twice: where the fold is trained, and for the metrics of all folds
        progress.start(f"validate {fold.configuration} fold {fold.fold}", len(cases))
        progress.advance(len(cases) - len(waiting))
        model = fold_model(fold)
        for case in waiting:
            ledger.add(*_one(case, fold, model, previous.get(case.id)))
            progress.advance()
    names = list(fold.plan.description.labels.foreground)
    metrics = ledger.metrics(case.id for case in cases)
    result = evaluation(metrics, names, fold.settings.metrics.tolerance_mm, directions(fold.components.metrics))
    fresh = bool(waiting) or not (folder / "metrics.json").exists()
    write_evaluation(result, folder)
    if fresh:
        for told in result.failed:
            progress.say(told)
        progress.tell(ValidationDone(folder=folder, configuration=fold.configuration, fold=fold.fold,
                                     evaluation=result))
    return result


def validation_source(fold: Fold) -> str:
    """Digest of all that the metrics of a fold come from."""
    return digest_json([digest_file(weights_file(fold)), to_data(fold.settings.predict.deciding), measured_by(fold),
                        to_data(fold.store.manifest),
                        {case: handed.digest for case, handed in previous_predictions(fold).items()}])


def measured_by(fold: Fold) -> dict[str, Any]:
    """All that decides how predictions are compared with the truth, as a digest takes it."""
    further = {name: to_data(fold.components.uses[f"metric {name}"]) for name in fold.components.metrics}
    return {"tolerance_mm": fold.settings.metrics.tolerance_mm, **({"also": further} if further else {})}


def validation_cases(fold: Fold) -> list[Case]:
    """The cases that the fold's training did not see (all of them for the fold `full`)."""
    dataset = fold.folder.dataset()
    _, chosen = members(fold.folder.splits(), fold.fold, [case.id for case in dataset.cases])
    return [case for case in dataset.cases if case.id in set(chosen)]


def fold_model(fold: Fold) -> Model:
    """A model of this fold alone, ready to predict, at the level that the settings name."""
    from seg.stages.bundle import describe_model

    device, options = choose_devices(fold.settings.device)[0], fold.settings.predict.settled
    architecture, topology = fold.components.architecture, fold.trained().topology
    network = fitted(architecture.build(topology), read_weights(fold), fold.path / WEIGHTS)
    network = ready(at_level(architecture, network, topology, options.prune), device)
    return Model(description=describe_model([fold], chosen=(fold.configuration,)), digest="", device=device,
                 options=options, ensembler=fold.components.ensembler,
                 networks={fold.configuration: [network]}, normalisers=fold.components.normalisers)


def compared(case: Case, predicted: NDArray[np.integer], folder: Path, fold: Fold) -> tuple[CaseMetrics, Path]:
    """Write ids (Z, Y, X) of a case into `folder`, on the grid of its label map, and compare them with that.

    `predicted` lies as the training's images do (`Description.orientation`), the file as the case's own.
    """
    metrics, own, geometry = measured(case, predicted, fold)
    file = folder / prediction_name(case.id, geometry)
    write_label(file, own, geometry, fold.plan.description.labels)
    return metrics, file


def measured(
    case: Case, predicted: NDArray[np.integer], fold: Fold
) -> tuple[CaseMetrics, NDArray[np.integer], Geometry]:
    """Metrics of ids (Z, Y, X) that lie as the training's images do; then as the case lies, and the case's grid."""
    if case.label is None:
        raise AssertionError(f"the case {case.id} passed the check without a label")
    labels, tolerance = fold.plan.description.labels, fold.settings.metrics.tolerance_mm
    truth, geometry = read_label(case.label, labels)
    own = turn_of(case.images[0], fold.plan.description.orientation).back(predicted)
    found = case_metrics(truth, own, labels, geometry.spacing_zyx, tolerance, case.id)
    further = with_further(found, truth, own, labels, geometry.spacing_zyx, fold.components.metrics)
    return further, own, geometry


def stored_input(case: str, fold: Fold, previous: Handed | None) -> tuple[StoredCase, Tensor]:
    """A case out of the store, and what the network is given of it: float32 (C, Z, Y, X).

    Raises:
        SegError: its file is damaged (exit 3), or the disk does not give it in time (exit 5).
    """
    def read() -> tuple[StoredCase, Tensor | None]:
        return fold.store.load(case), None if previous is None else previous.load()

    stored, before = read_within(fold.settings.train.stall_s, fold.store.path(case), read)
    return stored, with_previous(stored.arrays.image, before, fold.trained().topology.in_channels)


def prediction_name(case: str, geometry: Geometry) -> str:
    """The name of a prediction: the case's, in the format of the file it belongs to, where that loses nothing."""
    return case + geometry.label_ending


def _sources(fold: Fold, cases: list[Case], previous: Mapping[str, Handed]) -> dict[str, str]:
    """Digest of all that the prediction of each case comes from, and of what is kept of it."""
    shared = digest_json([digest_file(weights_file(fold)), to_data(fold.settings.predict.deciding),
                          measured_by(fold), to_data(fold.store.manifest), fold.keeps_logits])
    return {case.id: digest_json([shared, previous[case.id].digest if previous else ""]) for case in cases}


def _one(case: Case, fold: Fold, model: Model, previous: Handed | None) -> tuple[CaseMetrics, list[Path]]:
    """Predict one case from the store, write it, compare it."""
    folder = fold.folder.validation(fold.configuration, fold.fold)
    configuration, plan = fold.trained(), fold.plan
    stored, image = stored_input(case.id, fold, previous)
    logits = model.logits(fold.configuration, image.to(model.device))
    predicted = restore_labels(logits, stored.properties, plan, configuration)
    metrics, file = compared(case, predicted, folder, fold)
    files = [file]
    if following := plan.configurations.get(configuration.next_stage or ""):
        handed_on = labels_for_next_stage(logits, stored.properties, plan, configuration, following)
        files.append(folder / NEXT_STAGE / f"{case.id}.h5")
        write_array(files[-1], handed_on, following.patch3)
    if fold.keeps_logits:
        files.append(folder / LOGITS / f"{case.id}.h5")
        write_maps(files[-1], logits, configuration.patch3)
    return metrics, files
