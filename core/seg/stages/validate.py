"""Predict the whole cases that a training did not see, and compare them with the truth on their own grid."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from seg.convert import from_data, load_json, to_data, write_json
from seg.device import choose_device
from seg.files import digest_file, digest_json
from seg.images import Geometry, read_label, write_label
from seg.levels import at_level
from seg.metrics import case_metrics, evaluation
from seg.model import Model, fitted, ready
from seg.models import Case, CaseMetrics, Evaluation
from seg.progress import Progress, Silent
from seg.restoring import restore_labels
from seg.splits import members
from seg.stages.evaluate import write_evaluation
from seg.stages.train import WEIGHTS, Fold, read_weights, weights_file
from seg.store import Store

LEDGER = "predictions.json"


@frozen(kw_only=True)
class Validated:
    """A case that is done: digests of what it came from and of the file that was written, and its metrics."""

    source: str
    file: str
    digest: str
    metrics: CaseMetrics


def validate_fold(fold: Fold, progress: Progress | None = None) -> Evaluation:
    """Metrics of the validation cases of a fold; predictions that are whole and current are kept.

    Raises:
        SegError: the fold is not trained, or a case cannot be read.
    """
    progress = progress or Silent()
    folder = fold.folder.validation(fold.configuration, fold.fold)
    cases = validation_cases(fold)
    source = validation_source(fold)
    ledger = _read_ledger(folder / LEDGER, source, folder)
    waiting = [case for case in cases if case.id not in ledger]
    progress.start(f"validate {fold.configuration} fold {fold.fold}", len(cases))
    progress.advance(len(cases) - len(waiting))
    if waiting:
        model = fold_model(fold)
        for case in waiting:
            ledger[case.id] = _one(case, fold, model, source)
            write_json(folder / LEDGER, {name: to_data(done) for name, done in ledger.items()})
            progress.advance()
    names = list(fold.plan.description.labels.foreground)
    result = evaluation([ledger[case.id].metrics for case in cases], names, fold.settings.metrics.tolerance_mm)
    write_evaluation(result, folder)
    return result


def validation_source(fold: Fold) -> str:
    """Digest of all that the metrics of a fold come from."""
    store = Store(fold.folder.cases(fold.configuration)).manifest
    return digest_json([digest_file(weights_file(fold)), to_data(fold.settings.predict.settled),
                        to_data(fold.settings.metrics), to_data(store)])


def validation_cases(fold: Fold) -> list[Case]:
    """The cases that the fold's training did not see (all of them for the fold `all`)."""
    dataset = fold.folder.dataset()
    _, chosen = members(fold.folder.splits(), fold.fold, [case.id for case in dataset.cases])
    return [case for case in dataset.cases if case.id in set(chosen)]


def fold_model(fold: Fold) -> Model:
    """A model of this fold alone, ready to predict, at the level that the settings name."""
    from seg.stages.bundle import describe_model

    device, options = choose_device(fold.settings.device), fold.settings.predict.settled
    architecture, topology = fold.components.architecture, fold.trained().topology
    network = fitted(architecture.build(topology), read_weights(fold), fold.path / WEIGHTS)
    network = ready(at_level(architecture, network, topology, options.prune), device)
    return Model(description=describe_model([fold], chosen=(fold.configuration,)), digest="", device=device,
                 options=options, ensembler=fold.components.ensembler,
                 networks={fold.configuration: [network]})


def _one(case: Case, fold: Fold, model: Model, source: str) -> Validated:
    """Predict one case from the store, write it, compare it."""
    stored = Store(fold.folder.cases(fold.configuration)).load(case.id)
    logits = model.logits(fold.configuration, stored.arrays.image.to(model.device))
    predicted = restore_labels(logits, stored.properties, fold.plan, fold.trained())
    if case.label is None:
        raise AssertionError(f"the case {case.id} passed the check without a label")
    labels = fold.plan.description.labels
    truth, geometry = read_label(case.label, labels)
    file = fold.folder.validation(fold.configuration, fold.fold) / prediction_name(case.id, geometry)
    write_label(file, predicted, geometry, labels)
    metrics = case_metrics(truth, predicted, labels, stored.properties.spacing,
                           fold.settings.metrics.tolerance_mm, case.id)
    return Validated(source=source, file=file.name, digest=digest_file(file), metrics=metrics)


def prediction_name(case: str, geometry: Geometry) -> str:
    """The name of a prediction: the case's, in the format of the file it belongs to, where that loses nothing."""
    return case + geometry.label_ending


def _read_ledger(file: Path, source: str, folder: Path) -> dict[str, Validated]:
    """Finished cases that came from `source` and whose files are as they were written."""
    if not file.exists():
        return {}
    found = {name: from_data(data, Validated, file=str(file)) for name, data in load_json(file).items()}
    return {name: done for name, done in found.items() if done.source == source
            and (folder / done.file).exists() and digest_file(folder / done.file) == done.digest}


