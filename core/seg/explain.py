"""A plan as rows of name, value and reason: what `seg plan --explain` and the report show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from attrs import frozen

from seg.models import Configuration, Intensities, Plan, Topology

SHOWN = ("planner", "architecture", "transpose_forward", "original_median_spacing", "original_median_shape",
         "intensities", "configurations")


@frozen(kw_only=True)
class Row:
    """A line of a table of decisions: what, its value, why."""

    name: str
    value: str
    reason: str = ""


def plan_rows(plan: Plan) -> tuple[Row, ...]:
    """What a plan decides for all its configurations; reasons of unknown names come last."""
    values = {name: getattr(plan, name) for name in SHOWN}
    return tuple(_rows({**values, "configurations": tuple(plan.configurations)}, plan.reasons))


def configuration_rows(configuration: Configuration) -> tuple[Row, ...]:
    """Every value of a configuration; those of the topology under `topology`, each by its own name."""
    values: dict[str, Any] = {}
    for name, value in attrs.asdict(configuration, recurse=False).items():
        if isinstance(value, Topology):
            inner = attrs.asdict(value, recurse=False)
            values |= {name: f"{value.stages} stages", **{f"{name}.{part}": each for part, each in inner.items()}}
        elif name not in ("name", "reasons"):
            values[name] = value
    return tuple(_rows(values, configuration.reasons))


def value_text(value: Any) -> str:
    """A value as a person reads it: numbers with four digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == ():
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Intensities):
        return f"{value.mean:.4g} ± {value.std:.4g}, {value.percentile_00_5:.4g} to {value.percentile_99_5:.4g}"
    if isinstance(value, tuple):
        return ", ".join(f"({value_text(item)})" if isinstance(item, tuple) else value_text(item) for item in value)
    return str(value)


def _rows(values: dict[str, Any], reasons: dict[str, str]) -> Iterator[Row]:
    for name, value in values.items():
        yield Row(name=name, value=value_text(value), reason=reasons.get(name, ""))
    yield from (Row(name=name, value="", reason=reason) for name, reason in reasons.items() if name not in values)
