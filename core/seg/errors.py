"""Faults, told once and in full: a record says what was found, what was expected and what to do.

A `Record` is a fact about one place of the input; a `SegError` carries one or more of them and the exit code of the
command. Whatever is not a `SegError` is a bug of ours (exit 1).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

from attrs import frozen

LONGEST_REASON = 300  # characters
Severity = Literal["error", "warning", "note"]


class Exit(IntEnum):
    """What the exit code of a command means."""

    DONE = 0
    BUG = 1
    USAGE = 2
    DATA = 3
    PARTLY = 4
    RESOURCES = 5
    PLUGIN = 6
    UNSAFE = 7


@frozen(kw_only=True)
class Record:
    """One fault: where, what was found, what was expected, what to do.

    `code` is stable and documented (`SEG-D05`): the letter says the area (D data, C configuration, P plugin,
    R resource, M model, T training).
    """

    code: str
    found: str
    expected: str = ""
    advice: str = ""
    case: str | None = None
    file: str | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        where = " ".join(part for part in (f"case {self.case}" if self.case else "", self.file or "") if part)
        text = f"{self.code} {self.severity}" + (f" [{where}]" if where else "") + f": {self.found}"
        text += f"; expected {self.expected}" if self.expected else ""
        return text + (f". {self.advice}" if self.advice else "")


class SegError(Exception):
    """A refusal that is not our bug: its records, and the exit code of the command."""

    def __init__(self, records: Record | list[Record], exit_code: Exit = Exit.DATA) -> None:
        self.records = [records] if isinstance(records, Record) else list(records)
        self.exit_code = exit_code
        super().__init__("\n".join(str(record) for record in self.records))


def usage_error(found: str, *, expected: str = "", advice: str = "", file: str | None = None) -> SegError:
    """A mistake in settings or on the command line (exit 2)."""
    record = Record(code="SEG-C01", found=found, expected=expected, advice=advice, file=file)
    return SegError(record, Exit.USAGE)


def nearest(word: str, known: list[str]) -> str:
    """"Did you mean 'x'?" for the known word nearest to `word`, or an empty text if none is near."""
    from difflib import get_close_matches

    match = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {match[0]!r}?" if match else ""


def tell(error: BaseException) -> str:
    """What went wrong in code that is not ours, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
