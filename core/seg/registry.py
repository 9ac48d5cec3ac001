"""Which components there are, where they come from, and how one is chosen.

Each light module is imported by itself: one that fails is listed as broken and harms nothing else. A module that brings
torch along is imported once; what it offered is remembered by distribution, version and file time, so that listing does
not pay for it again, and it is imported for good when one of its components is chosen.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout, suppress
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pluggy
from attrs import frozen

from seg import hookspecs
from seg.errors import Exit, Record, SegError, nearest
from seg.files import write_text
from seg.hookspecs import GROUP, KINDS, Offer
from seg.kinds import INTERFACES
from seg.models import ComponentUse
from seg.options import fill

Status = Literal["ok", "slow", "broken", "clash"]
_TARGET = re.compile(r"\w+(\.\w+)*:\w+")
LONGEST_REASON = 300  # characters
SLOW_ADVICE = "imports torch at top; move that import into the method that builds the network"


@frozen(kw_only=True)
class Plugin:
    """One entry point of the group `seg`, as it was found."""

    name: str
    distribution: str
    version: str
    status: Status
    reason: str = ""
    import_ms: int = 0


@frozen(kw_only=True)
class Component:
    """One offer, with its origin."""

    kind: str
    name: str
    summary: str
    target: str
    plugin: Plugin

    @property
    def qualified(self) -> str:
        """`distribution:name`, which always names exactly one distribution's component."""
        return f"{self.plugin.distribution}:{self.name}"


@frozen(kw_only=True)
class Registry:
    """All components and plugins that were found."""

    components: tuple[Component, ...]
    plugins: tuple[Plugin, ...]

    def of_kind(self, kind: str) -> list[Component]:
        """The components of one kind, in order of discovery."""
        return [component for component in self.components if component.kind == kind]

    def find(self, kind: str, name: str) -> Component:
        """The component `name` (or `distribution:name`) of a kind.

        Raises:
            SegError: there is none of that name (exit 2), it comes from a broken plugin or from two (exit 6).
        """
        if kind not in KINDS:
            raise _unknown("SEG-C05", f"no kind of component is called {kind!r}", sorted(KINDS), kind, "")
        known = self.of_kind(kind)
        found = [item for item in known if name in (item.name, item.qualified)]
        if len(found) > 1:
            names = ", ".join(item.qualified for item in found)
            raise SegError(Record(code="SEG-P02", found=f"{kind} {name!r} is offered by {len(found)} plugins",
                                  expected=f"one of {names}"), Exit.PLUGIN)
        if found:
            return found[0]
        self._refuse_broken(kind, name)
        broken = [plugin.name for plugin in self.plugins if plugin.status == "broken"]
        note = f" Broken plugins: {', '.join(broken)} (see `seg list-plugins`)." if broken else ""
        raise _unknown("SEG-C05", f"no {kind} is called {name!r}", [item.name for item in known], name, note)

    def _refuse_broken(self, kind: str, name: str) -> None:
        parts = {name, *name.split(":")}
        for plugin in self.plugins:
            if plugin.status == "broken" and parts & {plugin.name, plugin.distribution}:
                raise SegError(Record(code="SEG-P01", found=f"{kind} {name!r} is of the plugin {plugin.name} "
                                      f"({plugin.distribution} {plugin.version}), which is broken: {plugin.reason}"),
                               Exit.PLUGIN)

    def build(self, kind: str, name: str, options: dict[str, Any] | None = None) -> tuple[Any, ComponentUse]:
        """The component with its options filled in, and the record of its use.

        Raises:
            SegError: as `find`; an unknown option or a bad value (exit 2); the plugin does not deliver (exit 6).
        """
        component = self.find(kind, name)
        found = load_class(component)
        try:
            instance = fill(found, options or {}, kind)
        except SegError:
            raise
        except Exception as error:
            raise _plugin_fault(component, f"{component.target} cannot be made: {_tell(error)}") from error
        if not isinstance(instance, INTERFACES[kind]):
            missing = [method for method in _methods(INTERFACES[kind]) if not hasattr(instance, method)]
            raise _plugin_fault(component, f"{component.target} is no {kind}: it lacks {', '.join(missing)}")
        from seg.convert import to_data

        use = ComponentUse(kind=kind, name=component.name, distribution=component.plugin.distribution,
                           version=component.plugin.version, options=to_data(instance))
        return instance, use


def load_class(component: Component) -> type:
    """The attrs class behind a component.

    Raises:
        SegError: it cannot be imported (exit 6), with plugin, version and reason.
    """
    import attrs

    module, _, name = component.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _plugin_fault(component, f"{component.target} cannot be imported: {_tell(error)}") from error
    if not (isinstance(found, type) and attrs.has(found)):
        raise _plugin_fault(component, f"{component.target} is no attrs class")
    return found


def discover() -> Registry:
    """Every plugin of the group `seg` that is installed, each looked at by itself."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    memory = _Memory.read()
    plugins: list[Plugin] = []
    components: list[Component] = []
    for entry in _unique(entry_points(group=GROUP)):
        plugin, offers = memory.recall(entry) or _import(manager, entry, memory)
        plugins.append(plugin)
        components += [Component(kind=kind, name=offer.name, summary=offer.summary, target=offer.target, plugin=plugin)
                       for kind, offer in offers]
    memory.write()
    return Registry(components=tuple(components), plugins=tuple(plugins))


def clashes(registry: Registry) -> dict[tuple[str, str], list[str]]:
    """Kind and name of every component that more than one plugin offers, with the qualified names."""
    found: dict[tuple[str, str], list[str]] = {}
    for component in registry.components:
        found.setdefault((component.kind, component.name), []).append(component.qualified)
    return {key: names for key, names in found.items() if len(names) > 1}


Offers = list[tuple[str, Offer]]


def _import(manager: pluggy.PluginManager, entry: EntryPoint, memory: _Memory) -> tuple[Plugin, Offers]:
    """Import one light module and ask its hooks; whatever goes wrong becomes its status."""
    distribution, version = _origin(entry)
    started, had_torch = time.perf_counter(), "torch" in sys.modules
    key = f"{distribution}:{entry.name}"
    offers: Offers = []
    reason = ""
    try:
        with redirect_stdout(sys.stderr):  # what it prints is none of the command's output
            manager.register(entry.load(), name=key)
            manager.check_pending()  # a misspelt hook
            offers = _ask(manager, key)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit included
        reason = _tell(error)
        if manager.has_plugin(key):
            manager.unregister(name=key)
    took = round(1000 * (time.perf_counter() - started))
    slow = not had_torch and "torch" in sys.modules and not reason
    status: Status = "broken" if reason else "slow" if slow else "ok"
    plugin = Plugin(name=entry.name, distribution=distribution, version=version, status=status,
                    reason=SLOW_ADVICE if slow else reason, import_ms=took)
    if slow:  # a broken one is looked at again, since what it lacks may be installed meanwhile
        memory.keep(entry, plugin, offers)
    return plugin, offers


def _ask(manager: pluggy.PluginManager, key: str) -> Offers:
    offers: Offers = []
    for kind, hook in KINDS.items():
        caller = getattr(manager.hook, hook)
        for implementation in caller.get_hookimpls():
            if implementation.plugin_name != key:
                continue
            answer = implementation.function()
            if not isinstance(answer, Iterable):
                raise TypeError(f"{hook} gave {answer!r}, expected an iterable of seg.Offer")
            for offer in answer:
                if not isinstance(offer, Offer):
                    raise TypeError(f"{hook} gave {offer!r}, expected a seg.Offer")
                if not all(isinstance(text, str) for text in (offer.name, offer.target, offer.summary)):
                    raise TypeError(f"{hook} gave {offer!r}, expected texts")
                if not _TARGET.fullmatch(offer.target):
                    raise ValueError(f"{hook} gave the target {offer.target!r}, expected 'module:Class'")
                offers.append((kind, offer))
    return offers


class _Memory:
    """What slow plugins offered, kept between commands; losing it costs time only."""

    def __init__(self, path: Path, kept: dict[str, Any]) -> None:
        self._path, self._kept, self._changed = path, kept, False

    @classmethod
    def read(cls) -> _Memory:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seg" / "slow_plugins.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        return cls(path, kept if isinstance(kept, dict) else {})

    def recall(self, entry: EntryPoint) -> tuple[Plugin, Offers] | None:
        stored = self._kept.get(_key(entry)) if self._kept else None
        if stored is None:
            return None
        try:
            return Plugin(**stored["plugin"]), [(kind, Offer(*offer)) for kind, *offer in stored["offers"]]
        except (TypeError, KeyError):
            return None

    def keep(self, entry: EntryPoint, plugin: Plugin, offers: Offers) -> None:
        from attrs import asdict

        rows = [[kind, offer.name, offer.target, offer.summary] for kind, offer in offers]
        self._kept[_key(entry)] = {"plugin": asdict(plugin), "offers": rows}
        self._changed = True

    def write(self) -> None:
        if not self._changed:
            return
        with suppress(SegError, OSError):
            write_text(self._path, json.dumps(self._kept))


def _key(entry: EntryPoint) -> str:
    """Distribution, version, module and the times of its files; found without importing it."""
    distribution, version = _origin(entry)
    changed = 0
    with suppress(ImportError, OSError, ValueError, AttributeError):
        package, *inner = entry.module.split(".")
        spec = find_spec(package)
        if spec and spec.origin:
            file = Path(spec.origin)
            module = file.parent.joinpath(*inner).with_suffix(".py")
            changed = max(path.stat().st_mtime_ns for path in (file, module) if path.is_file())
    return f"{distribution} {version} {entry.value} {changed}"


def _unique(entries: Iterable[EntryPoint]) -> Sequence[EntryPoint]:
    """Ours first, then by distribution and name; the same distribution found twice on the path counts once."""
    found = {(*_origin(entry), entry.name, entry.value): entry for entry in entries}
    return [found[key] for key in sorted(found, key=lambda key: (key[0] != "segplug", key))]


def _origin(entry: EntryPoint) -> tuple[str, str]:
    """Distribution and version; what is left of a half-removed one may have neither."""
    with suppress(Exception):
        if entry.dist:
            return entry.dist.name or "unknown", entry.dist.version or "0"
    return "unknown", "0"


def _methods(interface: type) -> list[str]:
    return [name for name in (*vars(interface), *interface.__annotations__) if not name.startswith("_")]


def _tell(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
    hook = re.search(r"unknown hook '(\w+)'", text)
    return f"{text}. {nearest(hook[1], list(KINDS.values()))}" if hook else text


def _plugin_fault(component: Component, found: str) -> SegError:
    plugin = component.plugin
    return SegError(Record(code="SEG-P03", found=f"{component.kind} {component.name!r} of {plugin.distribution} "
                           f"{plugin.version}: {found}"), Exit.PLUGIN)


def _unknown(code: str, found: str, known: list[str], name: str, note: str) -> SegError:
    return SegError(Record(code=code, found=found, expected="one of " + ", ".join(known),
                           advice=nearest(name, known) + note), Exit.USAGE)
