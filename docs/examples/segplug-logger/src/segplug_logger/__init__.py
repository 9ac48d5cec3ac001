"""What happens in a run, in tables of its own.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg import hookimpl

FILE = "logger.csv"


@hookimpl
def seg_epoch_ended(folder: Path, row: Mapping[str, Any]) -> None:
    """Add the epoch to a table beside the training: epoch, step, seconds, loss, lr."""
    file = folder / FILE
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(row)
        writer.writerow(row.values())


@hookimpl
def seg_run_ended(folder: Path, error: BaseException | None) -> None:
    """Say in a file how the run ended."""
    (folder / "logger.txt").write_text(f"{'failed' if error else 'done'}\n", encoding="utf-8")
