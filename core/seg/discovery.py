"""Finding plugins: each light module of the group `seg` is imported by itself, and asked what it offers.

One that fails is listed as broken and harms nothing else. A module that brings torch along is imported once; what it
offered is remembered by distribution, version and file time, so that listing does not pay for it again, and it is
imported for good when one of its components is chosen, or when something happens that it listens to.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout, suppress
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pluggy
from attrs import frozen

from seg import hookspecs
from seg.errors import SegError, nearest, tell
from seg.files import write_text
from seg.hookspecs import COMMANDS, EVENTS, GROUP, KINDS, Offer
from seg.registry import Component, Listener, Plugin, Registry, Status

_TARGET = re.compile(r"\w+(\.\w+)*:\w+")
COMMAND = "command"  # stands where a kind does, for offers of commands
SLOW_ADVICE = "imports torch at top; move that import into the method that builds the network"


@frozen(kw_only=True)
class Found:
    """What a plugin brings: offers as (kind or "command", offer), and its implementations of the hooks of a run."""

    offers: tuple[tuple[str, Offer], ...] = ()
    listens: tuple[tuple[str, Callable[..., Any]], ...] = ()


def discover() -> Registry:
    """Every plugin of the group `seg` that is installed, each looked at by itself."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    memory = _Memory.read()
    plugins: list[Plugin] = []
    components: list[Component] = []
    listeners: list[Listener] = []
    for entry in _unique(entry_points(group=GROUP)):
        plugin, found = memory.recall(entry) or _import(manager, entry, memory)
        plugins.append(plugin)
        components += [Component(kind=kind, name=offer.name, summary=offer.summary, target=offer.target, plugin=plugin)
                       for kind, offer in found.offers]
        listeners += [Listener(hook=hook, call=call, plugin=plugin) for hook, call in found.listens]
    memory.write()
    commands = [item for item in components if item.kind == COMMAND]
    return Registry(components=tuple(item for item in components if item.kind != COMMAND), plugins=tuple(plugins),
                    listeners=tuple(listeners), commands=tuple(commands))


def _import(manager: pluggy.PluginManager, entry: EntryPoint, memory: _Memory) -> tuple[Plugin, Found]:
    """Import one light module and ask its hooks; whatever goes wrong becomes its status."""
    distribution, version = _origin(entry)
    started, had_torch = time.perf_counter(), "torch" in sys.modules
    key = f"{distribution}:{entry.name}"
    found, reason = Found(), ""
    try:
        with redirect_stdout(sys.stderr):  # what it prints is none of the command's output
            manager.register(entry.load(), name=key)
            manager.check_pending()  # a misspelt hook
            found = Found(offers=_ask(manager, key), listens=_listens(manager, key))
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
        memory.keep(entry, plugin, found)
    return plugin, found


def _ask(manager: pluggy.PluginManager, key: str) -> tuple[tuple[str, Offer], ...]:
    """What a plugin offers."""
    offers: list[tuple[str, Offer]] = []
    for kind, hook in {**KINDS, COMMAND: COMMANDS}.items():
        for implementation in _implementations(manager, key, hook):
            answer = implementation.function()
            if not isinstance(answer, Iterable):
                raise TypeError(f"{hook} gave {answer!r}, expected an iterable of seg.Offer")
            offers += [(kind, _checked(offer, hook)) for offer in answer]
    return tuple(offers)


def _checked(offer: Any, hook: str) -> Offer:
    if not isinstance(offer, Offer):
        raise TypeError(f"{hook} gave {offer!r}, expected a seg.Offer")
    if not all(isinstance(text, str) for text in (offer.name, offer.target, offer.summary)):
        raise TypeError(f"{hook} gave {offer!r}, expected texts")
    if not _TARGET.fullmatch(offer.target):
        raise ValueError(f"{hook} gave the target {offer.target!r}, expected 'module:Class'")
    return offer


def _listens(manager: pluggy.PluginManager, key: str) -> tuple[tuple[str, Callable[..., Any]], ...]:
    """A plugin's implementations of the hooks of a run, each as a function of all the hook's arguments by name."""
    return tuple((hook, _naming(implementation)) for hook in EVENTS
                 for implementation in _implementations(manager, key, hook))


def _implementations(manager: pluggy.PluginManager, key: str, hook: str) -> list[pluggy.HookImpl]:
    return [each for each in getattr(manager.hook, hook).get_hookimpls() if each.plugin_name == key]


def _naming(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    names = (*implementation.argnames, *implementation.kwargnames)

    def call(**facts: Any) -> Any:
        return implementation.function(**{name: facts[name] for name in names if name in facts})

    return call


def _loading(entry: EntryPoint, hook: str) -> Callable[..., Any]:
    """A listener of a slow plugin, which is imported when it is called."""

    def call(**facts: Any) -> Any:
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(hookspecs)
        manager.register(entry.load(), name=entry.name)
        (implementation,) = _implementations(manager, entry.name, hook)
        return _naming(implementation)(**facts)

    return call


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

    def recall(self, entry: EntryPoint) -> tuple[Plugin, Found] | None:
        stored = self._kept.get(_key(entry)) if self._kept else None
        if stored is None:
            return None
        try:
            offers = tuple((kind, Offer(*offer)) for kind, *offer in stored["offers"])
            listens = tuple((hook, _loading(entry, hook)) for hook in stored["listens"])
            return Plugin(**stored["plugin"]), Found(offers=offers, listens=listens)
        except (TypeError, KeyError):
            return None

    def keep(self, entry: EntryPoint, plugin: Plugin, found: Found) -> None:
        from attrs import asdict

        rows = [[kind, offer.name, offer.target, offer.summary] for kind, offer in found.offers]
        listens = [hook for hook, _ in found.listens]
        self._kept[_key(entry)] = {"plugin": asdict(plugin), "offers": rows, "listens": listens}
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


def _tell(error: BaseException) -> str:
    text = tell(error)
    hook = re.search(r"unknown hook '(\w+)'", text)
    return f"{text}. {nearest(hook[1], [*KINDS.values(), COMMANDS, *EVENTS])}" if hook else text
