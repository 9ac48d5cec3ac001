"""Components that a model or a run recorded: whether they are here, in which version, and what brings them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from seg.errors import Exit, Record, SegError
from seg.models import ComponentUse
from seg.registry import UNUSABLE, Component, Registry

LOCAL = "file:"  # before the name, as the distribution of a plugin of one file


def build_component(registry: Registry, use: ComponentUse) -> Any:
    """The component that a model or run recorded.

    Raises:
        SegError: its plugin is not installed; the record says which `pip install` brings it (exit 6).
    """
    what, advice = f"the {use.kind} {use.name!r} of {use.distribution} {use.version}", advice_for(use)
    found = _recorded(registry, use)
    if found is None:
        unusable = next((f"{plugin.status} here: {plugin.reason}" for plugin in registry.plugins
                         if plugin.distribution == use.distribution and plugin.status in UNUSABLE), "")
        raise SegError(Record(code="SEG-P04", found=f"{what} is {unusable or 'not installed here'}", advice=advice),
                       Exit.PLUGIN)
    try:
        component, _ = registry.build(use.kind, found.qualified, dict(use.options))
    except SegError as error:
        here = found.plugin.version
        if here == use.version:
            raise
        record = Record(code="SEG-P04", found=f"{what} is needed, {here} is installed here", advice=advice)
        raise SegError([record, *error.records], Exit.PLUGIN) from error
    return component


def version_records(uses: Iterable[ComponentUse], registry: Registry) -> tuple[Record, ...]:
    """A warning for each distribution of `uses` that is here in another version."""
    records: dict[str, Record] = {}
    for use in uses:
        found = _recorded(registry, use)
        if found and found.plugin.version != use.version:
            text = f"made with {use.distribution} {use.version}, {found.plugin.version} is {_here(use)}"
            advice = f"Results may differ from those of {advice_for(use)}."
            records[text] = Record(code="SEG-P11", severity="warning", found=text, advice=advice)
    return tuple(records.values())


def changed_versions(then: Mapping[str, ComponentUse], now: Mapping[str, ComponentUse]) -> list[str]:
    """The components of which another version is here now, each as a text; those that are of another name are not."""
    changed = [f"{then[kind].distribution} {then[kind].version}, {use.version} is {_here(use)}"
               for kind, use in now.items() if kind in then and _same(then[kind], use)
               and then[kind].version != use.version]
    return list(dict.fromkeys(changed))


def as_then(then: Mapping[str, ComponentUse], now: Mapping[str, ComponentUse]) -> dict[str, ComponentUse]:
    """`now`, with the records of `then` where only version and options of the plugin are others."""
    return {kind: then[kind] if kind in then and _same(then[kind], use) else use for kind, use in now.items()}


def advice_for(use: ComponentUse) -> str:
    """What brings the plugin of a component in its version."""
    if use.distribution.startswith(LOCAL):
        return f"--plugin {use.distribution.removeprefix(LOCAL)} (content {use.version})"
    return f"pip install {use.distribution}=={use.version}"


def _recorded(registry: Registry, use: ComponentUse) -> Component | None:
    """The component of this name and distribution; of a plugin of one file, also where its path was recorded."""
    for item in registry.of_kind(use.kind):
        here = item.plugin.distribution
        if item.name == use.name and (here == use.distribution or _file(here) == _file(use.distribution) != ""):
            return item
    return None


def _same(a: ComponentUse, b: ComponentUse) -> bool:
    return (a.name, a.distribution) == (b.name, b.distribution)


def _file(distribution: str) -> str:
    return PurePath(distribution.removeprefix(LOCAL)).name if distribution.startswith(LOCAL) else ""


def _here(use: ComponentUse) -> str:
    return "there" if use.distribution.startswith(LOCAL) else "installed"
