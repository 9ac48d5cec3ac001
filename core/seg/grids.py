"""A grid of settings: every combination of the values that are to be compared, each with a readable name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import attrs
from attrs import frozen

from seg.convert import from_data, to_data
from seg.errors import Exit, Record, SegError, nearest, usage_error
from seg.hookspecs import KINDS
from seg.options import fill, parse_value
from seg.settings import GROUPS, Settings

SEED = "seed"


@frozen(kw_only=True)
class Member:
    """One combination: its name, which is a folder's too, its value of each factor as text, and its settings."""

    name: str
    choices: dict[str, str]
    settings: Settings


def named_kinds() -> tuple[str, ...]:
    """The kinds of which the settings name one component."""
    return tuple(item.name for item in attrs.fields(Settings) if item.name in KINDS and item.type in (str, "str"))


def split_values(text: str) -> list[Any]:
    """The values of `4,8`, `unet,unetpp`, `true,false` or `[1, 2],[3, 4]`, each as `--set` would read it."""
    whole = parse_value(text)
    if isinstance(whole, list):
        return whole
    return [parse_value(part.strip()) for part in text.split(",") if part.strip()]


def make_grid(settings: Settings, factors: Mapping[str, Sequence[Any]]) -> tuple[Member, ...]:
    """The product of `factors`, the last one varying fastest; the first member is the baseline.

    Args:
        settings: what all members share.
        factors: a kind of component, `seed`, or `KIND.OPTION` (`train.…` and the like too) → its values. One of a
            single value is set and not named.

    Raises:
        SegError: unknown factors, values of the wrong type, values or names that repeat, nothing that varies (exit 2).
    """
    names = [name for name, values in factors.items() if len(values) > 1]
    if not names:
        raise usage_error("nothing varies", expected="two values of an option at least, for example "
                          "--arch unet,unetpp or --vary planner.vram_gb=4,8")
    members = []
    for values in product(*factors.values()):
        chosen = dict(zip(factors, values, strict=True))
        choices = {name: _text(chosen[name]) for name in names}
        mine = settings
        for name, value in chosen.items():
            mine = _with(mine, name, value)
        members.append(Member(name=member_name(choices), choices=choices, settings=mine))
    _refuse_repeated([member.name for member in members])
    return tuple(members)


def member_name(choices: Mapping[str, str]) -> str:
    """A readable name of a combination that may be a folder's: `unetpp-none-seed=1`."""
    parts = [value if name in KINDS else f"{name.rpartition('.')[2]}={value}" for name, value in choices.items()]
    return re.sub(r"[^\w.+=-]+", "_", "-".join(parts))


def _with(settings: Settings, name: str, value: Any) -> Settings:
    """`settings` with one value changed."""
    group, dot, key = name.partition(".")
    if dot and group in GROUPS:
        table = {**to_data(getattr(settings, group)), key: value}
        return attrs.evolve(settings, **{group: fill(GROUPS[group], table, group)})
    if dot and group in named_kinds():
        options = {**settings.options, group: {**settings.of(group), key: value}}
        return attrs.evolve(settings, options=options)
    known = [*named_kinds(), SEED]
    if dot or name not in known:
        expected = ", ".join([*known, *(f"{other}.OPTION" for other in (*named_kinds(), *GROUPS))])
        raise SegError(Record(code="SEG-C04", found=f"{name!r} cannot be varied", expected=f"one of {expected}",
                              advice=nearest(group, [*known, *GROUPS])), Exit.USAGE)
    return from_data({**to_data(settings), name: value}, Settings, file=name)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_repeated(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise usage_error(f"{len(names)} members of which several are called {', '.join(repeated)}",
                          expected="each value once")
