"""`seg predict`: label maps of new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg_cli import options as shared
from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import ConsoleProgress, console, print_records


def predict(  # noqa: PLR0913 - one parameter for each flag of the command
    context: typer.Context,
    model: Annotated[Path, typer.Option("-m", "--model", help="A model: the folder `model` of a run.")],
    inputs: Annotated[list[Path], typer.Option("-i", "--input", help="A folder or a file; repeatable.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the label maps.")],
    *,
    device: shared.Device = "auto",
    save_probabilities: Annotated[bool, typer.Option("--save-probabilities", help="Also <case>.npz.")] = False,
    no_mirroring: Annotated[bool, typer.Option("--no-mirroring", help="Faster, a little less exact.")] = False,
    prune: Annotated[str, typer.Option("--prune", metavar="LEVEL", help="A smaller level of the network: L1, …")] = "",
    autocast: Annotated[str, typer.Option("--autocast", help="16-bit arithmetic: auto, on or off.")] = "auto",
    max_memory: Annotated[float, typer.Option("--max-memory", metavar="GB", min=0, help="What the maps of a case may "
                                              "take; beyond, a temporary file [half of what is free].")] = 0,
    stall: Annotated[float, typer.Option("--stall", metavar="SECONDS", min=0, help="Leave out a case whose file takes "
                                         "longer to read; 0: never.")] = 600,
    step: Annotated[float, typer.Option("--step", min=0.05, max=1.0, help="Distance of tiles in patches.")] = 0.5,
) -> None:
    """Predict images with a model; outputs have the case's name and the input's format and grid."""
    from seg.device import keep_freed_memory
    from seg.errors import Exit
    from seg.listening import Listening
    from seg.model import load
    from seg.options import fill
    from seg.settings import PredictOptions
    from seg.stages.predict import predict as predict_cases

    given = {"step": step, "mirroring": not no_mirroring, "prune": prune, "autocast": autocast,
             "max_memory_gb": float(max_memory), "stall_s": float(stall)}
    options: PredictOptions = fill(PredictOptions, given, "predict")
    registry = chosen_plugins(context)
    loaded = load(model, device=device, options=options, registry=registry)
    print_records(loaded.records)
    if loaded.device.type == "cpu":
        keep_freed_memory()
    source = inputs[0] if len(inputs) == 1 else inputs
    with ConsoleProgress() as progress:
        result = predict_cases(loaded, source, output, save_probabilities=save_probabilities,
                               progress=Listening(progress, registry))
    print_records(result.records)
    errors = [record for record in result.records if record.severity == "error"]
    refused = {record.case for record in errors}
    console().print(f"{len(result.written)} written to {output}, {len(result.kept)} kept, {len(refused)} refused")
    if refused:
        resources = all(record.code.startswith("SEG-R") for record in errors)
        nothing = Exit.RESOURCES if resources else Exit.DATA
        raise typer.Exit(int(Exit.PARTLY if result.written or result.kept else nothing))
