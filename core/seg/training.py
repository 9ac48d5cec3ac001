"""The training loop: short, resumable to the bit, and never waiting for the device inside a step.

Every random number of step n comes from (seed, n), so a training that was cut short goes on exactly as if it had not
been. Beside a GPU a thread makes the next batch while the network works on this one, another writes states, and one
tells plugins of epochs.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from attrs import define, frozen
from torch import Tensor, nn

from seg.aside import telling
from seg.blocks import channels_last, norms_fused, norms_not_fused
from seg.checkpoint import load_state, newest_state, optimizer_state, restore_optimizer, separate
from seg.device import autocast, is_16_bit, training_arithmetic, unfuse_where_needed
from seg.device_faults import told
from seg.distributed import Ranks
from seg.errors import Exit, Record, SegError
from seg.events import EpochEnded, Event
from seg.feeding import NoBatch, batches, lane_beside
from seg.graphs import Candidate, CudaRecorder, Pass, faster_pass, obstacle
from seg.kinds import Augmenter, Batch, CaseArrays, CaseIndex, Sampler
from seg.losses import DeepSupervision
from seg.models import Configuration
from seg.progress import Progress
from seg.saving import EpochLog, Saver
from seg.settings import TrainOptions
from seg.training_kinds import Recipe

LAST_SAVE_S = 60.0  # how long a disk that gives no more batches may take for the state
BAD_STEPS = 5  # losses of an epoch that are no numbers end a training


class Interrupted(Exception):  # noqa: N818 - no error: the user asked for it
    """A signal stopped the training; its state is saved. The exit code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}; the state is saved, the same command goes on")
        self.exit_code = 128 + number


@frozen(kw_only=True)
class Data:
    """What batches are made of."""

    cases: Sequence[CaseArrays]
    index: Sequence[CaseIndex]
    sampler: Sampler
    augmenter: Augmenter
    read_from: Path | None = None  # the folder of cases that are read patch by patch; None: they are in memory


@frozen(kw_only=True)
class Length:
    """How long to train: a number of steps, or a time in seconds (the other is 0)."""

    steps: int = 0
    seconds: float = 0.0

    def progress(self, step: int, seconds: float) -> float:
        """The part that is done after `step` steps and `seconds` of training."""
        return seconds / self.seconds if self.seconds else step / self.steps


@frozen(kw_only=True)
class Job:
    """One training: what, with what, for how long, where it is saved."""

    folder: Path
    fold: str = ""
    configuration: Configuration
    data: Data
    network: nn.Module
    loss: DeepSupervision
    recipe: Recipe
    options: TrainOptions
    length: Length
    seed: tuple[int, ...]
    device: torch.device
    used_s: float = 0.0  # of the budget, before the first step
    ranks: Ranks = Ranks()  # noqa: RUF009 - frozen
    saves_aside: bool = False  # states are written by a thread, while the training goes on
    parts: int = 1  # a batch is worked on in so many parts, to save memory; the gradient is that of the whole

    def make_batch(self, step: int) -> Batch:
        """The batch of a step, which depends on the seed and on the step alone."""
        data, configuration = self.data, self.configuration
        rng = np.random.default_rng((*self.seed, step))
        positions = data.sampler.positions(data.index, configuration, data.augmenter.margin(configuration), rng)
        return data.augmenter.batch(data.cases, positions, configuration, rng, self.device)


@define
class Trainer:
    """The moving parts of a training: network, optimiser, running mean of the weights, and how far it is."""

    job: Job
    optimizer: torch.optim.Optimizer
    mean: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0
    sums: Tensor = attrs.field(factory=lambda: torch.zeros(2))  # of this epoch: loss, steps whose loss is a number
    recorded: Pass | None = None  # does what `_gradient` does
    moved: bool = False  # whether the optimiser made a step
    saver: Saver = attrs.field()

    @saver.default
    def _own_saver(self) -> Saver:
        return Saver(self.job.folder)

    @classmethod
    def begin(cls, job: Job) -> Trainer:
        """The trainer that was saved in the job's folder, or a fresh one."""
        trainer = cls.fresh(job)
        if found := newest_state(job.folder):
            trainer.restore(found)
        return trainer

    @classmethod
    def fresh(cls, job: Job) -> Trainer:
        """A trainer before its first step."""
        network = job.network.to(job.device).train()
        if (job.device.type == "cpu" and job.configuration.dims == 3) or norms_fused(network, job.device):
            channels_last(network)
        trainer = cls(job=job, optimizer=job.recipe.make_optimizer(job.network), mean={}, seconds=job.used_s)
        trainer.sums = trainer.sums.to(job.device)
        if job.recipe.mean_decay(1) is not None:
            trainer.mean = {name: value.detach().clone() for name, value in job.network.state_dict().items()}
        return trainer

    @property
    def finished(self) -> bool:
        """Whether the job's length is reached."""
        return self.job.length.progress(self.step, self.seconds) >= 1

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.step // self.job.options.steps_per_epoch

    def weights(self) -> dict[str, Tensor]:
        """The weights to predict with: the running mean where the recipe has one."""
        current = self.job.network.state_dict()
        chosen = self.mean or current
        return separate({name: chosen[name] for name in current})

    def train_step(self, batch: Batch) -> None:
        """One step of the optimiser. Nothing here waits for the device, except where no step may be lost."""
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        found = (self.recorded or self._gradient)(batch)
        if not self.moved:
            unfuse_where_needed(self.optimizer)
            self.moved = True
        self.optimizer.step()
        self.sums += found
        self.step += 1
        if self.mean:
            self._average()

    def record(self, say: Callable[[str], None]) -> None:
        """Have gradients come from a CUDA graph where that is possible, right and faster; a line says whether."""
        job, mode = self.job, self.job.options.graph
        reason = obstacle(job.device, job.network, parts=job.parts, ranks=job.ranks.count)
        if reason and mode == "on":
            say(f"CUDA graph: not used: {reason}")
        if reason or mode == "off" or self.finished:
            return
        begun = time.monotonic()
        candidate = Candidate(work=self._gradient, network=job.network, batch=job.make_batch(self.step),
                              bits=16 if is_16_bit(job.device, job.options.autocast) else 32)
        found = faster_pass(candidate, CudaRecorder(device=job.device), say, forced=mode == "on")
        self.recorded = None if found is candidate.work else found
        self.seconds += time.monotonic() - begun

    def _gradient(self, batch: Batch) -> Tensor:
        """Leave the gradient of a batch in the parameters, clipped; give its loss, and 1 if that is a number, else 0s.

        A bad batch must not spoil the weights: its gradient becomes 0. Whether it is bad the host does not ask.
        """
        network = self.job.network
        network.zero_grad(set_to_none=True)
        loss = self._backward(batch)
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.job.options.clip_norm or math.inf)
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(bad, 0.0)
        return torch.stack([loss.masked_fill(bad, 0.0), (~bad).float()])

    def _backward(self, batch: Batch) -> Tensor:
        """The loss of the batch, part by part, and its gradient in the parameters."""
        job, size = self.job, len(batch.image)
        total = torch.zeros((), device=job.device)
        mine = job.ranks.share(batch)
        count = min(job.parts, len(mine.image))
        parts = list(zip(mine.image.tensor_split(count), mine.label.tensor_split(count), strict=True))
        sums = self._sums(parts) if job.parts * job.ranks.count > 1 and job.loss.takes_sums else None
        for images, labels in parts:
            loss = job.loss(self._outputs(images), labels, share=len(images) / size, sums=sums)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        job.ranks.add([*(each.grad for each in job.network.parameters() if each.grad is not None), total])
        return total

    def _outputs(self, images: Tensor) -> list[Tensor]:
        # a graph must hold the rounding of the weights itself; no network of ours uses one twice
        with autocast(self.job.device, self.job.options.autocast, cache=self.job.device.type != "cuda"):
            outputs: list[Tensor] = self.job.network(images)
            return outputs

    def _sums(self, parts: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """What the loss needs of all parts: a forward pass of each, nothing of which is kept."""
        with torch.no_grad():
            found = [self.job.loss.sums(self._outputs(images), labels) for images, labels in parts]
        sums = [torch.stack(each).sum(0) for each in zip(*found, strict=True)]
        self.job.ranks.add(sums)
        return sums

    def _average(self) -> None:
        decay = self.job.recipe.mean_decay(self.step) or 0.0
        with torch.no_grad():
            for name, value in self.job.network.state_dict().items():
                if value.is_floating_point():
                    self.mean[name].lerp_(value, 1 - decay)
                else:
                    self.mean[name].copy_(value)

    def _rate(self) -> float:
        job, length = self.job, self.job.length
        epoch = length.progress(self.epoch * job.options.steps_per_epoch, self.seconds)
        return job.recipe.rate(length.progress(self.step, self.seconds), epoch)

    def save(self, *, aside: bool = False) -> None:
        """Save all that is needed to go on exactly; one rank does it for all. `aside`: as `Saver.save` has it."""
        if not self.job.ranks.leads:
            return
        tensors = {f"network.{name}": value for name, value in self.job.network.state_dict().items()}
        tensors |= {f"mean.{name}": value for name, value in self.mean.items()}
        state, numbers = optimizer_state(self.optimizer)
        tensors |= state | {"sums": self.sums}
        self.saver.save(self.step, tensors, {"step": self.step, "seconds": self.seconds, "optimizer": numbers},
                        aside=aside)

    def save_if_due(self) -> None:
        """Save, unless the last state is so young that saving would cost more than its share of the time."""
        if self.saver.due:
            self.save(aside=self.job.saves_aside)

    def save_within(self, seconds: float) -> bool:
        """Save, but wait no longer than that for the disk; whether the state is on it."""
        if not self.saver.wait(seconds):
            return False
        self.save(aside=True)
        return self.saver.wait(seconds)

    def restore(self, path: Path) -> None:
        """Go back to the state in `path`."""
        tensors, numbers = load_state(path)
        pick = {prefix: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
                for prefix in ("network.", "mean.")}
        self.job.network.load_state_dict(pick["network."])
        own = self.job.network.state_dict()
        self.mean = {name: torch.empty_like(own[name]).copy_(value) for name, value in pick["mean."].items()}
        restore_optimizer(self.optimizer, tensors, numbers["optimizer"])
        self.sums = tensors["sums"].to(self.job.device)
        self.step, self.seconds = numbers["step"], numbers["seconds"]


def train(job: Job, progress: Progress) -> dict[str, Tensor]:
    """Train until the job's length is reached, and return the weights to predict with.

    Writes a line of `metrics.jsonl` an epoch, and states to resume from.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and the state saved.
        SegError: the loss is no number any more (exit 3), the disk is full or gives no more batches, or the device
            failed or has too little memory (exit 5).
    """
    trainer = Trainer.begin(job)
    if slower := norms_not_fused(job.network, job.device):
        progress.say(slower)
    log = EpochLog(job.folder / "metrics.jsonl", trainer.epoch, leads=job.ranks.leads)
    total = max(1, round(job.length.seconds)) if job.length.seconds else job.length.steps
    progress.start(f"train {job.configuration.name}", total)
    progress.advance(round(trainer.seconds) if job.length.seconds else trainer.step)
    with training_arithmetic(job.device):
        trainer.record(progress.say)
    with (training_arithmetic(job.device), told(job.folder, str(job.device), lambda: f"at step {trainer.step + 1}"),
          _signals() as stopped, trainer.saver, telling(progress) as tell,
          _batches(job, trainer.step, stopped) as next_batch):
        trainer.seconds, _ = job.ranks.agree(trainer.seconds, 0)
        clock = time.monotonic()
        while not trainer.finished:
            trainer.train_step(_next(trainer, next_batch, stopped))
            now, shown = time.monotonic(), trainer.seconds
            # also what the end of the last epoch took: a budget is of the wall's clock
            trainer.seconds, number = job.ranks.agree(trainer.seconds + now - clock, stopped[0] if stopped else 0)
            clock = now
            progress.advance(int(trainer.seconds) - int(shown) if job.length.seconds else 1)
            if trainer.step % job.options.steps_per_epoch == 0 or trainer.finished:
                _end_epoch(trainer, log, progress, tell)
            if number:
                trainer.save()
                raise Interrupted(number)
    trainer.recorded = None  # its memory serves what comes next
    trainer.save()
    return trainer.weights()


def _next(trainer: Trainer, next_batch: Callable[[], Batch], stopped: Sequence[int]) -> Batch:
    """The next batch. Where none comes the training ends, its state saved if the disk takes it."""
    try:
        return next_batch()
    except NoBatch as waited:
        saved = trainer.save_within(LAST_SAVE_S)
        if stopped and saved:
            raise Interrupted(stopped[0]) from None
        raise _stalled(trainer.job, waited.seconds, saved=saved) from None


def _stalled(job: Job, seconds: float, *, saved: bool) -> SegError:
    found = f"no batch for {seconds:.0f} s: the disk does not give the cases"
    return SegError(Record(code="SEG-R10", found=found if saved else f"{found}, nor does it take the state",
                           expected=f"one within {job.options.stall_s:g} s (train.stall_s)",
                           file=str(job.data.read_from), advice="See to the disk or the way to it; the same command "
                           f"goes on from {'here' if saved else 'the last state that was saved'}."), Exit.RESOURCES)


def _end_epoch(trainer: Trainer, log: EpochLog, progress: Progress, tell: Callable[[Event], None]) -> None:
    loss, usable = trainer.sums.tolist()
    steps = trainer.step % trainer.job.options.steps_per_epoch or trainer.job.options.steps_per_epoch
    if steps - usable >= min(BAD_STEPS, steps):
        raise SegError(Record(code="SEG-T01", found=f"{steps - usable:.0f} of {steps} losses are no numbers",
                              expected="finite losses", file=str(trainer.job.folder),
                              advice="Look at the intensities with `seg check`, or lower recipe.learning_rate."),
                       Exit.DATA)
    row = {"epoch": -(-trainer.step // trainer.job.options.steps_per_epoch), "step": trainer.step,
           "seconds": round(trainer.seconds, 2), "loss": round(loss / max(usable, 1), 5),
           "lr": trainer.optimizer.param_groups[0]["lr"]}
    trainer.sums.zero_()
    log.add(row)
    progress.say(f"epoch {row['epoch']}  step {row['step']}  loss {row['loss']:.4f}  {row['seconds']:.0f} s")
    trainer.save_if_due()
    tell(EpochEnded(folder=trainer.job.folder, configuration=trainer.job.configuration.name, fold=trainer.job.fold,
                    row=row))


def _batches(
    job: Job, first: int, stopped: Sequence[int] = ()
) -> AbstractContextManager[Callable[[], Batch]]:
    """Batches from step `first` on.

    Beside another device a thread makes the next one meanwhile; on a CPU, whose cores the network keeps busy, it would
    only be in the way. Cases on the disk are read by a thread there too: it waits more than it works, and a read that
    never ends can be left only by another thread.
    """
    on_disk = job.data.read_from is not None
    in_between = job.device.type == "cpu" and not on_disk
    return batches(job.make_batch, first, None if in_between else lane_beside(job.device),
                   limit_s=job.options.stall_s if on_disk else math.inf,
                   stopped=stopped if job.ranks.count == 1 else ())  # several ranks stop after the same step


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that holds the number of the first SIGINT or SIGTERM; a second one stops at once."""
    came: list[int] = []

    def handler(number: int, _: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's business
        yield came
        return
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)
