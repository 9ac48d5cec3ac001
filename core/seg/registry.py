"""The components that were found, where they come from, and how one is chosen (see `seg.discovery`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

from attrs import field, frozen

from seg.choice import PluginChoice
from seg.errors import Exit, Record, SegError, nearest, tell
from seg.hookspecs import COMMANDS, KINDS
from seg.kinds import INTERFACES
from seg.models import ComponentUse
from seg.options import fill

Status = Literal["ok", "slow", "broken", "refused", "clash"]
Origin = Literal["built in", "installed", "file"]
UNUSABLE = ("broken", "refused")


@frozen(kw_only=True)
class Plugin:
    """One entry point of the group `seg`, or a plugin of one file, as it was found.

    `requires` is what it asks of `segplug`, its API range ("segplug>=1,<2"); empty where any will do.
    """

    name: str
    distribution: str
    version: str
    status: Status
    reason: str = ""
    import_ms: int = 0
    requires: str = ""
    origin: Origin = "installed"

    @property
    def advice(self) -> str:
        """What makes a refused plugin usable."""
        return (f"pip install '{self.requires}', or a {self.distribution} that is made for this one."
                if self.status == "refused" else "")


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


@frozen(kw_only=True, eq=False)
class Listener:
    """A plugin's implementation of a hook that is called while a run goes on (`seg.hookspecs.EVENTS`).

    `call` takes all arguments of the hook by name, and hands on those that the implementation names.
    """

    hook: str
    call: Callable[..., Any]
    plugin: Plugin


@frozen(kw_only=True)
class Registry:
    """All components, commands, listeners and plugins that were found, in order of discovery."""

    components: tuple[Component, ...]
    plugins: tuple[Plugin, ...]
    listeners: tuple[Listener, ...] = ()
    commands: tuple[Component, ...] = ()  # of the kind "command": functions
    choice: PluginChoice = field(factory=PluginChoice)  # by which they were found

    def of_kind(self, kind: str) -> list[Component]:
        """The components of one kind, in order of discovery."""
        return [component for component in self.components if component.kind == kind]

    def listening(self, hook: str) -> list[Listener]:
        """The listeners to one hook of a run, in order of discovery."""
        return [listener for listener in self.listeners if listener.hook == hook]

    def find_command(self, name: str) -> Component | None:
        """The command `name` (or `distribution:name`) that a plugin offers; None if none does.

        Raises:
            SegError: two plugins offer it, or it is of a plugin that is broken (exit 6).
        """
        found = [item for item in self.commands if name in (item.name, item.qualified)]
        if len(found) > 1:
            raise _clash("command", name, found)
        if not found:
            self._refuse_unusable("command", name)
        return found[0] if found else None

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
            raise _clash(kind, name, found)
        if found:
            return found[0]
        self._refuse_unusable(kind, name)
        unusable = [plugin.name for plugin in self.plugins if plugin.status in UNUSABLE]
        note = f" Plugins that cannot be used: {', '.join(unusable)} (see `seg list-plugins`)." if unusable else ""
        raise _unknown("SEG-C05", f"no {kind} is called {name!r}", [item.name for item in known], name, note)

    def _refuse_unusable(self, kind: str, name: str) -> None:
        parts = {name, *name.split(":")}
        for plugin in self.plugins:
            if plugin.status in UNUSABLE and parts & {plugin.name, plugin.distribution}:
                raise SegError(Record(code="SEG-P01", found=f"{kind} {name!r} is of the plugin {plugin.name} "
                                      f"({plugin.distribution} {plugin.version}), which is {plugin.status}: "
                                      f"{plugin.reason}", advice=plugin.advice), Exit.PLUGIN)

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
            raise plugin_fault(component, f"{component.target} cannot be made: {tell(error)}") from error
        if not isinstance(instance, INTERFACES[kind]):
            missing = [method for method in _methods(INTERFACES[kind]) if not hasattr(instance, method)]
            raise plugin_fault(component, f"{component.target} is no {kind}: it lacks {', '.join(missing)}")
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

    found = _imported(component)
    if not (isinstance(found, type) and attrs.has(found)):
        raise plugin_fault(component, f"{component.target} is no attrs class")
    return found


def load_function(component: Component) -> Callable[..., Any]:
    """The function behind a command; raises as `load_class` does."""
    found = _imported(component)
    if not callable(found):
        raise plugin_fault(component, f"{component.target} is no function")
    return found  # type: ignore[no-any-return]


def _imported(component: Component) -> Any:
    module, _, name = component.target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise plugin_fault(component, f"{component.target} cannot be imported: {tell(error)}") from error


def clashes(registry: Registry) -> dict[tuple[str, str], list[str]]:
    """Kind and name of every component that more than one plugin offers, with the qualified names."""
    found: dict[tuple[str, str], list[str]] = {}
    for component in registry.components:
        found.setdefault((component.kind, component.name), []).append(component.qualified)
    return {key: names for key, names in found.items() if len(names) > 1}


def _methods(interface: type) -> list[str]:
    return [name for name in (*vars(interface), *interface.__annotations__) if not name.startswith("_")]


def _clash(kind: str, name: str, found: list[Component]) -> SegError:
    names = ", ".join(item.qualified for item in found)
    return SegError(Record(code="SEG-P02", found=f"{kind} {name!r} is offered by {len(found)} plugins",
                           expected=f"one of {names}"), Exit.PLUGIN)


def plugin_fault(component: Component, found: str) -> SegError:
    """What is wrong with one plugin's component or command (exit 6)."""
    plugin = component.plugin
    return SegError(Record(code="SEG-P03", found=f"{component.kind} {component.name!r} of {plugin.distribution} "
                           f"{plugin.version} (hook {KINDS.get(component.kind, COMMANDS)}): {found}"), Exit.PLUGIN)


def _unknown(code: str, found: str, known: list[str], name: str, note: str) -> SegError:
    return SegError(Record(code=code, found=found, expected="one of " + ", ".join(known),
                           advice=nearest(name, known) + note), Exit.USAGE)
