"""Measure the smaller networks that a trained one contains, choose among them, and cut them out for the model."""

from __future__ import annotations

import time
from statistics import median

import attrs
import torch
from torch import Tensor

from seg.convert import read_json, write_json
from seg.device import choose_devices, describe_device
from seg.files import digest_json
from seg.footprint import Footprint, footprint
from seg.further import directions
from seg.kinds import Architecture
from seg.levels import (
    FILE,
    FoldLevels,
    Level,
    at_level,
    levels_within,
    require_level,
    smallest_sufficient,
    together,
)
from seg.metrics import evaluation
from seg.model import Model, fitted, make_window
from seg.models import Case, CaseMetrics, Plan
from seg.progress import Progress, Silent
from seg.restoring import restore_labels
from seg.room import Maps
from seg.settings import AUTO, Settings
from seg.stages.cascade import Handed, previous_predictions
from seg.stages.train import WEIGHTS, Fold, read_weights
from seg.stages.validate import fold_model, measured, stored_input, validation_cases, validation_source


def validate_levels(fold: Fold, progress: Progress | None = None) -> FoldLevels:
    """Metrics, time and memory of every level of a fold's network on its validation cases.

    Written to `levels.json` beside the fold's metrics; predictions are not. What is there and current is kept.

    Raises:
        SegError: the architecture has no levels, or the fold is not trained (exit 2); a case cannot be read.
    """
    require_level(fold.components.architecture, fold.trained().topology, AUTO)
    file = fold.folder.validation(fold.configuration, fold.fold) / FILE
    whole, device = _at(fold, ""), describe_device(choose_devices(fold.settings.device)[0])
    source = digest_json([validation_source(whole), device])
    if file.exists() and (found := read_json(file, FoldLevels)).source == source:
        return found
    found = FoldLevels(source=source, device=device, levels=_measure(whole, progress or Silent()))
    write_json(file, found)
    return found


def at_chosen_level(folds: list[Fold], progress: Progress) -> list[Fold]:
    """The trained folds of a configuration, set to the level that `predict.prune` asks for.

    With `auto` it is the smallest one that is as good as the best over the cases of all folds, within
    `predict.prune_tolerance`; validation is then made with it. Otherwise the folds stay as they are.
    """
    options, name = folds[0].settings.predict, folds[0].configuration
    if options.prune != AUTO:
        return folds
    found = together([validate_levels(fold, progress) for fold in folds])
    chosen = smallest_sufficient(found, options.prune_tolerance)
    scores = ", ".join(f"{level.name} {level.dice[0] or 0.0:.4f}" for level in found)
    progress.say(f"{name}: the model gets level {chosen.name} (mean Dice {scores})")
    return [_at(fold, chosen.name) for fold in folds]


def refuse_unknown_levels(plan: Plan, settings: Settings, architecture: Architecture) -> None:
    """Refuse a level that a planned network will not have, before anything is trained.

    Raises:
        SegError: the record names those there are (exit 2).
    """
    for name in settings.configurations:
        require_level(architecture, plan.configurations[name].topology, settings.predict.prune)


def level_weights(fold: Fold, level: str) -> dict[str, Tensor]:
    """The trained weights of one level of a fold's network; of the whole where `level` is empty.

    Raises:
        SegError: there is no such level, or the fold is not trained (exit 2).
    """
    weights = read_weights(fold)
    if not level:
        return weights
    architecture, topology = fold.components.architecture, fold.trained().topology
    network = fitted(architecture.build(topology), weights, fold.path / WEIGHTS)
    return dict(at_level(architecture, network, topology, level).state_dict())


def _at(fold: Fold, level: str) -> Fold:
    """The fold with `predict.prune` at a level."""
    settings = fold.settings
    return attrs.evolve(fold, settings=attrs.evolve(settings, predict=attrs.evolve(settings.predict, prune=level)))


def _measure(fold: Fold, progress: Progress) -> tuple[Level, ...]:
    """Every level on every case. Each sees the first case twice: once to warm up."""
    models, cases, previous = _models(fold), validation_cases(fold), previous_predictions(fold)
    names, tolerance = list(fold.plan.description.labels.foreground), fold.settings.metrics.tolerance_mm
    further = directions(fold.components.metrics)
    metrics: dict[str, list[CaseMetrics]] = {name: [] for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    progress.start(f"levels of {fold.configuration} fold {fold.fold}", len(cases) + 1)
    for case in (*cases[:1], *cases):
        for name, (found, spent) in _case(case, fold, models, previous.get(case.id)).items():
            metrics[name].append(found)
            seconds[name].append(spent)
        progress.advance()
    return tuple(
        Level(name=name, evaluation=evaluation(metrics[name][1:], names, tolerance, further),
              seconds=median(seconds[name][1:] or [0.0]), **attrs.asdict(_footprint(fold, model)))
        for name, model in models.items()
    )


def _footprint(fold: Fold, model: Model) -> Footprint:
    """What the one network of `model` takes for one batch of tiles."""
    configuration, ((network,),) = fold.trained(), model.networks.values()
    batch = make_window(configuration, model.options).batch
    tiles = torch.zeros(batch, configuration.topology.in_channels, *configuration.patch, device=model.device)
    return footprint(network, tiles, model.options.autocast)


def _models(fold: Fold) -> dict[str, Model]:
    """A model for each level; all share their weights."""
    whole, name = fold_model(fold), fold.configuration
    architecture, topology = fold.components.architecture, fold.trained().topology
    (network,) = whole.networks[name]
    return {level: attrs.evolve(whole, networks={name: [at_level(architecture, network, topology, level)]})
            for level in levels_within(architecture, topology)}


def _case(
    case: Case, fold: Fold, models: dict[str, Model], previous: Handed | None
) -> dict[str, tuple[CaseMetrics, float]]:
    """Metrics of a case, and seconds of its sliding window, for each level."""
    stored, image = stored_input(case.id, fold, previous)
    found = {}
    for name, model in models.items():
        logits, seconds = _timed(model, fold.configuration, image.to(model.device))
        predicted = restore_labels(logits, stored.properties, fold.plan, fold.trained())
        found[name] = measured(case, predicted, fold)[0], seconds
    return found


def _timed(model: Model, configuration: str, image: Tensor) -> tuple[Maps, float]:
    """Logits of a prepared image that is on the device already, and the seconds they took."""
    _wait(model.device)
    started = time.perf_counter()
    logits = model.logits(configuration, image)
    _wait(model.device)
    return logits, time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
