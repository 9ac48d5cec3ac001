"""`seg new-plugin`: a whole package to start from."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from seg_cli.commands import run
from seg_cli.console import console


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the distribution: segplug-attention.")],
    kind: Annotated[str, typer.Option("--kind", help="architecture, loss, planner, …, logger or command.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where the folder NAME goes [here].")] = None,
) -> None:
    """Write a new plugin: a package with one working component, its tests, README and continuous integration."""
    from seg.new_plugin import new_plugin as write
    from seg.new_plugin import short_name

    parent = out or Path()
    use = how_to_use(kind, short_name(name).lower())
    files = write(name, kind, parent, use)
    folder = parent / name
    for file in files:
        console().print(str(file), markup=False, highlight=False, soft_wrap=True)
    steps = [f"cd {folder}", "pip install -e '.[dev]'", "pytest", use]
    console().print("\n" + " && ".join(steps), markup=False, highlight=False, soft_wrap=True)


def how_to_use(kind: str, short: str) -> str:
    """The command in which a component of a kind is used: `seg run` where that has an option for it."""
    if kind == "command":
        return f"seg {short} RUN"
    option = {"architecture": "arch"}.get(kind, kind)
    if option in inspect.signature(run.run).parameters:
        return f"seg run DATA --{option} {short}"
    return "seg run DATA" if kind in ("logger", "layout") else f"seg show {kind} {short}"
