"""The stages on a run folder: `seg train`, `seg validate`, `seg report`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import ConsoleProgress, console, print_evaluation, print_levels

if TYPE_CHECKING:
    from seg.registry import Registry
    from seg.stages.train import Fold

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Config = Annotated[str, typer.Option("--config", help="The configuration.")]
FoldName = Annotated[str, typer.Option("--fold", help="The fold: 0, 1, … or full.")]


def train(  # noqa: PLR0913 - one parameter for each flag of the command
    context: typer.Context,
    run: Run,
    config: Config = "3d_fullres",
    fold: FoldName = "0",
    *,
    device: Annotated[str, typer.Option("--device", help="Instead of the run's: auto, cpu, cuda, cuda:1 …")] = "",
    validate: Annotated[bool, typer.Option("--validate", help="Also validate it, as `seg run` does.")] = False,
    within: Annotated[str, typer.Option("--within", hidden=True)] = "",
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
    rank: Annotated[str, typer.Option("--rank", hidden=True)] = "",
    meet: Annotated[str, typer.Option("--meet", hidden=True)] = "",
) -> None:
    """Train one fold of a run, or go on with it."""
    import attrs

    from seg.files import locked
    from seg.listening import Listening
    from seg.stages.execute import train_and_validate
    from seg.stages.train import train_fold

    if with_parent:
        _end_with_input()
    registry = chosen_plugins(context)
    chosen = _fold(run, config, fold, registry)
    if device:
        chosen = attrs.evolve(chosen, settings=attrs.evolve(chosen.settings, device=device))
    if rank:
        _join(chosen, rank, meet)
        return
    with locked(run, within), ConsoleProgress() as progress:
        (train_and_validate if validate else train_fold)(chosen, Listening(progress, registry))
    console().print(f"weights {chosen.path}")


def validate(
    context: typer.Context,
    run: Run,
    config: Config = "3d_fullres",
    fold: FoldName = "0",
    *,
    levels: Annotated[bool, typer.Option("--levels", help="Instead, measure every level of the network.")] = False,
) -> None:
    """Predict the cases that a fold did not see, and compare them with the truth."""
    from seg.files import locked
    from seg.listening import Listening
    from seg.stages.levels import validate_levels
    from seg.stages.validate import validate_fold

    registry = chosen_plugins(context)
    chosen = _fold(run, config, fold, registry)
    if levels:
        with locked(run), ConsoleProgress() as progress:
            found = validate_levels(chosen, progress)
        print_levels(f"{config} fold {fold}, on {found.device}", found.levels)
        return
    with locked(run), ConsoleProgress() as progress:
        result = validate_fold(chosen, Listening(progress, registry))
    print_evaluation(f"{config} fold {fold}", result)


def report(context: typer.Context, run: Run) -> None:
    """Write report.html from what lies in a run folder."""
    from seg.stages.report import write_report

    console().print(str(write_report(run, chosen_plugins(context))))


def _join(fold: Fold, rank: str, meet: str) -> None:
    """Be one of several processes of a training, `rank` "1/2" of two, say; plugins hear of it from the first one."""
    from seg.distributed import Ranks
    from seg.stages.train import join_fold

    own, count = map(int, rank.split("/"))
    with ConsoleProgress() as progress:
        join_fold(fold, Ranks(rank=own, count=count), Path(meet), progress)


def _end_with_input() -> None:
    """Stop as SIGTERM does when standard input ends: the process at its other end is gone."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=wait, daemon=True).start()


def _fold(run: Path, config: str, fold: str, registry: Registry) -> Fold:
    """One fold of the run in the folder `run`, with the settings and components it was made with."""
    from seg.errors import usage_error
    from seg.runfolder import Components, RunFolder
    from seg.stages.run import with_length
    from seg.stages.train import Fold

    folder = RunFolder(run)
    settings = with_length(folder.settings(), registry)
    plan = folder.plan()
    if config not in plan.configurations:
        raise usage_error(f"configuration {config!r}", expected=f"one of {', '.join(plan.configurations)}")
    components = Components.resolve(settings, registry).with_normalisers(plan, registry)
    return Fold(folder=folder, settings=settings, components=components, plan=plan, configuration=config, fold=fold)
