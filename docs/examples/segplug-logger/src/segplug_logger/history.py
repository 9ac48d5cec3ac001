"""The command `seg history`: a function with Typer's annotations, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from seg import usage_error

from segplug_logger.journal import FILE, number, trainings


def history(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders.")],
    last: Annotated[int, typer.Option("--last", min=1, help="Show so many epochs of each training.")] = 5,
) -> None:
    """Print the last losses of runs, and the mean Dice of what is validated.

    Raises:
        SegError: one of them has no journal (exit 2).
    """
    for run in runs:
        if not (run / FILE).is_file():
            raise usage_error("no journal of a run", expected=FILE, file=str(run),
                              advice="It is written by runs that are started while segplug-logger is installed.")
    for run in runs:
        for one in trainings(run):
            losses = " ".join(number(loss) for loss in one.losses[-last:])
            typer.echo(f"{run.name} {one.configuration} fold {one.fold}: {len(one.losses)} epochs, "
                       f"loss {losses}, Dice {number(one.dice)}")
