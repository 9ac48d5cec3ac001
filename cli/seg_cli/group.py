"""The commands of `seg`: the built-in ones, then those that plugins offer (`seg.hookspecs.seg_commands`).

A built-in command never waits for discovery. Plugins are looked for where a name is none of ours, and for `seg --help`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from seg.errors import SegError, tell
from seg_cli.choosing import registry

if TYPE_CHECKING:
    from seg.registry import Component

OURS = (SegError, BrokenPipeError, MemoryError, typer.Abort)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: all that is open is closed on the way out, and no plugin can catch it that lets Ctrl-C through."""


class Stopped(BaseException):
    """A signal stopped a command; the exit code is 128 + the signal's number."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Commands(TyperGroup):
    """Built-in commands first, then those of plugins."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None if there is none.

        Raises:
            SegError: it is a plugin's that is broken, that two offer, or that cannot be imported (exit 6).
        """
        found = super().get_command(ctx, cmd_name)
        if found is not None or cmd_name.startswith("-"):
            return found
        component = registry(ctx).find_command(cmd_name)
        return None if component is None else _command(component)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands, and under a heading of their own those of plugins, of which nothing is imported.

        Where plugins cannot be looked for, the reason stands there: who asks for help shall get it.
        """
        super().format_commands(ctx, formatter)
        try:
            offered = self._offered(ctx)
        except SegError as error:
            with formatter.section("Commands of plugins"):
                formatter.write_text(str(error))
            return
        rows = [(name, f"{item.summary} ({item.plugin.distribution})".strip()) for name, item in offered]
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Stopped(143 if isinstance(error, Terminated) else 130) from error

    def _offered(self, ctx: Any) -> list[tuple[str, Component]]:
        """The commands of plugins by the shortest name that calls them."""
        commands = registry(ctx).commands
        names = [*self.commands, *(item.name for item in commands)]
        return [(item.name if names.count(item.name) == 1 else item.qualified, item) for item in commands]


def _command(component: Component) -> Any:
    """A plugin's function as a command, with its annotated parameters."""
    from seg.registry import load_function, plugin_fault

    function = load_function(component)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    try:
        app.command(component.name)(_guarded(function, component))
        return typer.main.get_command(app)
    except Exception as error:
        raise plugin_fault(component, f"{component.target} cannot be made a command: {tell(error)}") from error


def _guarded(function: Callable[..., Any], component: Component) -> Callable[..., Any]:
    """`function`, whose bugs are told as the plugin's."""
    from seg.registry import plugin_fault

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            if isinstance(error, OURS) or hasattr(error, "exit_code"):  # usage errors, typer.Exit, signals in training
                raise
            raise plugin_fault(component, f"failed: {tell(error)}") from error

    return call
