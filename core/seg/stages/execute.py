"""The trainings of a configuration, wherever its executor has them run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import evolve

from seg.contracts import blamed, contract_error
from seg.device_faults import let_go, told
from seg.errors import SegError
from seg.executing import device_elsewhere
from seg.models import Evaluation
from seg.progress import Progress
from seg.runfolder import RunFolder
from seg.settings import AUTO
from seg.stages.train import WEIGHTS, Fold, train_fold
from seg.stages.validate import validate_fold
from seg.training_kinds import TrainingJob


def train_folds(folds: Sequence[Fold], words: Sequence[str], progress: Progress) -> None:
    """Train and validate the folds of a configuration: those that are not trained where the executor wants it.

    Args:
        folds: of one configuration, whose cases are there.
        words: further ones of the command by which another process does one of them.
        progress: what it says.

    Raises:
        SegError: as `train_fold`; a job failed (its exit code); the executor does not deliver (exit 6).
    """
    jobs: dict[TrainingJob, Fold] = {}
    for fold in folds:
        if (fold.path / "done.json").exists():
            train_and_validate(fold, progress)  # looks whether it is what is asked for
        else:
            jobs[_job(fold, words)] = fold
    if jobs:
        _execute(jobs, progress)


def _job(fold: Fold, words: Sequence[str]) -> TrainingJob:
    """The training of a fold as its executor is given it, with the device that the executor says."""
    components, asked = fold.components, fold.settings.device
    elsewhere = device_elsewhere(components.executor, components.uses["executor"], asked)
    if elsewhere:
        words = ("--device", elsewhere, *words)
    return evolve(fold.job("--validate", *words), device=elsewhere or asked)


def _execute(jobs: dict[TrainingJob, Fold], progress: Progress) -> None:
    components = next(iter(jobs.values())).components
    use, raised = components.uses["executor"], list[Exception]()

    def work(job: TrainingJob) -> None:
        try:
            train_and_validate(jobs[job], progress)
        except Exception as error:
            raised.append(error)
            let_go(error)
            raise

    try:
        with blamed(use, "run"):
            components.executor.run(tuple(jobs), work, progress)
    except SegError as error:
        if raised and error.__cause__ is raised[-1]:  # it came through the executor, which has no part in it
            raise raised[-1] from None
        raise
    absent = [job.name for job, fold in jobs.items() if not (fold.path / WEIGHTS).exists()]
    if absent:
        raise contract_error(use, f"run left no weights of {', '.join(absent)}", "every job done")


def train_and_validate(fold: Fold, progress: Progress) -> None:
    """Train a fold, and validate it at once, unless its level is still to be chosen; raises as both do."""
    with timed(fold.folder, f"train {fold.configuration} fold {fold.fold}"):
        train_fold(fold, progress)
    if fold.settings.predict.prune != AUTO:
        validated(fold, progress)


def validated(fold: Fold, progress: Progress) -> Evaluation:
    """`validate_fold`, with its time noted, and a device that fails told."""
    with (told(fold.path, "the device", lambda: "in validation"),
          timed(fold.folder, f"validate {fold.configuration} fold {fold.fold}")):
        return validate_fold(fold, progress)


@contextmanager
def timed(folder: RunFolder, stage: str) -> Iterator[None]:
    """Note the time of a stage in the run folder, also when it is cut short."""
    started = time.monotonic()
    try:
        yield
    finally:
        folder.add_time(stage, time.monotonic() - started)
