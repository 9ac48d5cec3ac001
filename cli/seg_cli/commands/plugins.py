"""`seg list-plugins` and `seg show`: which components there are, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from seg_cli.console import console, print_table


def list_plugins(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every component with its kind, origin and status; broken plugins with their reason."""
    from seg.discovery import discover
    from seg.registry import clashes

    registry = discover()
    doubled = clashes(registry)
    rows = [{"kind": item.kind, "name": item.name, "summary": item.summary, "distribution": item.plugin.distribution,
             "version": item.plugin.version, "plugin": item.plugin.name, "import_ms": item.plugin.import_ms,
             "status": "clash" if (item.kind, item.name) in doubled else item.plugin.status,
             "reason": f"say {item.qualified}" if (item.kind, item.name) in doubled else item.plugin.reason}
            for item in registry.components]
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
