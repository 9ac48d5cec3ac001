"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KIND.OPTION=VALUE", help="An option of a component; repeatable.")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", metavar="FILE.toml", help="Settings from a file.")]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="NAME=VALUE,…", help="The classes and their values in the files: cell=255"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 …")]
PlannerName = Annotated[str | None, typer.Option("--planner", help="Planner (see `seg list-plugins`).")]
ArchName = Annotated[str | None, typer.Option("--arch", help="Architecture; without it the planner's own.")]
"""The types of the options, for the signatures of commands."""


def split_list(text: str | None) -> tuple[str, ...]:
    """The names of `a,b,c`."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()
