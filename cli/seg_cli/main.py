"""The command `seg`. Nothing here imports torch: commands import what they need when they run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from seg.errors import Exit, Record, SegError
from seg_cli.choosing import EPILOG, take_choice
from seg_cli.commands import (
    compare,
    data,
    diff_plans,
    evaluate,
    export,
    import_nnunet,
    new_plugin,
    phantom,
    plugins,
    predict,
    run,
    stages,
)
from seg_cli.console import print_records, warn
from seg_cli.group import Commands, Stopped, Terminated

LAST_S = 1.0  # for threads that are still at work at the end

app = typer.Typer(
    name="seg",
    cls=Commands,
    help="From a folder of labelled medical images to a trained, validated segmentation model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("check")(data.check)
app.command("fingerprint")(data.fingerprint)
app.command("plan")(data.plan)
app.command("preprocess")(data.preprocess)
app.command("train")(stages.train)
app.command("validate")(stages.validate)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("import-nnunet")(import_nnunet.import_nnunet)
app.command("report")(stages.report)
app.command("phantom")(phantom.phantom)
app.command("list-plugins")(plugins.list_plugins)
app.command("show")(plugins.show)
app.command("new-plugin")(new_plugin.new_plugin)
app.command("diff-plans")(diff_plans.diff_plans)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"seg {version('segplug')}")
        raise typer.Exit


@app.callback()
def _seg(
    _version: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True,
                                           help="The version of seg.")] = False,
) -> None:
    """What stands before the name of the command."""


def main() -> None:
    """The entry point of the command `seg`."""
    signal.signal(signal.SIGTERM, _terminate)
    code = execute(sys.argv[1:])
    if threading.active_count() > 1:
        from seg.aside import any_left

        if any_left(LAST_S):  # one that hangs in a read may also have a lock of HDF5's that Python would wait for
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


def _terminate(*_: object) -> None:
    raise Terminated


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code (see `seg.Exit`).

    Anywhere on the line `--debug` shows tracebacks, `--plugin` and `--no-plugin` choose plugins.
    """
    debug = "--debug" in arguments
    try:
        choice, words = take_choice([word for word in arguments if word != "--debug"])
        code = app(words, prog_name="seg", standalone_mode=False, obj=choice)
    except SegError as error:
        if debug:
            traceback.print_exc()
        print_records(error.records)
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort, Stopped) as error:
        warn("stopped; what was finished is kept, the same command goes on")
        return 143 if isinstance(error, Terminated) else getattr(error, "exit_code", 130)
    except BrokenPipeError:
        return int(Exit.DONE)
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever comes here is our bug
        return _unexpected(error, debug=debug)
    return code if isinstance(code, int) else int(Exit.DONE)


def _unexpected(error: Exception, *, debug: bool) -> int:
    """Errors of the command line itself (exit 2), signals (128 + number), and our bugs (exit 1)."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # wrong usage, as the command-line library tells it
        error.show()
        return int(Exit.USAGE)
    code = getattr(error, "exit_code", None)
    if isinstance(code, int) and code > 128:
        warn(str(error))
        return code
    if debug:
        traceback.print_exc()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's is not imported here
        print_records([Record(code="SEG-R04", found="not enough memory", advice=f"Close other programs, or plan for "
                              f"less with --set planner.vram_gb=… ({error})")])
        return int(Exit.RESOURCES)
    warn(f"internal error: {type(error).__name__}: {error}\nThis is a bug of seg; --debug shows its place.")
    return int(Exit.BUG)
