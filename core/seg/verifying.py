"""Trying every component of every plugin, without data: what `seg list-plugins --verify` does."""

from __future__ import annotations

from seg.errors import Record
from seg.registry import UNUSABLE, Registry


def verify(registry: Registry) -> list[Record]:
    """What is wrong with plugins and components: those that cannot be used, and those that fail in the test kit.

    Every component is imported and built with its defaults, which takes torch and some seconds.
    """
    from seg.testing import verify as failures

    records = [Record(code="SEG-P01", found=f"the plugin {plugin.name} ({plugin.distribution} {plugin.version}) is "
                      f"{plugin.status}: {plugin.reason}", advice=plugin.advice)
               for plugin in registry.plugins if plugin.status in UNUSABLE]
    return records + [Record(code="SEG-P10", found=f"{failure.kind} {failure.name} of {failure.distribution} "
                             f"{failure.version}, {failure.check}: {failure.message}", advice=failure.reason)
                      for failure in failures(registry)]
