"""`seg run`: the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seg_cli import options as shared
from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import ConsoleProgress, console, print_evaluation, print_selection


def run(  # noqa: PLR0913 - one parameter for each flag of the command
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set: a folder, or a CSV or JSON list.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Run folder [runs/<dataset>].")] = None,
    *,
    planner: shared.PlannerName = None,
    arch: shared.ArchName = None,
    fingerprinter: Annotated[str | None, typer.Option("--fingerprinter", help="Measures the data [nnunet].")] = None,
    augmenter: Annotated[str | None, typer.Option("--augmenter", help="Varies patches in training [nnunet].")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="Says where patches are cut [nnunet].")] = None,
    ensembler: Annotated[str | None, typer.Option("--ensembler", help="Combines candidates [nnunet].")] = None,
    postprocessor: Annotated[str | None, typer.Option("--postprocessor", help="Mends label maps [nnunet].")] = None,
    loss: Annotated[str | None, typer.Option("--loss", help="What training makes small [dice_ce].")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Optimiser and learning rate [budget with a budget of "
                                               "time, else nnunet].")] = None,
    executor: Annotated[str | None, typer.Option("--executor", help="Where folds are trained [local].")] = None,
    config: Annotated[str | None, typer.Option("--config", help="Configurations: 2d,3d_fullres,… or all.")] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Folds: 0,1,…; all; full: every case.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Length of a training in epochs.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Length of a training in time: 10m, 1.5h.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …; cuda:0,cuda:1 share a training."),
                      ] = "auto",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Root of all random numbers [0].")] = None,
    labels: shared.Labels = None,
    splits: Annotated[Path | None, typer.Option("--splits", help="Folds from a file (nnU-Net's too).")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A plan from a file (nnU-Net's too).")] = None,
    settings: shared.SettingsFile = None,
    sets: shared.Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the plan and the estimates.")] = False,
) -> None:
    """From a folder of labelled images to a validated model, its report and its bundle."""
    from seg.settings import parse_duration, parse_labels, read_settings

    given: dict[str, Any] = {
        "planner": planner, "architecture": arch, "fingerprinter": fingerprinter, "augmenter": augmenter,
        "sampler": sampler, "ensembler": ensembler, "postprocessor": postprocessor, "loss": loss,
        "recipe": recipe, "executor": executor, "epochs": epochs, "seed": seed,
        "configurations": list(shared.split_list(config)) or None,
        "folds": list(shared.split_list(fold)) or None,
        "budget_s": parse_duration(budget) if budget else None,
        "device": device if device != "auto" else None,
        "labels": parse_labels(labels) if labels else None,
        "splits": str(splits) if splits else None,
        "plan": str(plan) if plan else None,
    }  # fmt: skip
    chosen = read_settings(settings, sets or [], {key: value for key, value in given.items() if value is not None})
    from seg.runfolder import Components

    registry = chosen_plugins(context)
    Components.check(chosen, registry)  # mistakes in names and options are told before torch is imported
    from seg.stages.run import run as run_all

    with ConsoleProgress() as progress:
        result = run_all(data, out, chosen, registry=registry, progress=progress, dry_run=dry_run)
    for name, evaluation in result.evaluations.items():
        print_evaluation(name, evaluation)
    if result.selection:
        print_selection(result.selection)
        console().print(f"report  {result.folder / 'report.html'}\nmodel   {result.folder / 'model'}")
