"""A table of all epochs of a run, `epochs.csv` in its folder, for spreadsheets and scripts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seg import hookimpl

NAME = "epochs.csv"
COLUMNS = ("configuration", "fold", "epoch", "step", "seconds", "loss", "lr")


@hookimpl
def seg_epoch_ended(folder: Path, configuration: str, fold: str, row: Mapping[str, Any]) -> None:
    """Add a row; what a resumed training does again takes the place of what it did before."""
    from filelock import FileLock

    file = folder.parents[2] / NAME
    with FileLock(file.with_name(f".{NAME}.lock")):  # folds may be trained at the same time, each by its own process
        kept = [each for each in _rows(file) if (each["configuration"], each["fold"]) != (configuration, fold)
                or int(each["epoch"]) < row["epoch"]]
        unfinished = file.with_name(f".{NAME}.new")
        with unfinished.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows([*kept, {"configuration": configuration, "fold": fold, **row}])
        unfinished.replace(file)


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
