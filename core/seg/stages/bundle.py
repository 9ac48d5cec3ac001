"""Write the model to hand on."""

from __future__ import annotations

from importlib.metadata import version

import attrs
from torch import Tensor

from seg.cascades import with_previous_stages
from seg.model_files import Member, ModelDescription, write_model
from seg.models import Evaluation
from seg.runfolder import RunFolder
from seg.stages.levels import level_weights
from seg.stages.select import Folds, Selection
from seg.stages.train import Fold


def make_bundle(folds: Folds, selection: Selection, evaluations: dict[str, Evaluation]) -> ModelDescription:
    """Write the run's model: the configurations that were chosen, the stages before them, with all their folds.

    Args:
        folds: every trained fold of every configuration.
        selection: what was chosen.
        evaluations: configuration → metrics over all its validated cases.
    """
    first = next(iter(folds.values()))[0]
    needed = with_previous_stages(selection.chosen, first.plan.configurations)
    kept = [fold for name, mine in folds.items() if name in needed for fold in mine]
    description = attrs.evolve(describe_model(kept, chosen=selection.chosen, evaluations=evaluations),
                               postprocessing=selection.postprocessing, postprocessed=selection.result)
    weights: dict[str, dict[str, Tensor]] = {
        member.weights: level_weights(fold, fold.settings.predict.prune)
        for member, fold in zip(description.members, kept, strict=True)}
    write_model(first.folder.model, description, weights)
    return description


def describe_model(
    folds: list[Fold], *, chosen: tuple[str, ...], evaluations: dict[str, Evaluation] | None = None
) -> ModelDescription:
    """What a model of these folds says of itself."""
    first = folds[0]
    uses = {**first.components.uses, **first.made_with()}
    components = list(uses.values())
    for fold in folds:  # of which some may be from before a plugin was upgraded
        components += [use for use in fold.made_with().values() if use not in components]
    members = [Member(configuration=fold.configuration, fold=fold.fold,
                      weights=f"weights/{fold.configuration}_fold_{fold.fold}.safetensors") for fold in folds]
    return ModelDescription(
        plan=first.plan,
        configurations={fold.configuration: fold.trained() for fold in folds},
        reductions={fold.configuration: fold.reasons() for fold in folds if fold.reasons()},
        members=tuple(members),
        chosen=chosen,
        architecture=uses["architecture"],
        ensembler=uses["ensembler"],
        postprocessor=uses["postprocessor"],
        components=tuple(components),
        orientations=_orientations(first.folder),
        levels={fold.configuration: level for fold in folds if (level := fold.settings.predict.prune)},
        validation={name: result.mean for name, result in (evaluations or {}).items()},
        made_by=f"segplug {version('segplug')}",
    )


def _orientations(folder: RunFolder) -> dict[str, int]:
    return folder.fingerprint().orientations if (folder.path / "fingerprint.json").exists() else {}
