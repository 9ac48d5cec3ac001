"""Which plugins are used: all that are installed, unless the environment or the command line says otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from seg.errors import Exit, Record, SegError, nearest

OURS = "segplug"
"""The distribution of the built-in plugins."""


@frozen(kw_only=True)
class PluginChoice:
    """Which plugins are looked at; the others are not imported.

    `only` names entry points or distributions, None is all; the built-in ones are used besides. `without` takes some
    of them away, built-in ones too. `files` are plugins of one Python file each, which are not installed. Under
    `strict` one that is broken or refused is an error. An import of more than `slow_ms` is remembered (see
    `seg.discovery`).
    """

    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    strict: bool = False
    slow_ms: int = 300

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, *, without: Sequence[str] = (), files: Sequence[Path] = ()
    ) -> PluginChoice:
        """What SEG_PLUGINS (names with commas between; empty: the built-in ones) and SEG_PLUGINS_STRICT say."""
        found = os.environ if environment is None else environment
        names = found.get("SEG_PLUGINS")
        only = None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())
        strict = found.get("SEG_PLUGINS_STRICT", "") not in ("", "0")
        return cls(only=only, without=tuple(without), files=tuple(files), strict=strict)

    def takes(self, name: str, distribution: str) -> bool:
        """Whether the entry point `name` of a distribution is used."""
        parts = {normal(name), normal(distribution)}
        if parts & set(map(normal, self.without)):
            return False
        return self.only is None or distribution == OURS or bool(parts & set(map(normal, self.only)))

    def words(self) -> tuple[str, ...]:
        """Words of a command line by which another process of this environment makes the same choice."""
        files = [word for file in self.files for word in ("--plugin", str(file.resolve()))]
        return (*files, *(word for name in self.without for word in ("--no-plugin", name)))

    def refuse_unknown(self, known: Sequence[tuple[str, str]]) -> None:
        """Refuse names that no installed plugin has; `known` are (entry point, distribution).

        Raises:
            SegError: the names, each with the nearest right one (exit 2).
        """
        names = sorted({word for pair in known for word in pair})
        there = set(map(normal, names))
        asked = [("SEG_PLUGINS", name) for name in self.only or ()] + [("--no-plugin", name) for name in self.without]
        records = [Record(code="SEG-C05", found=f"{where}: no plugin is called {name!r}",
                          expected=f"one of {', '.join(names)}", advice=nearest(name, names))
                   for where, name in asked if normal(name) not in there]
        if records:
            raise SegError(records, Exit.USAGE)


def normal(name: str) -> str:
    """A name as package indexes compare it: `Segplug_X` and `segplug-x` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()
