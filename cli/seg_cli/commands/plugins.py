"""`seg list-plugins` and `seg show`: which components there are, and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from seg_cli.console import console, print_table

if TYPE_CHECKING:
    from seg.registry import Plugin, Registry

Row = dict[str, Any]


def list_plugins(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every component and command with its origin and status, hooks that are listened to, broken plugins."""
    from seg.discovery import discover
    from seg.registry import clashes

    registry = discover()
    doubled = clashes(registry)
    rows: list[Row] = [
            {"kind": item.kind, "name": item.name, "summary": item.summary, "distribution": item.plugin.distribution,
             "version": item.plugin.version, "plugin": item.plugin.name, "import_ms": item.plugin.import_ms,
             "status": "clash" if (item.kind, item.name) in doubled else item.plugin.status,
             "reason": f"say {item.qualified}" if (item.kind, item.name) in doubled else item.plugin.reason}
            for item in registry.components]
    rows += _commands(registry, list(ctx.parent.command.commands))  # type: ignore[union-attr]
    rows += _hooks(registry)
    rows += [{"kind": "–", "name": plugin.name, "summary": "", "distribution": plugin.distribution,
              "version": plugin.version, "plugin": plugin.name, "import_ms": plugin.import_ms,
              "status": plugin.status, "reason": plugin.reason}
             for plugin in registry.plugins if plugin.status == "broken"]
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    kinds = {kind: index for index, kind in enumerate(dict.fromkeys(str(row["kind"]) for row in rows))}
    rows.sort(key=lambda row: kinds[str(row["kind"])])
    print_table("", ["kind", "name", "summary", "from", "status"],
                [[str(row["kind"]), str(row["name"]), str(row["summary"]),
                  f"{row['distribution']} {row['version']}",
                  " · ".join(part for part in (str(row["status"]), str(row["reason"])) if part)] for row in rows])


def _commands(registry: Registry, built_in: list[str]) -> list[Row]:
    """The commands of plugins; a name that is taken says how the command is called instead."""
    names = [*built_in, *(item.name for item in registry.commands)]
    return [_row(item.kind, item.name, item.summary, item.plugin,
                 f"say {item.qualified}" if names.count(item.name) > 1 else "") for item in registry.commands]


def _hooks(registry: Registry) -> list[Row]:
    """For each plugin that listens to a run, the hooks in which it is called."""
    found: dict[Plugin, list[str]] = {}
    for listener in registry.listeners:
        found.setdefault(listener.plugin, []).append(listener.hook)
    return [_row("hooks", plugin.name, ", ".join(hooks), plugin) for plugin, hooks in found.items()]


def _row(kind: str, name: str, summary: str, plugin: Plugin, clash: str = "") -> Row:
    return {"kind": kind, "name": name, "summary": summary, "distribution": plugin.distribution,
            "version": plugin.version, "plugin": plugin.name, "import_ms": plugin.import_ms,
            "status": "clash" if clash else plugin.status, "reason": clash or plugin.reason}


def show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="planner, architecture, augmenter, …, or train.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The component.")] = "",
) -> None:
    """The options of a component, with types, defaults, bounds and help."""
    from seg.discovery import discover
    from seg.options import describe
    from seg.registry import load_class
    from seg.settings import GROUPS

    if kind in GROUPS:
        found, title = GROUPS[kind], kind
    else:
        component = discover().find(kind, name)
        found = load_class(component)
        title = f"{kind} {component.name} ({component.plugin.distribution} {component.plugin.version})"
        console().print(f"{title}\n{component.summary}", markup=False)
    rows = [[f"{kind}.{item.name}", item.type, str(item.default), item.bounds, item.help] for item in describe(found)]
    if rows:
        print_table("", ["option", "type", "default", "bounds", "help"], rows)
    else:
        console().print("no options")
