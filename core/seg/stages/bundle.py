"""Choose among what was trained, and write the model to hand on."""

from __future__ import annotations

from importlib.metadata import version

from torch import Tensor

from seg.kinds import Candidate
from seg.model import Member, ModelDescription, write_model
from seg.models import Evaluation
from seg.runfolder import RunFolder
from seg.stages.levels import level_weights
from seg.stages.train import Fold


def make_bundle(
    folds: list[Fold], evaluations: dict[str, Evaluation], levels: dict[str, str] | None = None
) -> ModelDescription:
    """Write the run's model: the configurations that the ensembler chooses by their validation, with all their folds.

    Args:
        folds: every trained fold of every configuration.
        evaluations: configuration → metrics over all its validated cases.
        levels: configuration → the level of its networks that is handed on; without one, the whole.
    """
    ensembler = folds[0].components.ensembler
    candidates = [Candidate(name=name, evaluation=result) for name, result in evaluations.items()]
    chosen = ensembler.select(candidates)
    kept = [fold for fold in folds if fold.configuration in chosen]
    description = describe_model(kept, chosen=chosen, evaluations=evaluations, levels=levels)
    weights: dict[str, dict[str, Tensor]] = {
        member.weights: level_weights(fold, description.levels.get(fold.configuration, ""))
        for member, fold in zip(description.members, kept, strict=True)}
    write_model(kept[0].folder.model, description, weights)
    return description


def describe_model(
    folds: list[Fold], *, chosen: tuple[str, ...], evaluations: dict[str, Evaluation] | None = None,
    levels: dict[str, str] | None = None,
) -> ModelDescription:  # fmt: skip
    """What a model of these folds says of itself."""
    first, levels = folds[0], levels or {}
    uses = first.components.uses
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
        components=tuple(uses.values()),
        orientations=_orientations(first.folder),
        levels={fold.configuration: levels[fold.configuration] for fold in folds if fold.configuration in levels},
        validation={name: result.mean for name, result in (evaluations or {}).items()},
        made_by=f"segplug {version('segplug')}",
    )


def _orientations(folder: RunFolder) -> dict[str, int]:
    return folder.fingerprint().orientations if (folder.path / "fingerprint.json").exists() else {}
