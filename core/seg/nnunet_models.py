"""Models that nnU-Net 2.8 trained, as models of ours: the same weights, and so the same predictions."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from torch import Tensor

from seg.checkpoint import separate
from seg.convert import load_json
from seg.errors import Exit, Record, SegError, Severity, usage_error
from seg.kinds import NnUNetArchitecture
from seg.model import fitted
from seg.model_files import Member, ModelDescription
from seg.models import ComponentUse, Configuration, Description, Plan
from seg.nnunet_checkpoint import Checkpoint, read_checkpoint
from seg.nnunet_files import read_description
from seg.nnunet_plans import plan_from_nnunet
from seg.normalisation import Normalisers
from seg.registry import Registry
from seg.settings import Settings
from seg.stages.plan import plan_faults

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
TRAINER = "nnUNetTrainer"
RAS_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
FOLDER = "nnU-Net's folder of a trainer, nnUNetTrainer__nnUNetPlans__3d_fullres for example"


@frozen(kw_only=True, eq=False)
class Imported:
    """A model of nnU-Net as `write_model` takes it, its trainer, and what there is to say of it."""

    description: ModelDescription
    weights: dict[str, dict[str, Tensor]]
    trainer: str
    records: tuple[Record, ...]


def import_nnunet(folder: Path, registry: Registry) -> Imported:
    """The model in nnU-Net's folder of a trainer, `nnUNetTrainer__nnUNetPlans__3d_fullres` for example.

    As in nnU-Net's own prediction, `plans.json` and `dataset.json` are those of the folder, and the checkpoints say
    which configuration they are and along which axes they may be mirrored. Each `fold_<k>` becomes a member; `fold_all`
    does where it is alone. On a CPU the networks compute in single precision unless asked otherwise; tiles are added up
    in 16 bits. Both are as in nnU-Net.

    Raises:
        SegError: no such folder, files are missing, or a plan, a network or a cascade that cannot be taken (exit 2);
            a checkpoint that is damaged or more than data, or weights that do not fit their plan (exit 7); weights that
            are no numbers (exit 3); an architecture that cannot take nnU-Net's weights (exit 6).
    """
    files, records = _checkpoint_files(folder)
    checkpoints = {fold: read_checkpoint(file) for fold, file in files.items()}
    first = _agreeing(checkpoints, folder)
    plans = load_json(folder / "plans.json")
    plan = _plan(plans, _description(plans, folder), first, str(folder / "plans.json"))
    architecture, use = _architecture(plan, registry, folder / "plans.json")
    (configuration,) = plan.configurations.values()
    members, weights = [], {}
    for fold, file in files.items():
        member = Member(configuration=configuration.name, fold=fold,
                        weights=f"weights/{configuration.name}_fold_{fold}.safetensors")
        weights[member.weights] = _weights(architecture, configuration, checkpoints.pop(fold), file)
        members.append(member)
    _, ensembler = registry.build("ensembler", Settings().ensembler)
    normalisers = Normalisers.resolve([configuration], registry).uses.values()
    description = ModelDescription(
        plan=plan, configurations=plan.configurations, members=tuple(members), chosen=(configuration.name,),
        architecture=use, ensembler=ensembler, components=(use, ensembler, *normalisers), autocast="off",
        half_sums=True, made_by=f"segplug {version('segplug')}, from nnU-Net's {folder.name}",
    )
    if first.trainer != TRAINER:
        found = f"trained by {first.trainer}: what it changes in code alone, an activation say, is not known here"
        records.append(_remark(found, folder))
    return Imported(description=description, weights=weights, trainer=first.trainer, records=tuple(records))


def _checkpoint_files(folder: Path) -> tuple[dict[str, Path], list[Record]]:
    """The checkpoint of each fold that nnU-Net itself would take, and what is to be said of the others."""
    missing = [name for name in ("dataset.json", "plans.json") if not (folder / name).is_file()]
    if missing:
        inside = sorted(path.name for path in folder.glob("*__*__*"))
        advice = f"Name one of its folders: {', '.join(inside)}." if inside else ""
        raise usage_error(f"no {' and no '.join(missing)}", expected=FOLDER, file=str(folder), advice=advice)
    files: dict[str, Path] = {}
    records = []
    for path in sorted(folder.glob("fold_*"), key=lambda path: (len(path.name), path.name)):
        fold = path.name.removeprefix("fold_")
        found = [path / name for name in CHECKPOINTS if (path / name).is_file()]
        if not found or not re.fullmatch(r"\d+|all", fold):
            records.append(_remark("left out: no fold with a checkpoint", path))
            continue
        files[fold] = found[0]
        if found[0].name != CHECKPOINTS[0]:
            records.append(_remark(f"not trained to its end: there is no {CHECKPOINTS[0]}", found[0], "warning"))
    if len(files) > 1 and "all" in files:
        records.append(_remark("left out beside the other folds, as nnU-Net does", files.pop("all")))
    if not files:
        raise usage_error(f"no fold_<k>/{CHECKPOINTS[0]}", expected=FOLDER, file=str(folder))
    return files, records


def _agreeing(checkpoints: dict[str, Checkpoint], folder: Path) -> Checkpoint:
    """One of the checkpoints, if all are of one training but for the fold."""
    told = {fold: (one.trainer, one.configuration, one.mirror_axes) for fold, one in checkpoints.items()}
    if len(set(told.values())) > 1:
        found = "; ".join(f"fold {fold}: {', '.join(map(str, one))}" for fold, one in told.items())
        raise _refusal(f"folds of several trainings: {found}", str(folder))
    return next(iter(checkpoints.values()))


def _description(plans: Any, folder: Path) -> Description:
    """The data set as `dataset.json` says; its name, and how its reader turns images, as the plans say."""
    file = str(folder / "dataset.json")
    found = read_description(load_json(Path(file)), file)
    if found.labels.has_regions and not found.labels.regions_class_order:
        raise SegError(Record(code="SEG-D14", found="$.regions_class_order: missing", file=file,
                              expected="one label for each region"))
    plans = plans if isinstance(plans, dict) else {}
    turned = evolve(found, orientation="RAS") if plans.get("image_reader_writer") in RAS_READERS else found
    name = plans.get("dataset_name")
    return evolve(turned, name=name) if isinstance(name, str) and name else turned


def _plan(plans: Any, description: Description, checkpoint: Checkpoint, file: str) -> Plan:
    """nnU-Net's plan with the trained configuration alone, mirrored as the checkpoint allows."""
    name = checkpoint.configuration
    plan = plan_from_nnunet(plans, description, file, only=name)
    configuration = plan.configurations[name]
    if configuration.previous_stage:
        raise _refusal(f"{name} is the second stage of a cascade, which cannot be imported", file,
                       "Import 3d_fullres, or another configuration of one stage.")
    reasons = {**configuration.reasons, "mirror_axes": "Those that the checkpoint allows."}
    configuration = evolve(configuration, mirror_axes=checkpoint.mirror_axes, next_stage=None, reasons=reasons)
    plan = evolve(plan, configurations={name: configuration})
    if faults := plan_faults(plan):
        raise _refusal("; ".join(faults), file)
    return plan


def _architecture(plan: Plan, registry: Registry, file: Path) -> tuple[NnUNetArchitecture, ComponentUse]:
    """The architecture that plays the plan's network."""
    try:
        architecture, use = registry.build("architecture", plan.architecture)
    except SegError as error:
        record = _refusal(f"the network {plan.architecture} of nnU-Net cannot be built here", str(file)).records[0]
        raise SegError([record, *error.records], error.exit_code) from error
    if not isinstance(architecture, NnUNetArchitecture):
        raise SegError(Record(code="SEG-M08", found=f"the architecture {plan.architecture!r} of {use.distribution} "
                              f"{use.version} cannot take nnU-Net's weights", expected="a method `from_nnunet`"),
                       Exit.PLUGIN)
    return architecture, use


def _weights(
    architecture: NnUNetArchitecture, configuration: Configuration, checkpoint: Checkpoint, file: Path
) -> dict[str, Tensor]:
    """The checkpoint's weights under our names, if they are exactly those of the planned network."""
    advice = f"They were trained by {checkpoint.trainer}; another network than the planned one cannot be imported."
    try:
        network = architecture.build(configuration.topology)
        fitted(network, architecture.from_nnunet(checkpoint.weights), file)
    except SegError as error:
        raise SegError([evolve(record, advice=record.advice or advice) for record in error.records],
                       error.exit_code) from error
    except MemoryError:
        raise
    except Exception as error:
        raise SegError(Record(code="SEG-M02", found=f"no network can be made of it: {type(error).__name__}: {error}",
                              file=str(file), advice=advice), Exit.UNSAFE) from error
    return separate(network.state_dict())


def _refusal(found: str, file: str, advice: str = "") -> SegError:
    return SegError(Record(code="SEG-M08", found=found, file=file, advice=advice), Exit.USAGE)


def _remark(found: str, path: Path, severity: Severity = "note") -> Record:
    return Record(code="SEG-M09", severity=severity, found=found, file=str(path))
