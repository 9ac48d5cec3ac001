"""Finding plugins: each light module of the group `seg` is imported by itself, and asked what it offers.

One that fails is listed as broken and harms nothing else; one that asks for another `segplug` is refused before it is
imported. A module that takes long to import, or brings torch along, is imported once; what it offered (or why it is
broken) is remembered, so that listing does not pay for it again (see `seg._memory`). It is imported for good when one
of its components is chosen, or when something happens that it listens to.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any

import pluggy
from attrs import evolve, frozen

from seg import hookspecs
from seg._memory import Memory
from seg.choice import OURS, PluginChoice
from seg.errors import Exit, Record, SegError, nearest, tell
from seg.hookspecs import COMMANDS, EVENTS, GROUP, KINDS, Offer
from seg.installed import Installed, installed, local
from seg.registry import UNUSABLE, Component, Listener, Origin, Plugin, Registry, Status

_TARGET = re.compile(r"\w+(\.\w+)*:\w+")
COMMAND = "command"  # stands where a kind does, for offers of commands
TORCH_ADVICE = "imports torch at top; move that import into the method that builds the network"
SLOW_ADVICE = "takes long to import; move heavy imports into the methods that need them"


@frozen(kw_only=True)
class Found:
    """What a plugin brings: offers as (kind or "command", offer), and its implementations of the hooks of a run."""

    offers: tuple[tuple[str, Offer], ...] = ()
    listens: tuple[tuple[str, Callable[..., Any]], ...] = ()


def discover(choice: PluginChoice | None = None) -> Registry:
    """Every plugin that is chosen, each looked at by itself; without a choice what the environment says.

    Raises:
        SegError: a name that no plugin has (exit 2); a plugin of one file that cannot be used, or, under `strict`, any
            (exit 6).
    """
    choice = choice or PluginChoice.from_environment()
    there = installed()
    choice.refuse_unknown([(item.name, item.distribution) for item in there])
    memory = Memory.read()
    plugins: list[Plugin] = []
    components: dict[tuple[str, str, str], Component] = {}  # what a distribution offers twice counts once
    listeners: list[Listener] = []
    for item in [*(item for item in there if choice.takes(item.name, item.distribution)), *_local(choice)]:
        plugin, found = _look(item, memory, choice.slow_ms)
        plugins.append(plugin)
        for kind, offer in found.offers:
            component = Component(kind=kind, name=offer.name, summary=offer.summary, target=offer.target, plugin=plugin)
            components.setdefault((kind, component.qualified, offer.target), component)
        listeners += [Listener(hook=hook, call=call, plugin=plugin) for hook, call in found.listens]
    memory.write()
    _refuse_unusable(plugins, strict=choice.strict)
    kinds = [item for item in components.values() if item.kind != COMMAND]
    commands = [item for item in components.values() if item.kind == COMMAND]
    return Registry(components=tuple(kinds), plugins=tuple(plugins), listeners=tuple(listeners),
                    commands=tuple(commands), choice=choice)


def _local(choice: PluginChoice) -> list[Installed]:
    try:
        return local(choice.files)
    except OSError as error:
        raise SegError(Record(code="SEG-P01", found=f"--plugin: {tell(error)}", expected="a Python file"),
                       Exit.PLUGIN) from None


def _refuse_unusable(plugins: Sequence[Plugin], *, strict: bool) -> None:
    records = [Record(code="SEG-P01", found=f"the plugin {plugin.name} ({plugin.distribution} {plugin.version}) is "
                      f"{plugin.status}: {plugin.reason}", advice=plugin.advice)
               for plugin in plugins if plugin.status in UNUSABLE and (strict or plugin.origin == "file")]
    if records:
        raise SegError(records, Exit.PLUGIN)


def _look(item: Installed, memory: Memory, slow_ms: int) -> tuple[Plugin, Found]:
    """What a plugin is and brings: by its metadata alone, from memory, or by importing it."""
    origin: Origin = "file" if item.file else "built in" if item.distribution == OURS else "installed"
    plugin = Plugin(name=item.name, distribution=item.distribution, version=item.version, status="ok",
                    requires=item.requires, origin=origin)
    if item.broken:
        return evolve(plugin, status="broken", reason=item.broken), Found()
    if item.refused:
        return evolve(plugin, status="refused", reason=item.refused), Found()
    if remembered := memory.recall(item):
        facts, offers, hooks = remembered
        listens = tuple((hook, _loading(item, hook)) for hook in hooks)
        return evolve(plugin, **facts), Found(offers=offers, listens=listens)
    plugin, found = _import(item, plugin, slow_ms)
    if plugin.status == "slow" or (plugin.status == "broken" and plugin.import_ms > slow_ms):
        memory.keep(item, plugin, found.offers, [hook for hook, _ in found.listens])
    return plugin, found


def _import(item: Installed, plugin: Plugin, slow_ms: int) -> tuple[Plugin, Found]:
    """Import one light module and ask its hooks; whatever goes wrong becomes its status."""
    started, had_torch = time.perf_counter(), "torch" in sys.modules
    found, reason = Found(), ""
    try:
        with redirect_stdout(sys.stderr):  # what it prints is none of the command's output
            manager = _managing(item)
            manager.check_pending()  # a misspelt hook
            found = Found(offers=_ask(manager), listens=_listens(manager))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit included
        reason = _tell(error)
    took = round(1000 * (time.perf_counter() - started))
    advice = TORCH_ADVICE if not had_torch and "torch" in sys.modules else SLOW_ADVICE if took > slow_ms else ""
    slow = bool(advice) and plugin.origin != "built in"
    status: Status = "broken" if reason else "slow" if slow else "ok"
    return evolve(plugin, status=status, reason=reason or (advice if slow else ""), import_ms=took), found


def _managing(item: Installed) -> pluggy.PluginManager:
    """A manager of this plugin alone."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(item.load())
    return manager


def _ask(manager: pluggy.PluginManager) -> tuple[tuple[str, Offer], ...]:
    """What a plugin offers."""
    offers: list[tuple[str, Offer]] = []
    for kind, hook in {**KINDS, COMMAND: COMMANDS}.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
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


def _listens(manager: pluggy.PluginManager) -> tuple[tuple[str, Callable[..., Any]], ...]:
    """A plugin's implementations of the hooks of a run, each as a function of all the hook's arguments by name."""
    return tuple((hook, _naming(implementation)) for hook in EVENTS
                 for implementation in getattr(manager.hook, hook).get_hookimpls())


def _naming(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    names = (*implementation.argnames, *implementation.kwargnames)

    def call(**facts: Any) -> Any:
        return implementation.function(**{name: facts[name] for name in names if name in facts})

    return call


def _loading(item: Installed, hook: str) -> Callable[..., Any]:
    """A listener of a slow plugin, which is imported when it is called."""

    def call(**facts: Any) -> Any:
        (implementation,) = getattr(_managing(item).hook, hook).get_hookimpls()
        return _naming(implementation)(**facts)

    return call


def _tell(error: BaseException) -> str:
    text = tell(error)
    hook = re.search(r"unknown hook '(\w+)'", text)
    return f"{text}. {nearest(hook[1], [*KINDS.values(), COMMANDS, *EVENTS])}" if hook else text
