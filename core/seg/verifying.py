"""Trying every component of every plugin, without data: what `seg list-plugins --verify` does."""

from __future__ import annotations

from seg.errors import Record
from seg.registry import Registry


def verify(registry: Registry) -> list[Record]:
    """What is wrong with plugins and components: those that cannot be used, and those that fail in the test kit.

    Every component is imported and built with its defaults, which takes torch and some seconds.
    """
    from seg.testing import verify as failures

    return [Record(code="SEG-P01" if failure.kind == "plugin" else "SEG-P10", advice=failure.reason,
                   found=f"{failure.kind} {failure.name} of {failure.distribution} {failure.version}, {failure.check}: "
                   f"{failure.message}")
            for failure in failures(registry)]
