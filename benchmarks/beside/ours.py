"""The side of seg: one task a process, the figures in the last line.

`python ours.py TASK JSON`; side_by_side.py makes the JSON.
A folder here is a run folder as `seg run` leaves it after preprocessing; what is timed is what `seg train` does in it.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from clock import gpu_mb, mean_seconds, say

from seg.discovery import discover
from seg.nnunet_files import read_plan_file
from seg.runfolder import Components, RunFolder
from seg.settings import Settings, TrainOptions

CONFIGURATION = "3d_fullres"


def step(folder: str, device: str, warm: int, steps: int, *, fixed: bool, fused: bool = True, **options: str) -> None:
    """Training steps, each on a new batch or all on one; `options` of a training, with the `fused` norm or without."""
    import torch

    from seg import fused_norm
    from seg.device import training_arithmetic
    from seg.training import Trainer, _batches

    if not fused:
        fused_norm._trouble = lambda _: "left out"  # noqa: SLF001 - there is no option: nobody wants the slower way
    with ExitStack() as stack:
        stack.enter_context(training_arithmetic(torch.device(device)))
        job = _job(folder, device, TrainOptions(**options), stack)
        trainer, lines = Trainer.fresh(job), list[str]()
        trainer.record(lines.append)
        next_batch = stack.enter_context(_batches(job, 0))
        batch = next_batch()

        def once() -> None:
            trainer.train_step(batch if fixed else next_batch())

        mean_seconds(once, warm, device)
        lines.append(fused_norm.trouble(job.device) or "fused norm")
        say(seconds=mean_seconds(once, steps, device), gpu_mb=gpu_mb(device), said="; ".join(lines))


def augmentation(folder: str, device: str, samples: int) -> None:
    """Augmented samples, cut from cases in memory."""
    from itertools import count

    with ExitStack() as stack:
        job = _job(folder, device, TrainOptions(), stack)
        numbers, batch = count(), job.configuration.batch
        job.make_batch(next(numbers))
        found = mean_seconds(lambda: job.make_batch(next(numbers)), -(-samples // batch), device)
        say(seconds=found / batch)


def _job(folder: str, device: str, options: TrainOptions, files: ExitStack):  # noqa: ANN202 - a Job; torch is slow
    """The job that `seg train` makes of it: sampler, augmenter, loss and recipe are nnU-Net's."""
    import torch

    from seg.device import keep_freed_memory
    from seg.progress import Silent
    from seg.stages._cases import training_data
    from seg.stages.train import Fold, _make_job
    from seg.training import Length

    settings = Settings(epochs=1000, device=device, train=options)
    fold = Fold(folder=RunFolder(Path(folder)), settings=settings, components=Components.resolve(settings, discover()),
                plan=read_plan_file(Path(folder) / "nnUNetPlans.json"), configuration=CONFIGURATION, fold="0")
    if device == "cpu":
        keep_freed_memory()
    chosen = torch.device(device)
    return _make_job(fold, fold.planned, training_data(fold, chosen, files, Silent()), chosen,
                     Length(steps=settings.epochs * settings.train.steps_per_epoch))


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
