"""What differs between two plans, value by value, with the reasons of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from seg.convert import from_data, load_json
from seg.errors import Exit, Record, SegError
from seg.explain import value_text
from seg.models import Configuration, Plan
from seg.nnunet_files import read_plan_file

FILES = ("plan.json", "model.json", "plans.json")
"""Where a run folder, a model and nnU-Net's model folder have their plan."""
NO_VALUES = {"schema", "source", "reasons", "configurations"}
ROUNDING = 1e-9  # relative: spacings go through other programs' files


@frozen(kw_only=True)
class Difference:
    """A value that is not the same in both plans; None where one of them has no such value."""

    name: str  # of the field, with dots inside: topology.features
    first: Any
    second: Any
    first_reason: str = ""
    second_reason: str = ""

    @property
    def texts(self) -> tuple[str, str]:
        """Both values as a person reads them, with as many digits as tell them apart."""
        short = value_text(self.first), value_text(self.second)
        return short if short[0] != short[1] else (repr(self.first), repr(self.second))


@frozen(kw_only=True)
class PlanDifferences:
    """All differences of two plans; `configurations` has those of each configuration that both have."""

    plan: tuple[Difference, ...]
    configurations: dict[str, tuple[Difference, ...]]
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.plan or self.only_first or self.only_second or any(self.configurations.values()))


def find_plan(path: Path) -> Plan:
    """The plan in a file of ours or of nnU-Net's, in a run folder, or in a model; as it was planned, before any budget.

    Raises:
        SegError: there is none, or it cannot be read (exit 2); nnU-Net's has no `dataset.json` beside it.
    """
    file = path
    if path.is_dir():
        there = [path / name for name in FILES if (path / name).is_file()]
        if not there:
            raise SegError(Record(code="SEG-C08", found=f"none of {', '.join(FILES)}", file=str(path),
                                  expected="a plan, a run folder or a model"), Exit.USAGE)
        file = there[0]
    data = load_json(file)
    if isinstance(data, dict) and "plan" in data and "members" in data:
        return from_data(data["plan"], Plan, file=f"{file}: plan")
    return read_plan_file(file)


def compare_plans(first: Plan, second: Plan) -> PlanDifferences:
    """Every value that differs. Other reasons alone are no difference, nor is what a file's rounding does."""
    both = [name for name in first.configurations if name in second.configurations]
    return PlanDifferences(
        plan=_differences(first, second),
        configurations={name: _differences(first.configurations[name], second.configurations[name]) for name in both},
        only_first=tuple(name for name in first.configurations if name not in both),
        only_second=tuple(name for name in second.configurations if name not in both),
    )


def _differences(first: Plan | Configuration, second: Plan | Configuration) -> tuple[Difference, ...]:
    a, b = dict(_values(first)), dict(_values(second))
    return tuple(
        Difference(name=name, first=a.get(name), second=b.get(name), first_reason=_reason(first.reasons, name),
                   second_reason=_reason(second.reasons, name))
        for name in dict.fromkeys((*a, *b)) if not _same(a.get(name), b.get(name))
    )


def _values(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted name: classes by their fields, lists of them by number."""
    if attrs.has(type(value)):
        parts = [(field.name, getattr(value, field.name)) for field in attrs.fields(type(value))]
    elif isinstance(value, tuple) and value and all(attrs.has(type(item)) for item in value):
        parts = [(str(number), item) for number, item in enumerate(value)]
    else:
        yield name, value
        return
    for part, inner in parts:
        if part not in NO_VALUES:
            yield from _values(inner, f"{name}.{part}" if name else part)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=ROUNDING)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def _reason(reasons: Mapping[str, str], name: str) -> str:
    """The reason of a field, or that of the whole it belongs to."""
    return reasons.get(name) or reasons.get(name.partition(".")[0], "")
