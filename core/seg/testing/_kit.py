"""Choosing checks and holding components, plugins and whole registries to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

from attrs import frozen

from seg.errors import SegError, nearest, tell, usage_error
from seg.hookspecs import COMMANDS, EVENTS, KINDS, Offer
from seg.kinds import INTERFACES
from seg.registry import UNUSABLE, Component, Plugin, Registry, load_class
from seg.testing import _architectures, _endings, _executors, _measures, _patches, _planning, _training
from seg.testing._check import Check, expect, interface_check

_OWN = (*_planning.CHECKS, *_architectures.CHECKS, *_patches.CHECKS, *_training.CHECKS, *_endings.CHECKS,
        *_measures.CHECKS, *_executors.CHECKS)
IMPORT_TIMEOUT_S = 120


@frozen(kw_only=True)
class Failure:
    """A check that a component of an installed plugin does not pass, or a plugin that does not deliver."""

    check: str
    kind: str
    name: str
    distribution: str
    version: str
    reason: str
    message: str


def checks(kind: str) -> tuple[Check, ...]:
    """Every check of a kind ("architecture", "loss", …), the one that all kinds have first.

    Raises:
        SegError: there is no such kind (exit 2).
    """
    if kind not in KINDS:
        raise usage_error(f"no kind of component is called {kind!r}", expected="one of " + ", ".join(sorted(KINDS)),
                          advice=nearest(kind, list(KINDS)))
    return (interface_check(kind), *(check for check in _OWN if check.kind == kind))


def check_component(kind: str, component: Any) -> None:
    """Hold a component, or what a factory of it makes, to all checks of its kind.

    Raises:
        AssertionError: it does not pass one, whose id stands in front.
    """
    for check in checks(kind):
        try:
            check(_made(component, kind))
        except AssertionError as error:
            raise AssertionError(f"{check.id}: {error}") from error


def parametrize(
    kind: str, component: Any, *, expected_failures: Mapping[str, str] | None = None
) -> Callable[[Any], Any]:
    """A decorator for a pytest function of one argument `check`, which is then called once for each check of the kind.

    Args:
        kind: "architecture", "planner", …
        component: a component, its class, or a function that makes one.
        expected_failures: check id → why it cannot be passed. It must fail then (a strict xfail).

    Raises:
        SegError: there is no such kind, or no check of such an id (exit 2).
    """
    import pytest

    excused, known = dict(expected_failures or {}), checks(kind)
    for name in excused:
        ids = [check.id for check in known]
        if name not in ids:
            raise usage_error(f"no check of {kind} is called {name!r}", expected="one of " + ", ".join(ids),
                              advice=nearest(name, ids))
    marks = {name: [pytest.mark.xfail(reason=reason, strict=True)] for name, reason in excused.items()}
    parameters = [pytest.param(partial(_run, check, component), id=check.id, marks=marks.get(check.id, ()))
                  for check in known]
    return pytest.mark.parametrize("check", parameters)


def _run(check: Check, component: Any) -> None:
    try:
        check(_made(component, check.kind))
    except Exception as error:
        error.add_note(f"{check.id}: {check.reason}")
        raise


def _made(component: Any, kind: str) -> Any:
    """The component itself, or what the class or the function makes."""
    if isinstance(component, type) or (callable(component) and not isinstance(component, INTERFACES[kind])):
        return component()
    return component


def verify(registry: Registry, distributions: Collection[str] | None = None) -> list[Failure]:
    """Hold every component of the installed plugins, with its default options, to the checks of its kind.

    Args:
        registry: what was discovered.
        distributions: names of those to look at; None for all.

    Returns:
        What does not pass, in order of discovery, plugins that cannot be used first. Nothing is raised, whatever
        components do.
    """
    wanted = [plugin for plugin in registry.plugins if distributions is None or plugin.distribution in distributions]
    found = [_failure(plugin, "plugin", plugin.name, "plugin-import", "A plugin that is not imported offers nothing.",
                      plugin.reason) for plugin in wanted if plugin.status in UNUSABLE]
    for component in registry.components:
        if distributions is None or component.plugin.distribution in distributions:
            found += _verified(registry, component)
    return found


def _verified(registry: Registry, component: Component) -> Iterable[Failure]:
    plugin, kind, name = component.plugin, component.kind, component.name
    try:
        instance, _ = registry.build(kind, component.qualified)
    except SegError as error:
        check = interface_check(kind)
        return [_failure(plugin, kind, name, check.id, check.reason, str(error.records[0].found))]
    found = []
    for check in checks(kind):
        try:
            check(instance)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a stranger's component may raise anything
            message = str(error) if isinstance(error, AssertionError) else tell(error)
            found.append(_failure(plugin, kind, name, check.id, check.reason, message))
    return found


def _failure(plugin: Plugin, kind: str, name: str, check: str, reason: str, message: str) -> Failure:
    return Failure(check=check, kind=kind, name=name, distribution=plugin.distribution, version=plugin.version,
                   reason=reason, message=message)


def check_plugin(plugin: ModuleType | EntryPoint | str) -> None:
    """Hold the light module of a plugin to what discovery asks of it.

    Its hooks are known, its offers well formed, what they offer is there, and importing all of it brings no torch.

    Args:
        plugin: the module, its name, or its entry point.

    Raises:
        AssertionError: it is otherwise.
    """
    import pluggy

    from seg import hookspecs

    module: Any = plugin.load() if isinstance(plugin, EntryPoint) else plugin
    module = import_module(module) if isinstance(module, str) else module
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join([*KINDS.values(), COMMANDS, *EVENTS])
        raise AssertionError(f"found {error}; expected hooks of {known}") from error
    callers = manager.get_hookcallers(module) or []
    expect(callers, f"no hook in {module.__name__}", "at least one, marked with seg.hookimpl")
    names = [caller.name for caller in callers]
    targets = [offer.target for kind, hook in KINDS.items() if hook in names
               for offer in _offers(kind, getattr(module, hook)())]
    targets += [offer.target for offer in (getattr(module, COMMANDS)() if COMMANDS in names else ())]
    _light([module.__name__, *(target.partition(":")[0] for target in targets)])


def _offers(kind: str, answer: Any) -> list[Offer]:
    """The offers of a hook, each of which leads to a class that can be made without a word."""
    expect(isinstance(answer, Iterable), f"{KINDS[kind]} gives {answer!r}", "an iterable of seg.Offer")
    offers, origin = list(answer), Plugin(name="", distribution="", version="", status="ok")
    for offer in offers:
        expect(isinstance(offer, Offer) and offer.name and offer.summary, f"{offer!r} of {KINDS[kind]}",
               "a seg.Offer with name, target and summary")
        one = Component(kind=kind, name=offer.name, summary=offer.summary, target=offer.target, plugin=origin)
        try:
            found = load_class(one)
        except SegError as error:
            raise AssertionError(f"found {error.records[0].found}; expected a class at {offer.target}") from error
        interface_check(kind)(found())
    return offers


def _light(modules: Iterable[str]) -> None:
    """Nothing heavy comes along with these modules, in a process of their own."""
    code = (f"import sys\nsys.path[:] = {sys.path!r}\nimport importlib\n"
            f"[importlib.import_module(name) for name in {list(dict.fromkeys(modules))!r}]\n"
            "print([name for name in ('torch', 'SimpleITK') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,  # noqa: S603
                          timeout=IMPORT_TIMEOUT_S)
    expect(done.returncode == 0, f"{done.stderr.strip().splitlines()[-1:]} on import", "modules that import")
    heavy = done.stdout.strip().splitlines()[-1]
    expect(heavy == "[]", f"{heavy} imported at top", "heavy imports in the methods that need them")
