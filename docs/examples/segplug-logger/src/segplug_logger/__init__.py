"""A journal of a run: one line of JSON for each thing that happens, a section of the report, and `seg history`.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg import Offer, Section, hookimpl

if TYPE_CHECKING:
    from seg import Evaluation


@hookimpl
def seg_run_started(folder: Path) -> None:
    """Note that the run begins, or goes on."""
    from segplug_logger.journal import note

    note(folder, "started")


@hookimpl
def seg_epoch_ended(folder: Path, configuration: str, fold: str, row: Mapping[str, Any]) -> None:
    """Note the epoch; `folder` is where the training lies, `training/<configuration>/fold_<fold>` of the run's."""
    from segplug_logger.journal import note

    note(folder.parents[2], "epoch", configuration=configuration, fold=fold, **row)


@hookimpl
def seg_validation_done(folder: Path, configuration: str, fold: str, evaluation: Evaluation) -> None:
    """Note the mean metrics of the fold's validation."""
    from segplug_logger.journal import note

    note(folder.parents[2], "validated", configuration=configuration, fold=fold, **evaluation.mean)


@hookimpl
def seg_run_ended(folder: Path, error: BaseException | None) -> None:
    """Note how the run ended."""
    from segplug_logger.journal import note

    note(folder, "failed" if error else "done", **({"error": repr(error)} if error else {}))


@hookimpl
def seg_report_sections(folder: Path) -> Iterable[Section]:
    """The losses of each training in a table, if there is a journal."""
    from segplug_logger.journal import table

    html = table(folder)
    if html:
        yield Section("History", html)


@hookimpl
def seg_commands() -> Iterable[Offer]:
    """Offer `seg history`."""
    yield Offer("history", "segplug_logger.history:history", "The last losses of runs")
