"""Between attrs classes and JSON or TOML: strict both ways.

No value is bent into another type, no key is skipped: `1.9` is no integer, `"false"` is no boolean, a misspelt key is
an error that names the file, the key and the nearest right one. All mistakes of a file come in one error.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationError, IterableValidationNote
from cattrs.v import format_exception

from seg.errors import Exit, Record, SegError, nearest
from seg.files import write_text

T = TypeVar("T")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")


def to_data(value: Any) -> Any:
    """An attrs instance as plain dictionaries, lists and numbers."""
    return _converter().unstructure(value)


def from_data(data: Any, kind: type[T], *, file: str = "settings", exit_code: Exit = Exit.USAGE) -> T:
    """An instance of the attrs class `kind` from plain data.

    Raises:
        SegError: one record for each mistake, with its path inside `file`.
    """
    try:
        return _converter().structure(data, kind)
    except cattrs.BaseValidationError as error:
        messages = _messages(error)
    except (TypeError, ValueError, KeyError) as error:
        messages = [str(error)]
    records = [Record(code="SEG-C02", found=message, file=file) for message in messages]
    raise SegError(records, exit_code)


def read_json(path: Path, kind: type[T], *, exit_code: Exit = Exit.USAGE) -> T:
    """Read the JSON file `path` as an instance of `kind`; see `from_data`."""
    return from_data(load_json(path, exit_code=exit_code), kind, file=str(path), exit_code=exit_code)


def load_json(path: Path, *, exit_code: Exit = Exit.USAGE) -> Any:
    """The plain content of a JSON file.

    Raises:
        SegError: the file is not there or no JSON; the record shows line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SegError(Record(code="SEG-C03", found=_reason(error), file=str(path)), exit_code) from None


def load_toml(path: Path) -> dict[str, Any]:
    """The plain content of a TOML file; errors as in `load_json`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SegError(Record(code="SEG-C03", found=_reason(error), file=str(path)), Exit.USAGE) from None


def write_json(path: Path, value: Any) -> None:
    """Write an attrs instance or plain data as readable JSON, whole or not at all."""
    write_text(path, dump_json(value))


def dump_json(value: Any) -> str:
    """Readable JSON: short lists stay on one line, so that a plan can be read by eye."""
    return _layout(to_data(value), "") + "\n"


def _layout(value: Any, indent: str) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (len(indent) + len(flat) <= 110 and not _nested(value)):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(str(key), ensure_ascii=False)}: {_layout(item, inner)}"
                for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + _layout(item, inner) for item in value) + f"\n{indent}]"


def _nested(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else f"cannot be read: {error}"


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for primitive in (int, float, str, bool):
        converter.register_structure_hook(primitive, _exact)
    converter.register_structure_hook_factory(attrs.has, lambda kind: _table(converter, kind))
    converter.register_structure_hook_func(lambda kind: kind == int | tuple[int, ...], _int_or_ints)
    converter.register_structure_hook(Path, lambda value, _: Path(_exact(value, str)))
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook_func(_is_sequence, lambda value, kind: _sequence(converter, value, kind))
    converter.register_structure_hook_func(_is_number_dict, lambda value, kind: _number_keys(converter, value, kind))
    return converter


def _exact(value: Any, kind: Any) -> Any:
    if type(value) is kind:  # isinstance would let True be an int
        if kind is float and not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {value!r}")
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise TypeError(f"expected {kind.__name__}, got {value!r}")


def _table(converter: cattrs.Converter, kind: Any) -> Callable[[Any, Any], Any]:
    """Fills an attrs class from a table, and from nothing else."""
    fill = converter.gen_structure_attrs_fromdict(kind)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected a table, got {value!r}")
        return fill(value, kind)

    return structure


def _int_or_ints(value: Any, _: Any) -> int | tuple[int, ...]:
    return tuple(_exact(item, int) for item in value) if isinstance(value, list | tuple) else _exact(value, int)


def _is_sequence(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is tuple


def _sequence(converter: cattrs.Converter, value: Any, kind: Any) -> tuple[Any, ...]:
    """A text is no list of its letters."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"expected a list, got {value!r}")
    kinds = kind.__args__
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"expected {len(kinds)} values, got {value!r}")
    return tuple(_each(converter, zip(range(len(value)), value, kinds, strict=True), kind))


def _each(converter: cattrs.Converter, items: Iterable[tuple[Any, Any, Any]], kind: Any) -> list[Any]:
    """Every (place, value, kind) structured; all mistakes come in one error, each with its place."""
    found, errors = [], []
    for place, value, of in items:
        try:
            found.append(converter.structure(value, of))
        except Exception as error:  # noqa: BLE001 - collected, and raised below
            error.add_note(IterableValidationNote(f"Structuring {kind} @ {place!r}", place, of))
            errors.append(error)
    if errors:
        raise IterableValidationError(f"While structuring {kind}", errors, kind)
    return found


def _is_number_dict(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is dict and kind.__args__[0] is int


def _number_keys(converter: cattrs.Converter, value: Any, kind: Any) -> dict[int, Any]:
    """JSON writes integer keys as text."""
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, got {value!r}")
    wrong = [key for key in value if not (type(key) is int or (isinstance(key, str) and _WHOLE.fullmatch(key)))]
    if wrong:
        raise ValueError(f"expected whole numbers as keys, got {wrong[0]!r}")
    items = ((int(key), item, kind.__args__[1]) for key, item in value.items())
    return dict(zip(map(int, value), _each(converter, items, kind), strict=True))


def _messages(error: cattrs.BaseValidationError) -> list[str]:
    return cattrs.transform_error(error, path="$", format_exception=_one_message)


def _one_message(error: BaseException, kind: type | None) -> str:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)] if attrs.has(error.cl) else []
        hints = [f"unknown key {key!r}. {nearest(key, known)}".strip() for key in sorted(error.extra_fields)]
        return "; ".join(hints)
    if isinstance(error, KeyError):
        return f"the key {error.args[0]!r} is missing"
    if isinstance(error, TypeError | ValueError) and error.args:
        return str(error.args[0])
    return format_exception(error, kind)
