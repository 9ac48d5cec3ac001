"""`seg compare`: every combination of some components or options, trained on the same folds and compared."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg.grids import SEED, make_grid, named_kinds, split_values
from seg_cli import options as shared
from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import ConsoleProgress, console, print_records, print_table

if TYPE_CHECKING:
    from seg.effects import Effect
    from seg.stages.comparison import Comparison

METRICS = {"dice": "Dice", "nsd": "NSD", "hd95_mm": "HD95 (mm)"}
FLAGS = {"architecture": "arch"}  # of `seg run`, where they are not the kind's name


def compare(  # noqa: PLR0913 - one parameter for each flag of the command
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set: a folder, or a CSV or JSON list.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of all runs [compare/<dataset>].")] = None,
    *,
    vary: Annotated[list[str] | None, typer.Option("--vary", metavar="KIND.OPTION=VALUE,VALUE…",
                                                   help="An option that varies; repeatable.")] = None,
    seed: Annotated[str | None, typer.Option("--seed", help="One root of random numbers, or several [0].")] = None,
    config: Annotated[str | None, typer.Option("--config", help="Configurations: 2d,3d_fullres,… or all.")] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Folds: 0,1,…; all [0].")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Length of a training in epochs.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Length of a training in time: 10m, 1.5h.")] = None,
    device: shared.Device = "auto",
    labels: shared.Labels = None,
    splits: Annotated[Path | None, typer.Option("--splits", help="Folds from a file (nnU-Net's too).")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A plan from a file (nnU-Net's too).")] = None,
    settings: shared.SettingsFile = None,
    sets: shared.Set = None,
    **names: str | None,
) -> None:
    """Train every combination of the given names and values on the same folds, and compare them case by case.

    Names of components may be lists: --arch unet,unetpp --augmenter nnunet,none makes four runs. The first is the
    baseline. What is finished is kept, so the same command goes on.
    """
    from seg.settings import parse_duration, parse_labels, read_settings

    given: dict[str, Any] = {
        "configurations": list(shared.split_list(config)), "folds": list(shared.split_list(fold)), "epochs": epochs,
        "budget_s": parse_duration(budget) if budget else None, "device": device if device != "auto" else None,
        "labels": parse_labels(labels) if labels else None, "splits": str(splits) if splits else None,
        "plan": str(plan) if plan else None,
    }  # fmt: skip
    base = read_settings(settings, sets or [], {key: value for key, value in given.items() if value})
    factors: dict[str, list[Any]] = {kind: list(shared.split_list(text)) for kind, text in names.items() if text}
    members = make_grid(base, factors | _varied(vary or []) | ({SEED: split_values(seed)} if seed else {}))

    registry = chosen_plugins(context)
    from seg.stages.compare import compare as compare_all

    with ConsoleProgress() as progress:
        found = compare_all(data, members, out, registry=registry, progress=progress)
    _print(found)
    console().print(f"page    {(out or Path('compare') / found.data) / 'compare.html'}")
    if found.faults:
        from seg.errors import Exit

        print_records(found.faults)
        raise typer.Exit(int(Exit.PARTLY))


def _varied(texts: list[str]) -> dict[str, list[Any]]:
    """The factors of `--vary`."""
    from seg.errors import usage_error

    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise usage_error(f"--vary {text!r}", expected="KIND.OPTION=VALUE,VALUE…, each once; for example "
                              "planner.vram_gb=4,8")
        found[name.strip()] = split_values(values)
    return found


def _signature() -> inspect.Signature:
    """The command's own parameters, and one for each kind of component that settings name."""
    own = inspect.signature(compare, eval_str=True)
    parameters = [item for item in own.parameters.values() if item.kind != inspect.Parameter.VAR_KEYWORD]
    for kind in named_kinds():
        flag = typer.Option(f"--{FLAGS.get(kind, kind)}", metavar="NAME,NAME…", help=f"One {kind}, or several.")
        parameters.append(inspect.Parameter(kind, inspect.Parameter.KEYWORD_ONLY, default=None,
                                            annotation=Annotated[str | None, flag]))
    return own.replace(parameters=parameters)


compare.__signature__ = _signature()  # type: ignore[attr-defined]


def _print(found: Comparison) -> None:
    metrics = {**METRICS, **{name: name for name in found.further}}
    header = ["member", *metrics.values(), "steps", "seconds", "parameters", "memory (MB)"]
    rows = [[member.name, *(_number(member.mean.get(metric)) for metric in metrics),
             f"{member.steps:,}", f"{member.seconds:.0f}", f"{member.parameters:,}{'*' if member.reduced else ''}",
             f"{member.peak_memory_bytes / 1e6:.0f}" if member.peak_memory_bytes else "–"]
            if not member.faults else [member.name, "failed", *[""] * (len(header) - 2)] for member in found.members]
    cases = max(member.cases for member in found.members)
    print_table(f"{found.data}: {cases} cases", header, rows, numbers=True)
    if any(member.reduced for member in found.members):
        console().print("* smaller than planned, for the budget")
    _print_effects(f"differences to {found.baseline}", found.differences, metrics)
    for factor, effects in found.effects.items():
        _print_effects(f"{factor}, over all combinations of the rest", effects, metrics)
    if found.caution:
        console().print(found.caution, soft_wrap=True)


def _print_effects(title: str, effects: tuple[Effect, ...], metrics: dict[str, str]) -> None:
    if not effects:
        return
    first, *others = metrics
    rows = []
    for each in effects:
        dice, rest = each.differences[first], (each.differences.get(metric) for metric in others)
        rows.append([each.name, each.against, _signed(dice.difference), f"{_signed(dice.low)} to {_signed(dice.high)}",
                     *(_signed(one.difference if one else None) for one in rest), each.verdict])
    header = ["", "against", metrics[first], "95 % interval", *(metrics[metric] for metric in others), "verdict"]
    print_table(title, header, rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
