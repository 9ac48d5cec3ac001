"""`seg list-plugins` and `seg show`: which components there are, and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg_cli.choosing import registry as chosen_plugins
from seg_cli.console import console, print_records, print_table

if TYPE_CHECKING:
    from seg.registry import Plugin, Registry

Row = dict[str, Any]


def list_plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Import and try every component; exit 6 if one fails.")]
    = False,
) -> None:
    """Every component and command with its origin and status, hooks that are listened to, plugins that fail."""
    registry = chosen_plugins(context)
    rows = _rows(registry, list(context.parent.command.commands))  # type: ignore[union-attr]
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print_table("", ["kind", "name", "summary", "from", "status"], [_cells(row) for row in rows])
    if verify:
        _verify(registry)


def _rows(registry: Registry, built_in: list[str]) -> list[Row]:
    """What is known of each component, kind by kind, each command, each listener, and each plugin that has none."""
    from seg.hookspecs import KINDS
    from seg.registry import clashes

    doubled, commands = clashes(registry), [*built_in, *(item.name for item in registry.commands)]
    components = sorted(registry.components, key=lambda item: list(KINDS).index(item.kind))
    offered = [(item, (item.kind, item.name) in doubled) for item in components]
    offered += [(item, commands.count(item.name) > 1) for item in registry.commands]
    rows = [_facts(item.plugin, registry) | {"kind": item.kind, "name": item.name, "summary": item.summary}
            | ({"status": "clash", "reason": f"say {item.qualified}"} if clash else {}) for item, clash in offered]
    heard: dict[Plugin, list[str]] = {}
    for listener in registry.listeners:
        heard.setdefault(listener.plugin, []).append(listener.hook)
    rows += [_facts(plugin, registry) | {"kind": "hooks", "summary": ", ".join(hooks)}
             for plugin, hooks in heard.items()]
    shown = {*heard, *(item.plugin for item, _ in offered)}
    return rows + [_facts(plugin, registry) for plugin in registry.plugins if plugin not in shown]


def _facts(plugin: Plugin, registry: Registry) -> Row:
    return {"kind": "–", "name": plugin.name, "summary": "", "distribution": plugin.distribution,
            "version": plugin.version, "plugin": plugin.name, "origin": plugin.origin, "requires": plugin.requires,
            "hooks": _hooks(plugin, registry), "import_ms": plugin.import_ms, "status": plugin.status,
            "reason": plugin.reason}


def _hooks(plugin: Plugin, registry: Registry) -> list[str]:
    """The hooks that a plugin has (of those for components, the ones that offered any)."""
    from seg.hookspecs import COMMANDS, KINDS

    found = [*(KINDS[item.kind] for item in registry.components if item.plugin == plugin),
             *(COMMANDS for item in registry.commands if item.plugin == plugin),
             *(item.hook for item in registry.listeners if item.plugin == plugin)]
    return list(dict.fromkeys(found))


def _cells(row: Row) -> list[str]:
    """A row of the table."""
    status = row["status"] + (f" ({row['import_ms']} ms)" if row["status"] == "slow" else "")
    parts = [status, row["reason"], "" if row["origin"] == "built in" else row["requires"]]
    return [row["kind"], row["name"], row["summary"],
            row["distribution"] + ("" if row["origin"] == "file" else f" {row['version']}"),
            " · ".join(part for part in parts if part)]


def _verify(registry: Registry) -> None:
    """Print what fails; exit 6 if anything does."""
    from seg.errors import Exit
    from seg.verifying import verify

    records = verify(registry)
    print_records(records)
    console(err=True).print(f"{len(registry.components)} components tried, {len(records)} faults")
    if records:
        raise typer.Exit(int(Exit.PLUGIN))


def show(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="planner, architecture, augmenter, …, or train.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The component.")] = "",
) -> None:
    """The options of a component, with types, defaults, bounds and help."""
    from seg.options import describe
    from seg.registry import load_class
    from seg.settings import GROUPS

    if kind in GROUPS:
        found, title = GROUPS[kind], kind
    else:
        component = chosen_plugins(context).find(kind, name)
        found = load_class(component)
        title = f"{kind} {component.name} ({component.plugin.distribution} {component.plugin.version})"
        console().print(f"{title}\n{component.summary}", markup=False)
    rows = [[f"{kind}.{item.name}", item.type, str(item.default), item.bounds, item.help] for item in describe(found)]
    if rows:
        print_table("", ["option", "type", "default", "bounds", "help"], rows)
    else:
        console().print("no options")
