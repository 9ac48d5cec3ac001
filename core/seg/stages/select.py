"""Choose among the configurations that were trained, and the pairs of them, by their validation; post-process that.

As nnU-Net does it: every pair is an ensemble of probabilities over the cases that both predicted in cross-validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor

from seg.arrays import load_array
from seg.bootstrap import PairedDifference, paired_difference
from seg.contracts import blamed, check_map, check_selection, labelled
from seg.convert import to_data, write_json
from seg.files import digest_json
from seg.further import directions
from seg.kinds import Candidate
from seg.metrics import evaluation
from seg.models import Case, Evaluation
from seg.progress import Progress
from seg.restoring import labels_from_probabilities, restore_probabilities
from seg.stages._ledger import Ledger, entries
from seg.stages.evaluate import write_evaluation
from seg.stages.postprocess import Postprocessing, PredictedCase, evaluate_steps, learn_steps
from seg.stages.train import Fold
from seg.stages.validate import LOGITS, compared, measured_by, validation_cases

Folds = Mapping[str, list[Fold]]  # configuration → its trained folds
FILE = "selection.json"
JOIN = "+"  # of the names of configurations that are combined
MODEL = "model"  # what the bundle predicts, post-processed


@frozen(kw_only=True)
class Selection:
    """What was chosen, and why.

    `candidates` has the mean metrics of every candidate (`a+b` is an ensemble), `differences` how far the chosen one is
    above each other in `metric`. `postprocessing` are the steps that helped it, `result` its mean metrics after them.
    """

    chosen: tuple[str, ...]
    metric: str
    candidates: dict[str, dict[str, float | None]]
    differences: dict[str, PairedDifference]
    postprocessing: tuple[str, ...]
    result: dict[str, float | None]

    @property
    def name(self) -> str:
        """The chosen candidate."""
        return JOIN.join(self.chosen)


def select(folds: Folds, evaluations: dict[str, Evaluation], progress: Progress) -> Selection:
    """The ensembler's choice among what the user asked for, post-processed; ensembles are added to `evaluations`."""
    first = next(iter(folds.values()))[0]
    names = [name for name in folds if name in first.settings.configurations]
    for pair in combinations(names, 2):
        evaluations[JOIN.join(pair)] = _ensemble(pair, folds, progress)
    offered = [*names, *(name for name in evaluations if JOIN in name)]
    ensembler = first.components.ensembler
    use = first.components.uses["ensembler"]
    with blamed(use, "select"):
        answer = ensembler.select([Candidate(name=name, evaluation=evaluations[name]) for name in offered])
    chosen = check_selection(answer, names, use)
    winner, metric = JOIN.join(chosen), getattr(ensembler, "metric", "dice")
    if winner not in evaluations:  # three or more
        evaluations[winner] = _ensemble(chosen, folds, progress)
        offered.append(winner)
    steps, after = _postprocessed(_predictions(chosen, folds), first, evaluations[winner], progress)
    found = Selection(
        chosen=chosen, metric=metric, candidates={name: evaluations[name].mean for name in offered},
        differences={name: paired_difference(evaluations[winner], evaluations[name], metric) for name in offered
                     if name != winner},
        postprocessing=steps, result=after.mean)
    write_json(first.folder.path / "validation" / FILE, found)
    return found


def _postprocessed(
    cases: list[PredictedCase], fold: Fold, before: Evaluation, progress: Progress
) -> tuple[tuple[str, ...], Evaluation]:
    """The steps that help the chosen predictions, and their metrics after them, written to `validation/model`."""
    folder, components = fold.folder.path / "validation" / MODEL, fold.components
    how = Postprocessing(postprocessor=components.postprocessor, use=components.uses["postprocessor"],
                         labels=fold.plan.description.labels, tolerance_mm=fold.settings.metrics.tolerance_mm,
                         metrics=components.metrics, measured_by=measured_by(fold))
    steps = learn_steps(cases, how, folder, progress)
    if steps:
        return steps, evaluate_steps(cases, how, steps, folder, progress)
    write_evaluation(before, folder)
    return (), before


def _predictions(chosen: tuple[str, ...], folds: Folds) -> list[PredictedCase]:
    """The validated predictions of the chosen configuration, or of the ensemble of the chosen ones."""
    mine = [fold for fold in folds[chosen[0]] if fold.fold in fold.settings.folds]
    root = mine[0].folder.path / "validation"
    found: list[PredictedCase] = []
    for fold in mine:
        folder = root / JOIN.join(chosen) / ("" if len(chosen) > 1 else f"fold_{fold.fold}")
        done = entries(folder)
        found += [PredictedCase(case=case.id, truth=case.label, metrics=done[case.id].metrics,
                                prediction=folder / next(iter(done[case.id].files)))
                  for case in validation_cases(fold) if case.label is not None]
    return found


def _ensemble(names: tuple[str, ...], folds: Folds, progress: Progress) -> Evaluation:
    """Validation of the ensemble of configurations, fold by fold, from the logits that each kept."""
    first = folds[names[0]][0]
    folder = first.folder.path / "validation" / JOIN.join(names)
    teams = [tuple(_fold(folds[name], fold) for name in names) for fold in first.settings.folds]
    files = [entry.files for team in teams for fold in team
             for entry in entries(fold.folder.validation(fold.configuration, fold.fold)).values()]
    source = digest_json([to_data(first.components.uses["ensembler"]), measured_by(first), files])
    work = [(case, team) for team in teams for case in validation_cases(team[0])]
    ledger = Ledger(folder, {case.id: source for case, _ in work})
    progress.start(f"validate {JOIN.join(names)}", len(work))
    for case, team in work:
        if case.id not in ledger:
            measured, file = compared(case, _combined(case, team), folder, first)
            ledger.add(measured, [file])
        progress.advance()
    metrics = ledger.metrics(case.id for case, _ in work)
    found = evaluation(metrics, list(first.plan.description.labels.foreground), first.settings.metrics.tolerance_mm,
                       directions(first.components.metrics))
    write_evaluation(found, folder)
    return found


def _fold(folds: list[Fold], name: str) -> Fold:
    return next(fold for fold in folds if fold.fold == name)


def _combined(case: Case, team: tuple[Fold, ...]) -> NDArray[np.integer]:
    """Ids (Z, Y, X) of a case by the ensemble of folds, each of another configuration."""
    components, labels = team[0].components, team[0].plan.description.labels
    use = components.uses["ensembler"]
    ensembler = labelled(components.ensembler, labels, use)
    found = ensembler.combine_configurations(_probabilities(case, team))
    return labels_from_probabilities(check_map(found, None, use, "combine_configurations"), labels)


def _probabilities(case: Case, folds: tuple[Fold, ...]) -> Iterator[Tensor]:
    for fold in folds:
        file = fold.folder.validation(fold.configuration, fold.fold) / LOGITS / f"{case.id}.h5"
        with fold.store.open(case.id) as stored:
            properties = stored.properties
        yield torch.from_numpy(restore_probabilities(load_array(file), properties, fold.plan, fold.trained()))
