"""The stages up to training: `seg check`, `seg fingerprint`, `seg plan`, `seg preprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_cli import options as shared
from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import ConsoleProgress, console, print_records, print_table

if TYPE_CHECKING:
    from seg.models import Dataset, Fingerprint, Plan
    from seg.stages.check import CheckReport

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="A data set: a folder, or a CSV or JSON list.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", help="Where to write it.")]
ExportNnunet = Annotated[Path | None, typer.Option("--export-nnunet", metavar="FILE", help="In nnU-Net's own format.")]


def check(
    context: typer.Context,
    data: DataArgument,
    labels: shared.Labels = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="The records as JSON.")] = None,
) -> None:
    """Look at every voxel of every file and report all faults of all cases at once."""
    from seg.convert import write_json
    from seg.errors import Exit

    with ConsoleProgress() as progress:
        _, report = _checked(context, data, labels, progress, needs_folds=True)
    print_records(report.records)
    if json_file:
        write_json(json_file, report.records)
    errors = len(report.errors)
    verdict = f"{errors} faults" if errors else "no faults"
    console().print(f"{report.cases} cases checked, {verdict}, {len(report.records) - errors} warnings and notes")
    if errors:
        raise typer.Exit(int(Exit.DATA))


def fingerprint(  # noqa: PLR0913, PLR0917 - one parameter for each flag of the command
    context: typer.Context,
    data: DataArgument,
    out: Out = None,
    export_nnunet: ExportNnunet = None,
    name: Annotated[str, typer.Option("--fingerprinter", help="Fingerprinter.")] = "nnunet",
    labels: shared.Labels = None,
    sets: shared.Set = None,
) -> None:
    """Measure what a planner may know: shapes, spacings, intensities."""
    from seg.convert import dump_json, write_json
    from seg.errors import SegError
    from seg.nnunet_files import fingerprint_to_nnunet
    from seg.settings import read_settings
    from seg.stages.fingerprint import make_fingerprint

    settings = read_settings(None, sets or [], {})
    component, use = chosen_plugins(context).build("fingerprinter", name, settings.of("fingerprinter"))
    with ConsoleProgress() as progress:
        dataset, report = _checked(context, data, labels, progress, needs_folds=False,
                                   reorient=settings.data.reorient)
        if report.errors:
            raise SegError(list(report.errors))
        found: Fingerprint = make_fingerprint(dataset, component, progress=progress, use=use)
    if export_nnunet:
        write_json(export_nnunet, fingerprint_to_nnunet(found))
    if out:
        write_json(out, found)
    if not out and not export_nnunet:
        console().print(dump_json(found), markup=False)


def plan(  # noqa: PLR0913 - one parameter for each flag of the command
    context: typer.Context,
    fingerprint_file: Annotated[Path, typer.Option("--fingerprint", help="Ours or nnU-Net's.")],
    dataset: Annotated[Path, typer.Option("--dataset", metavar="DATASET.json", help="The data set's description.")],
    out: Out = None,
    *,
    planner: shared.PlannerName = None,
    arch: shared.ArchName = None,
    export_nnunet: ExportNnunet = None,
    sets: shared.Set = None,
    settings: shared.SettingsFile = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print every value with its reason.")] = False,
) -> None:
    """Decide everything from a fingerprint. Reads no image."""
    from attrs import evolve

    from seg.convert import dump_json, load_json, write_json
    from seg.listening import amended
    from seg.nnunet_files import plan_to_nnunet, read_description, read_fingerprint_file
    from seg.normalisation import Normalisers
    from seg.settings import read_settings
    from seg.stages.plan import make_plan

    given = {key: value for key, value in {"planner": planner, "architecture": arch}.items() if value}
    chosen, registry = read_settings(settings, sets or [], given), chosen_plugins(context)
    rules, rules_use = registry.build("planner", chosen.planner, chosen.of("planner"))
    network, network_use = registry.build("architecture", chosen.architecture or rules.default_architecture,
                                          chosen.of("architecture"))
    description = evolve(read_description(load_json(dataset), str(dataset)), orientation=chosen.data.reorient)
    found = make_plan(read_fingerprint_file(fingerprint_file), description, rules, rules_use.name, network,
                      network_use.name, "", {"planner": rules_use, "architecture": network_use})
    found = amended(found, None, registry)
    Normalisers.resolve(found.configurations.values(), registry)  # a name that nobody offers is told now
    if export_nnunet:
        write_json(export_nnunet, plan_to_nnunet(found))
    if out:
        write_json(out, found)
    if explain:
        _explain(found)
    elif not out and not export_nnunet:
        console().print(dump_json(found), markup=False)


def _explain(plan: Plan) -> None:
    from seg.explain import configuration_rows, plan_rows

    tables = {"plan": plan_rows(plan), **{name: configuration_rows(each) for name, each in plan.configurations.items()}}
    for title, rows in tables.items():
        print_table(title, ["", "value", "why"], [[row.name, row.value, row.reason] for row in rows])
        console().print()


def preprocess(
    context: typer.Context,
    data: DataArgument,
    plan_file: Annotated[Path, typer.Option("--plan", help="Ours or nnU-Net's.")],
    config: Annotated[str, typer.Option("--config", help="The configuration of the plan.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the case store.")],
    labels: shared.Labels = None,
) -> None:
    """Crop, normalise and resample every case into a store of HDF5 files."""
    from seg.errors import Exit
    from seg.listening import Listening
    from seg.nnunet_files import read_plan_file
    from seg.normalisation import Normalisers
    from seg.preprocessing import Preparation
    from seg.stages.preprocess import configuration_of
    from seg.stages.preprocess import preprocess as preprocess_cases

    with ConsoleProgress() as progress:
        dataset, report = _checked(context, data, labels, progress, needs_folds=False)
        registry = chosen_plugins(context)
        chosen = read_plan_file(plan_file, dataset.description)
        configuration = configuration_of(chosen, config)
        how = Preparation(plan=chosen, configuration=configuration,
                          normalisers=Normalisers.resolve([configuration], registry))
        faults = [record for record in report.errors if record.case is None]
        if faults:
            print_records(faults)
            raise typer.Exit(int(Exit.DATA))
        refused = preprocess_cases(dataset, how, out, digests=report.digests, progress=Listening(progress, registry))
    print_records(refused)
    if refused:
        raise typer.Exit(int(Exit.PARTLY))


def _checked(
    context: typer.Context, data: Path, labels: str | None, progress: ConsoleProgress, *, needs_folds: bool,
    reorient: str = "",
) -> tuple[Dataset, CheckReport]:  # fmt: skip
    """The data set at `data`, and the check of all its files."""
    from seg.settings import parse_labels
    from seg.stages.check import check as check_dataset
    from seg.stages.check import find_dataset

    dataset = find_dataset(data, chosen_plugins(context), parse_labels(labels) if labels else None, reorient)
    return dataset, check_dataset(dataset, needs_folds=needs_folds, progress=progress)
