"""What is remembered of plugins that are slow to import, between commands; losing it costs time only."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from seg.errors import SegError
from seg.files import write_text
from seg.hookspecs import EVENTS, Offer
from seg.installed import Installed, all_distributions, files_of, our_version
from seg.registry import Plugin, Status

FACTS = ("status", "reason", "import_ms")
Remembered = tuple[dict[str, Any], tuple[tuple[str, Offer], ...], list[str]]


class Memory:
    """Status, offers and hooks of slow plugins, by distribution and place.

    It holds as long as the plugin's files are the same; that one is broken, only as long as nothing else is installed
    or removed, since what it lacks may be there by then.
    """

    def __init__(self, path: Path, kept: dict[str, Any]) -> None:
        self._path, self._kept, self._changed = path, kept, False

    @classmethod
    def read(cls) -> Memory:
        """The memory in the user's cache folder."""
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seg" / "slow_plugins.json"
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        return cls(path, kept if isinstance(kept, dict) else {})

    def recall(self, item: Installed) -> Remembered | None:
        """Status, offers and hooks of a plugin; None if it has to be imported."""
        stored = self._kept.get(_key(item))
        try:
            if stored is None or stored["files"] != files_of(item.value):
                return None
            facts = {name: stored["plugin"][name] for name in FACTS}
            if facts["status"] == "broken" and stored["installed"] != self._installed:
                return None
            offers = tuple((kind, Offer(*offer)) for kind, *offer in stored["offers"])
            known = facts["status"] in get_args(Status) and set(stored["listens"]) <= set(EVENTS)
            return (facts, offers, stored["listens"]) if known else None
        except (TypeError, KeyError):
            return None

    def keep(self, item: Installed, plugin: Plugin, offers: Sequence[tuple[str, Offer]], hooks: list[str]) -> None:
        """Remember what importing a plugin told; one of a file is not remembered, since it is always wanted."""
        if item.file is not None:
            return
        rows = [[kind, offer.name, offer.target, offer.summary] for kind, offer in offers]
        self._kept[_key(item)] = {"plugin": {name: getattr(plugin, name) for name in FACTS}, "offers": rows,
                                  "listens": hooks, "files": files_of(item.value), "installed": self._installed}
        self._changed = True

    def write(self) -> None:
        """Keep it on disk, if there is anything new."""
        if not self._changed:
            return
        with suppress(SegError, OSError):
            write_text(self._path, json.dumps(self._kept))

    @cached_property
    def _installed(self) -> str:
        return all_distributions()


def _key(item: Installed) -> str:
    return f"{item.distribution} {item.version} {item.name} {item.value} {item.location} for {our_version()}"
