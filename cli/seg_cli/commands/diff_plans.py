"""`seg diff-plans`: what two plans do differently, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_cli.console import console, print_table

if TYPE_CHECKING:
    from seg.plan_diff import Difference

PLAN_HELP = "A plan (ours or nnU-Net's), a run folder, or a model."


def diff_plans(
    first: Annotated[Path, typer.Argument(metavar="A", help=PLAN_HELP)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every value in which two plans differ, with the reasons of both."""
    from seg.convert import to_data
    from seg.plan_diff import compare_plans, find_plan

    found = compare_plans(find_plan(first), find_plan(second))
    if as_json:
        typer.echo(json.dumps({"first": str(first), "second": str(second), **to_data(found)}, indent=1,
                              ensure_ascii=False))
        return
    console().print(f"A  {first}\nB  {second}\n", markup=False, soft_wrap=True)
    for title, differences in {"plan": found.plan, **found.configurations}.items():
        if differences:
            print_table(title, ["", "A", "B", "why"], [_row(each) for each in differences])
            console().print()
    for names, where in ((found.only_first, "A"), (found.only_second, "B")):
        if names:
            console().print(f"only in {where}: {', '.join(names)}")
    if not found:
        console().print("no differences")


def _row(difference: Difference) -> list[str]:
    reasons = [f"{where}: {reason}" for where, reason in
               (("A", difference.first_reason), ("B", difference.second_reason)) if reason]
    return [difference.name, *difference.texts, "\n".join(reasons)]
