"""Every hook there is. A plugin is a light module with some of these, named by an entry point in the group `seg`.

The first ones offer: each yields `Offer(name, "module:Class", summary)`. The module of the hooks is imported at
discovery and must not import torch; the class is imported when somebody chooses it.

The others are called while a run goes on, in the order below, one at a time. They take whichever of the arguments they
name. One that fails is said and otherwise ignored, so that no logger stops a training; only `seg_plan_made`, on which
results depend, stops the run (see `seg.listening`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
from attrs import frozen

if TYPE_CHECKING:
    from seg.models import Evaluation, Plan
    from seg.settings import Settings

GROUP = "seg"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@frozen
class Offer:
    """A component that a plugin brings: its name, where its class is ("module:Class"), one line about it."""

    name: str
    target: str
    summary: str = ""


@frozen
class Section:
    """A section that a plugin adds to the report: its title, and HTML that needs no network."""

    title: str
    html: str


# What a plugin offers


@hookspec
def seg_layouts() -> Iterable[Offer]:
    """Offer ways to read a folder as a data set (`seg.Layout`)."""
    return ()


@hookspec
def seg_fingerprinters() -> Iterable[Offer]:
    """Offer fingerprinters (`seg.Fingerprinter`): from a data set to what a planner may know."""
    return ()


@hookspec
def seg_planners() -> Iterable[Offer]:
    """Offer planners (`seg.Planner`): from a fingerprint to a plan."""
    return ()


@hookspec
def seg_architectures() -> Iterable[Offer]:
    """Offer networks (`seg.Architecture`): from a topology to a torch module."""
    return ()


@hookspec
def seg_augmenters() -> Iterable[Offer]:
    """Offer augmenters (`seg.Augmenter`): from cases and positions to batches."""
    return ()


@hookspec
def seg_samplers() -> Iterable[Offer]:
    """Offer samplers (`seg.Sampler`): where the next batch is cut from."""
    return ()


@hookspec
def seg_ensemblers() -> Iterable[Offer]:
    """Offer ensemblers (`seg.Ensembler`): which models to combine, and how."""
    return ()


@hookspec
def seg_postprocessors() -> Iterable[Offer]:
    """Offer post-processors (`seg.Postprocessor`): what is done to predicted label maps, as learnt from validation."""
    return ()


@hookspec
def seg_losses() -> Iterable[Offer]:
    """Offer losses (`seg.Loss`): what a network is trained to make small."""
    return ()


@hookspec
def seg_recipes() -> Iterable[Offer]:
    """Offer recipes (`seg.Recipe`): optimiser, learning rate over time, averaging of weights."""
    return ()


@hookspec
def seg_normalisers() -> Iterable[Offer]:
    """Offer normalisers (`seg.Normaliser`): how the intensities of a channel are brought to a common scale."""
    return ()


@hookspec
def seg_metrics() -> Iterable[Offer]:
    """Offer metrics (`seg.Metric`): how a predicted class is compared with the true one, beside those always made."""
    return ()


@hookspec
def seg_exporters() -> Iterable[Offer]:
    """Offer exporters (`seg.Exporter`): a trained model in another program's format."""
    return ()


@hookspec
def seg_executors() -> Iterable[Offer]:
    """Offer executors (`seg.Executor`): where the trainings of a configuration's folds run."""
    return ()


@hookspec
def seg_commands() -> Iterable[Offer]:
    """Offer commands of `seg`: functions with Typer's annotations (`"module:function"`), imported when called."""
    return ()


# What happens in a run


@hookspec
def seg_run_started(folder: Path, settings: Settings) -> None:
    """A run begins, or goes on, in `folder`; `settings` are as resolved."""


@hookspec
def seg_plan_made(plan: Plan, folder: Path | None) -> Plan | None:
    """A plan was made (for the run in `folder`, if there is one); what is returned, if anything, takes its place.

    Plugins are asked in order of discovery, each with what the one before made of the plan. An amended plan is checked
    as planners' plans are, and the reasons of what was changed get the plugin's name and version. A plan that was given
    (`--plan`) was not made, and is taken as it is.
    """


@hookspec
def seg_case_preprocessed(folder: Path, configuration: str, case: str) -> None:
    """A case was prepared, and lies in the case store `folder`."""


@hookspec
def seg_epoch_ended(folder: Path, configuration: str, fold: str, row: Mapping[str, Any]) -> None:
    """An epoch ended; `row` is its line in `metrics.jsonl` of the training in `folder`.

    It has epoch, step, seconds (of training so far), loss and lr (learning rate). `folder` is
    `training/<configuration>/fold_<fold>` in the folder of the run. A training that goes on may come to an epoch again
    that it told of before it was cut short. Other than the hooks around it, this one is called in a thread of its own.
    """


@hookspec
def seg_validation_done(folder: Path, configuration: str, fold: str, evaluation: Evaluation) -> None:
    """A fold's validation cases are predicted and compared with the truth; all of it lies in `folder`.

    That is `validation/<configuration>/fold_<fold>` in the folder of the run.
    """


@hookspec
def seg_case_predicted(case: str, file: Path, seconds: float) -> None:
    """A new image was predicted into `file`, a label map, in so many seconds, reading and writing included."""


@hookspec
def seg_report_sections(folder: Path) -> Iterable[Section]:
    """Sections for the report that is being made of the run in `folder`, in the order they shall have."""
    return ()


@hookspec
def seg_run_ended(folder: Path, evaluations: Mapping[str, Evaluation], error: BaseException | None) -> None:
    """A run ended: with the metrics of each configuration, or by an error (a signal is one too)."""


KINDS = {
    "fingerprinter": "seg_fingerprinters",
    "planner": "seg_planners",
    "architecture": "seg_architectures",
    "augmenter": "seg_augmenters",
    "sampler": "seg_samplers",
    "ensembler": "seg_ensemblers",
    "postprocessor": "seg_postprocessors",
    "layout": "seg_layouts",
    "loss": "seg_losses",
    "recipe": "seg_recipes",
    "normaliser": "seg_normalisers",
    "metric": "seg_metrics",
    "exporter": "seg_exporters",
    "executor": "seg_executors",
}
"""Each kind of component and the hook that offers it."""

COMMANDS = "seg_commands"
"""The hook that offers commands, which are functions and no components."""

EVENTS = (
    "seg_run_started",
    "seg_plan_made",
    "seg_case_preprocessed",
    "seg_epoch_ended",
    "seg_validation_done",
    "seg_case_predicted",
    "seg_report_sections",
    "seg_run_ended",
)
"""The hooks that are called while a run goes on."""
