"""How plugins hear of a run and take part in it: the hooks of `seg.hookspecs.EVENTS`.

A listener that fails never stops a run: the first failure of each plugin in each hook is said as a warning, and it is
called again all the same, since a full disk or a server that is away for a minute must not cost the rest of a log. What
results depend on, `seg_plan_made`, is the exception: there a failure stops the run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from html import escape
from pathlib import Path
from threading import RLock
from typing import Any

import attrs
from attrs import evolve, frozen

from seg.convert import from_data, to_data
from seg.errors import Exit, Record, SegError, tell
from seg.events import Event
from seg.hookspecs import Section
from seg.models import Configuration, Plan
from seg.plan_diff import Difference, compare_plans
from seg.progress import Progress
from seg.registry import Listener, Registry
from seg.stages.plan import plan_faults

SECTIONS = "seg_report_sections"


class Listening:
    """A progress that also tells plugins what happens; everything is passed on to `progress` as well.

    It may be used from several threads; plugins are called one at a time.
    """

    def __init__(self, progress: Progress, registry: Registry) -> None:
        self._progress, self._registry = progress, registry
        self._failed: set[Listener] = set()
        self._lock = RLock()

    def start(self, title: str, total: int) -> None:
        """A new bar."""
        self._progress.start(title, total)

    def advance(self, steps: int = 1) -> None:
        """The bar moves on."""
        self._progress.advance(steps)

    def say(self, text: str) -> None:
        """One line of text."""
        self._progress.say(text)

    def tell(self, event: Event) -> None:
        """Every plugin that listens to `event.hook` is called with the event's fields; none can raise."""
        self._progress.tell(event)
        with self._lock:
            for listener in self._registry.listening(event.hook):
                try:
                    _call(listener, _facts(event))
                except KeyboardInterrupt:  # SIGTERM is one too
                    raise
                except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit included
                    self._say_once(listener, error)

    def _say_once(self, listener: Listener, error: BaseException) -> None:
        if listener not in self._failed:
            self._failed.add(listener)
            self._progress.say(str(Record(
                code="SEG-P06", severity="warning", found=f"{_origin(listener)} failed in {listener.hook}: "
                f"{tell(error)}", advice="The run goes on; further failures there are not told.")))


@frozen(kw_only=True)
class Added:
    """A section of the report that a plugin made, or the note that it failed to: title and HTML, and who made it."""

    title: str
    html: str
    origin: str


def sections(folder: Path, registry: Registry) -> tuple[Added, ...]:
    """What plugins add to the report of the run in `folder`; where one fails, a section says so."""
    found: list[Added] = []
    for listener in registry.listening(SECTIONS):
        origin = _origin(listener)
        try:
            made = [_checked(section) for section in _call(listener, {"folder": folder})]
            found += [Added(title=section.title, html=section.html, origin=origin) for section in made]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            found.append(Added(title=listener.plugin.name, origin=origin,
                               html=f'<p class="warning">No section: it failed with {escape(tell(error))}</p>'))
    return tuple(found)


def amended(plan: Plan, folder: Path | None, registry: Registry) -> Plan:
    """`plan` as the plugins that hear of it leave it, each asked in order with what the one before made of it.

    The reasons of what a plugin changed begin with its name and version. Names of components and the digest of the
    source stay as they were.

    Raises:
        SegError: a plugin failed, gave something that is no plan, or a plan that does not fit together (exit 6).
    """
    for listener in registry.listening("seg_plan_made"):
        try:
            given = _call(listener, {"plan": plan, "folder": folder})
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _fault(listener, tell(error)) from error
        if not isinstance(given, Plan | None):
            raise _fault(listener, f"gave {_kind(given)}", "a seg.Plan or None")
        if given is not None:
            plan = _explained(plan, _fitting(listener, plan, given), _origin(listener))
    return plan


def _call(listener: Listener, facts: Mapping[str, Any]) -> Any:
    """The listener's answer; what it prints is none of the command's output."""
    with redirect_stdout(sys.stderr):
        answer = listener.call(**facts)
        if listener.hook != SECTIONS:
            return answer
        if not isinstance(answer, Iterable):
            raise TypeError(f"gave {_kind(answer)}, expected an iterable of seg.Section")
        return list(answer)  # a generator does its work here


def _checked(section: Any) -> Section:
    if not isinstance(section, Section):
        raise TypeError(f"gave {_kind(section)}, expected a seg.Section")
    if not (isinstance(section.title, str) and isinstance(section.html, str)):
        raise TypeError(f"gave {section!r}, expected texts")
    return section


def _facts(event: Event) -> dict[str, Any]:
    """The event's fields; dictionaries are copies, so that no plugin changes what the next one hears."""
    found = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _origin(listener: Listener) -> str:
    plugin = listener.plugin
    return f"plugin {plugin.name} ({plugin.distribution} {plugin.version})"


def _fault(listener: Listener, found: str, expected: str = "") -> SegError:
    return SegError(Record(code="SEG-P03", found=f"{_origin(listener)}, {listener.hook}: {found}", expected=expected,
                           advice="Results depend on it, so nothing goes on. Repair or uninstall the plugin."),
                    Exit.PLUGIN)


def _fitting(listener: Listener, before: Plan, given: Plan) -> Plan:
    """The plan that a plugin gave, with values of the right types, if it can be trained on the same data."""
    who = f"{_origin(listener)}, {listener.hook}"
    try:
        plan = from_data(to_data(given), Plan, file=who, exit_code=Exit.PLUGIN)
        faults = plan_faults(plan)
    except SegError:
        raise
    except Exception as error:
        raise _fault(listener, f"made a plan that cannot be read: {tell(error)}") from error
    if plan.description != before.description:
        faults = [*faults, "its description is of another data set"]
    if faults:
        raise SegError([Record(code="SEG-P05", found=f"{who} made a plan that does not fit together: {fault}")
                        for fault in faults], Exit.PLUGIN)
    return evolve(plan, planner=before.planner, architecture=before.architecture, source=before.source)


def _explained(before: Plan, after: Plan, who: str) -> Plan:
    """`after` with a reason for every value in which it differs from `before`."""
    found = compare_plans(before, after)
    reasons = _reasons(before, after, found.plan, who)
    for names, what in ((found.only_second, "added"), (found.only_first, "removed")):
        if names:
            said = f"{who} {what} {', '.join(names)}."
            reasons["configurations"] = f"{reasons.get('configurations', '')} {said}".strip()
    configurations = dict(after.configurations)
    for name, differences in found.configurations.items():
        old, new = before.configurations[name], after.configurations[name]
        configurations[name] = evolve(new, reasons=_reasons(old, new, differences, who))
    return evolve(after, reasons=reasons, configurations=configurations)


def _reasons(
    before: Plan | Configuration, after: Plan | Configuration, differences: Iterable[Difference], who: str
) -> dict[str, str]:
    reasons = dict(after.reasons)
    for each in differences:
        own = reasons.get(each.name, "")
        own = "" if own == before.reasons.get(each.name, "") else own
        reasons[each.name] = f"Amended by {who}, instead of {each.texts[0]}. {own}".strip()
    return reasons
