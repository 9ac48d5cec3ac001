"""Which plugins a command uses: what the environment says, `--plugin FILE.py` and `--no-plugin NAME` on its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from seg.choice import PluginChoice
from seg.errors import usage_error

if TYPE_CHECKING:
    from seg.registry import Registry

EPILOG = ("With every command: --plugin FILE.py uses the plugin in a file, --no-plugin NAME leaves one out (both "
          "repeatable), --debug shows tracebacks.")
EXPECTED = {"--plugin": "--plugin FILE.py", "--no-plugin": "--no-plugin NAME"}


def take_choice(arguments: Sequence[str]) -> tuple[PluginChoice, list[str]]:
    """The choice of plugins, and the words of the line that are not about it; behind `--` all words are others'.

    Raises:
        SegError: one of the two options without its value (exit 2).
    """
    found: dict[str, list[str]] = {option: [] for option in EXPECTED}
    rest, words = [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif option in found:
            given = value if equals else next(words, "")
            if not given or (not equals and given.startswith("-")):
                raise usage_error(f"{option} without a value", expected=EXPECTED[option])
            found[option].append(given)
        else:
            rest.append(word)
    choice = PluginChoice.from_environment(without=found["--no-plugin"], files=list(map(Path, found["--plugin"])))
    return choice, rest


def registry(context: typer.Context) -> Registry:
    """The components that this command may use; see `seg.discovery.discover` for what it raises."""
    from seg.discovery import discover

    return discover(context.find_object(PluginChoice))
