"""`seg export`: a model in another program's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg_cli import options as shared
from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import console


def export(
    context: typer.Context,
    model: Annotated[Path, typer.Option("-m", "--model", help="A model: the folder `model` of a run.")],
    exporter: Annotated[str, typer.Option("--to", metavar="NAME", help="Exporter: onnx (see `seg list-plugins`).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A new folder.")],
    prune: Annotated[str, typer.Option("--prune", metavar="LEVEL", help="A smaller level of the network: L1, …")] = "",
    sets: shared.Set = None,
) -> None:
    """Write a trained model in another program's format."""
    from seg.settings import PredictOptions, read_settings

    settings, registry = read_settings(None, sets or [], {}), chosen_plugins(context)
    component, use = registry.build("exporter", exporter, settings.of("exporter"))
    from attrs import evolve

    from seg.model import load
    from seg.stages.export import export as export_model

    options: PredictOptions = evolve(settings.predict, prune=prune or settings.predict.prune)
    loaded = load(model, device="cpu", options=options, registry=registry)
    for file in export_model(loaded, component, use, out):
        console().print(str(file), soft_wrap=True, markup=False)
