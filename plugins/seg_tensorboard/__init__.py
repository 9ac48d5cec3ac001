"""Curves for TensorBoard, in `tensorboard/` of the run's folder, where the package `tensorboard` is installed.

Each training has one file of events. Every write opens and closes it, so nothing has to be kept between two events, and
what a killed run had written is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from seg import hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from seg import Evaluation

NAME = "events.out.tfevents.seg"  # TensorBoard reads what has "tfevents" in its name


@hookimpl
def seg_epoch_ended(folder: Path, configuration: str, fold: str, row: Mapping[str, Any]) -> None:
    """Loss and learning rate by step; the settings of the run, as a text, at its first epoch."""
    settings = folder.parents[2] / "run.toml"

    def fill(writer: SummaryWriter) -> None:
        for name in ("loss", "lr"):
            writer.add_scalar(f"training/{name}", row[name], row["step"])
        if row["epoch"] == 1 and settings.exists():
            writer.add_text("settings", f"```\n{settings.read_text(encoding='utf-8')}\n```", 0)

    _write(folder.parents[2], f"{configuration}_fold_{fold}", row["step"], fill)


@hookimpl
def seg_validation_done(folder: Path, configuration: str, fold: str, evaluation: Evaluation) -> None:
    """The means over the classes, and over the cases of each class, at the training's last step."""
    run = folder.parents[2]
    lines = (run / "training" / configuration / f"fold_{fold}" / "metrics.jsonl").read_text(encoding="utf-8")
    step = json.loads(lines.splitlines()[-1])["step"]

    def fill(writer: SummaryWriter) -> None:
        for name, means in {"mean": evaluation.mean, **evaluation.class_means}.items():
            for metric, value in means.items():
                if value is not None:
                    writer.add_scalar(f"validation/{metric}/{name}", value, step)

    _write(run, f"{configuration}_fold_{fold}", step + 1, fill)


def _write(run: Path, name: str, purge: int, fill: Callable[[SummaryWriter], None]) -> None:
    """Add to the events of one training; those from the step `purge` on are void, as a resumed training has it."""
    if not find_spec("tensorboard"):
        return
    from torch.utils.tensorboard import SummaryWriter

    target = run / "tensorboard" / name / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        with SummaryWriter(scratch, purge_step=purge) as writer:
            fill(writer)
        (events,) = Path(scratch).iterdir()
        with target.open("ab") as stream:  # records of events follow each other without any frame
            stream.write(events.read_bytes())
