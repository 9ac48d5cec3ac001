"""A run on disk: where everything lies, and the components and settings it was made with."""

from __future__ import annotations

import platform
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from seg.choice import PluginChoice
from seg.convert import load_json, read_json, write_json
from seg.errors import Exit, Record, SegError
from seg.files import turn
from seg.further import refuse_unknown_metric, resolve_metrics
from seg.kinds import Architecture, Augmenter, Ensembler, Fingerprinter, Metric, Planner, Postprocessor, Sampler
from seg.models import ComponentUse, Dataset, Fingerprint, Plan
from seg.normalisation import Normalisers
from seg.registry import Registry
from seg.settings import Settings, differences, read_settings, write_settings
from seg.training_kinds import Executor, Loss, Recipe


@frozen(kw_only=True)
class Components:
    """The chosen component of each kind, and the record of each use.

    `uses` goes by kind; normalisers and metrics, of which there may be several, go by kind and name. `choice` is that
    of the plugins which they are of, for other processes that work for this one.
    """

    fingerprinter: Fingerprinter
    planner: Planner
    architecture: Architecture
    augmenter: Augmenter
    sampler: Sampler
    ensembler: Ensembler
    postprocessor: Postprocessor
    loss: Loss
    recipe: Recipe
    executor: Executor
    metrics: dict[str, Metric] = field(factory=dict)
    normalisers: Normalisers = field(factory=Normalisers)
    uses: dict[str, ComponentUse]
    choice: PluginChoice = field(factory=PluginChoice)

    @classmethod
    def resolve(cls, settings: Settings, registry: Registry) -> Components:
        """Build every component that `settings` names; all mistakes are found before any work begins.

        Raises:
            SegError: unknown names or options (exit 2), plugins that are broken or clash (exit 6).
        """
        built: dict[str, Any] = {}
        uses: dict[str, ComponentUse] = {}
        names = {kind: getattr(settings, kind) for kind in
                 ("planner", "fingerprinter", "architecture", "augmenter", "sampler", "ensembler", "postprocessor",
                  "loss", "executor")}
        for kind, name in {**names, "recipe": settings.chosen_recipe}.items():
            chosen = name or built["planner"].default_architecture
            built[kind], uses[kind] = registry.build(kind, chosen, settings.of(kind))
        metrics, more = resolve_metrics(settings.metrics.also, registry)
        uses |= {f"metric {name}": use for name, use in more.items()}
        refuse_unknown_metric(built["ensembler"], metrics)
        return cls(**built, metrics=metrics, uses=uses, choice=registry.choice)

    def with_normalisers(self, plan: Plan, registry: Registry) -> Components:
        """The same, with the normalisers that a plan names.

        Raises:
            SegError: unknown names (exit 2), plugins that are broken or clash (exit 6).
        """
        found = Normalisers.resolve(plan.configurations.values(), registry)
        uses = {f"normaliser {name}": use for name, use in found.uses.items()}
        return evolve(self, normalisers=found, uses={**self.uses, **uses})

    @classmethod
    def check(cls, settings: Settings, registry: Registry) -> None:
        """Raise what `resolve` would, as far as that is known before the length of the training is.

        The length is chosen for the device, which takes torch to know, and the recipe for the length.
        """
        known = settings.recipe or settings.epochs or settings.budget_s
        refusals = []
        for recipe in (settings.chosen_recipe,) if known else ("nnunet", "budget"):
            try:
                cls.resolve(evolve(settings, recipe=recipe), registry)
            except SegError as error:
                refusals.append(error)
            else:
                return
        raise refusals[0]


@frozen
class RunFolder:
    """The folder of one run; reads like a lab book."""

    path: Path

    @property
    def model(self) -> Path:
        """The bundle to hand on."""
        return self.path / "model"

    @property
    def log(self) -> Path:
        """Everything that was said."""
        return self.path / "log.txt"

    def cases(self, configuration: str) -> Path:
        """The case store of a configuration."""
        return self.path / "cases" / configuration

    def training(self, configuration: str, fold: str) -> Path:
        """Weights, states and curves of one training."""
        return self.path / "training" / configuration / f"fold_{fold}"

    def validation(self, configuration: str, fold: str) -> Path:
        """Predictions and metrics of the cases that a training did not see."""
        return self.path / "validation" / configuration / f"fold_{fold}"

    def dataset(self) -> Dataset:
        """The data set as it was found."""
        return read_json(self._there("dataset.json"), Dataset)

    def fingerprint(self) -> Fingerprint:
        """What the planner knew."""
        return read_json(self._there("fingerprint.json"), Fingerprint)

    def plan(self) -> Plan:
        """What the planner decided."""
        return read_json(self._there("plan.json"), Plan)

    def settings(self) -> Settings:
        """The settings as resolved."""
        return read_settings(self._there("run.toml"), [], {})

    def splits(self) -> list[dict[str, list[str]]]:
        """Case ids of `train` and `val`, fold by fold."""
        found: list[dict[str, list[str]]] = load_json(self._there("splits.json"))
        return found

    def keep_settings(self, settings: Settings, components: Components) -> None:
        """Write `run.toml`, unless the folder was made with settings that differ in what matters.

        Before there is a plan, nothing was made: a refused start may be repeated with other settings.

        Raises:
            SegError: they differ; the record says in what (exit 2).
        """
        file = self.path / "run.toml"
        if file.exists() and (self.path / "plan.json").exists():
            changed = differences(self.settings(), settings)
            if changed:
                raise SegError([Record(code="SEG-C07", found=f"this run folder was made with other settings: {change}",
                                       file=str(self.path), advice="Choose another folder with -o, or delete this one.")
                                for change in changed], Exit.USAGE)
        uses = {kind: {"name": use.name, "from": f"{use.distribution} {use.version}",
                       "options": _without_none(use.options)} for kind, use in components.uses.items()}
        write_settings(file, settings, {"components": uses, "versions": versions()})

    def add_time(self, stage: str, seconds: float) -> None:
        """Note what a stage took; starts add up. Several processes may do so."""
        file = self.path / "timings.json"
        training = self.path / "training"  # nobody else is at work before it is there
        with turn(training) if training.exists() else nullcontext():
            times = load_json(file) if file.exists() else {}
            times[stage] = round(times.get(stage, 0.0) + seconds, 2)
            write_json(file, times)

    def _there(self, name: str) -> Path:
        file = self.path / name
        if not file.is_file():
            raise SegError(Record(code="SEG-C08", found=f"no {name} in {self.path}", expected="a run folder",
                                  file=str(file), advice="Make one with `seg run`."), Exit.USAGE)
        return file


def _without_none(options: dict[str, Any]) -> dict[str, Any]:
    """`options` as TOML can say them, which has no word for None."""
    return {name: _without_none(value) if isinstance(value, dict) else value
            for name, value in options.items() if value is not None}


def versions() -> dict[str, str]:
    """Versions of what decides results."""
    found = {"python": platform.python_version()}
    for name in ("segplug", "torch", "numpy", "scipy", "SimpleITK", "h5py"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "?"
    return found
