"""`seg evaluate`: compare two folders of label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg_cli import options as shared
from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import ConsoleProgress, console, print_evaluation


def evaluate(  # noqa: PLR0913 - one parameter for each flag of the command
    context: typer.Context,
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Folder of the true label maps.")],
    prediction: Annotated[Path, typer.Argument(metavar="PREDICTION", help="Folder of the predictions.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for metrics.csv and metrics.json.")] = None,
    *,
    labels: shared.Labels = None,
    tolerance_mm: Annotated[float, typer.Option("--tolerance", min=0.01, help="Of the surface Dice, in mm.")] = 1.0,
    also: Annotated[str | None, typer.Option("--also", metavar="NAME,…", help="Further metrics: recall,…")] = None,
) -> None:
    """Dice, HD95, surface Dice and what else is asked for, for any two folders with equal names."""
    from seg.further import resolve_metrics
    from seg.models import Labels
    from seg.settings import parse_labels
    from seg.stages.evaluate import evaluate_folders, write_evaluation

    given = parse_labels(labels) if labels else {}
    declared = Labels(values={"background": 0, **{name: index for index, name in enumerate(given, 1)}},
                      file_values=dict(enumerate(given.values(), 1))) if given else None
    metrics, _ = resolve_metrics(shared.split_list(also), chosen_plugins(context)) if also else ({}, {})
    with ConsoleProgress() as progress:
        result = evaluate_folders(truth, prediction, declared, tolerance_mm, progress, metrics)
    write_evaluation(result, out or prediction)
    print_evaluation(str(prediction), result)
    console().print(f"metrics.csv and metrics.json are in {out or prediction}")
