"""`seg import-nnunet`: a model that nnU-Net trained becomes a model of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import console, print_records


def import_nnunet(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="MODELFOLDER", help="nnU-Net's folder of a trainer.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Where to write the model.")],
) -> None:
    """Make a model of one that nnU-Net trained; its predictions stay the same, and no code of it is run."""
    from seg.errors import usage_error

    if out.exists():
        raise usage_error("there is something of that name", expected="a new folder", file=str(out))
    from seg.model_files import write_model
    from seg.nnunet_models import import_nnunet as import_model

    found = import_model(folder, chosen_plugins(context))
    write_model(out, found.description, found.weights)
    print_records(found.records)
    folds = ", ".join(f"fold {member.fold}" for member in found.description.members)
    console().print(f"{found.description.chosen[0]}, {folds}, trained by {found.trainer}\nmodel   {out}")
