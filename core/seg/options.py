"""Options: the fields of a component's attrs class, with help, bounds and choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from attrs import frozen

from seg.convert import from_data, to_data
from seg.errors import Exit, Record, SegError, nearest


def option(
    default: Any,
    help: str,  # noqa: A002 - the word that users of command-line libraries know
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: Sequence[Any] = (),
) -> Any:
    """Declare an option of a component: an attrs field with its help, its bounds and its choices.

    Args:
        default: its value when nothing is said; its type is the field's annotation.
        help: one line, shown by `seg show`.
        ge: the smallest value allowed.
        le: the largest value allowed.
        choices: the values allowed.
    """
    validators: list[Any] = []
    if ge is not None:
        validators.append(attrs.validators.ge(ge))
    if le is not None:
        validators.append(attrs.validators.le(le))
    if choices:
        validators.append(attrs.validators.in_(tuple(choices)))
    metadata = {"help": help, "ge": ge, "le": le, "choices": tuple(choices)}
    return attrs.field(default=default, kw_only=True, validator=validators or None, metadata=metadata)


@frozen(kw_only=True)
class OptionInfo:
    """What `seg show` prints of one option."""

    name: str
    type: str
    default: Any
    help: str
    bounds: str


def describe(kind: type) -> list[OptionInfo]:
    """The options of an attrs class, in the order of its fields."""
    attrs.resolve_types(kind)
    return [
        OptionInfo(
            name=field.name,
            type=getattr(field.type, "__name__", str(field.type)) if not hasattr(field.type, "__args__")
            else str(field.type),
            default=to_data(field.default) if field.default is not attrs.NOTHING else None,
            help=field.metadata.get("help", ""),
            bounds=_bounds(field),
        )
        for field in attrs.fields(kind)
    ]


def fill(kind: type, values: dict[str, Any], where: str) -> Any:
    """An instance of the attrs class `kind` with `values` as options.

    Raises:
        SegError: an unknown option, a wrong type, a value out of bounds (exit 2); `where` stands before the name.
    """
    known = [field.name for field in attrs.fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        there = f"{where}.{{{', '.join(known)}}}" if known else f"no options of {where}"
        raise SegError(
            [Record(code="SEG-C04", found=f"unknown option {where}.{name}", expected=there,
                    advice=nearest(name, known)) for name in unknown],
            Exit.USAGE,
        )
    try:
        return from_data(_split(values, kind), kind, file=where)
    except SegError as error:
        forms = _list_forms(values, kind, where)
        records = [attrs.evolve(record, advice=forms.get(record.found.rpartition("$.")[2], record.advice))
                   for record in error.records]
        raise SegError(records, error.exit_code) from None


def _split(values: dict[str, Any], kind: type) -> dict[str, Any]:
    """`values` with `a,b` for an option that is a list of names as that list, so that `--set` needs no quotes."""
    if not any(isinstance(value, str) for value in values.values()):
        return values
    attrs.resolve_types(kind)
    lists = {field.name for field in attrs.fields(kind) if field.type == tuple[str, ...]}
    return {name: [part.strip() for part in value.split(",") if part.strip()]
            if name in lists and isinstance(value, str) else value for name, value in values.items()}


def _list_forms(values: dict[str, Any], kind: type, where: str) -> dict[str, str]:
    """How a list is written, for each option that is one and was given a single number."""
    attrs.resolve_types(kind)
    found = {}
    for field in attrs.fields(kind):
        value, kinds = values.get(field.name), getattr(field.type, "__args__", ())
        if getattr(field.type, "__origin__", None) is not tuple or not isinstance(value, int | float):
            continue
        fixed, known = Ellipsis not in kinds, field.default if isinstance(field.default, tuple) else ()
        name, text = f"{where}.{field.name}", str(value).lower()
        several = ",".join([text] * (len(kinds) if fixed else len(known) or 3))
        found[field.name] = f"A list is written {name}={several}"
        if not fixed:
            found[field.name] += f", one of a single value {name}={text},"
    return found


def parse_value(text: str) -> Any:
    """The value of `--set KEY=VALUE`, read as TOML where it is TOML (`8`, `0.5`, `true`, `[1, 2]`), else as text.

    `1, 2` is a list too.
    """
    import tomllib

    for form in (text, f"[{text}]" if "," in text else text):
        try:
            found = tomllib.loads(f"value = {form}")
        except tomllib.TOMLDecodeError:
            continue
        return found["value"] if len(found) == 1 else text
    return text


def _bounds(field: Any) -> str:
    choices = field.metadata.get("choices") or ()
    if choices:
        return " | ".join(str(choice) for choice in choices)
    low, high = field.metadata.get("ge"), field.metadata.get("le")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else f'{low} ≤ '}x{'' if high is None else f' ≤ {high}'}"
