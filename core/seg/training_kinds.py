"""The kinds of component that decide how and where a network is trained (see `seg.kinds`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from attrs import frozen

from seg.models import Configuration, Labels
from seg.progress import Progress

if TYPE_CHECKING:
    import torch

    Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@runtime_checkable
class Loss(Protocol):
    """What a network is trained to make small."""

    def build(self, labels: Labels, configuration: Configuration) -> Criterion:
        """The loss of one output of a network.

        It is called with logits, float32 (B, K, *size), and ids, int64 (B, *size) without negative ones, and gives a
        float32 scalar: the mean over the batch. Voxels with the id `labels.ignore` must count nowhere; where
        `labels.has_regions`, the K outputs are independent maps (sigmoid), one for each region in declared order, else
        classes (softmax), the background first.

        The outputs of deep supervision are weighed, and label maps brought to their size, by the caller. What it gives
        may also be a `PartedCriterion`.
        """


@runtime_checkable
class PartedCriterion(Protocol):
    """What a criterion may offer beside, so that a CPU works on a large batch in parts, which saves memory.

    The losses of the parts, and their gradients, add up to those of the whole. A criterion that does not offer it is
    always given whole batches.
    """

    takes_sums: bool  # whether a part must know something of the whole batch: it costs another pass over all parts

    def __call__(self, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The loss of a whole batch (see `Loss.build`)."""

    def part(self, logits: torch.Tensor, ids: torch.Tensor, share: float, sums: torch.Tensor | None) -> torch.Tensor:
        """The loss of a part of a batch, `share` of its samples.

        `sums` is what `sums` gave, added up over all parts, where `takes_sums`, else None.
        """

    def sums(self, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """What the whole batch must know of this part, as numbers that add up."""


@runtime_checkable
class Recipe(Protocol):
    """How the weights move: the optimiser, the learning rate over time, and whether weights are averaged."""

    def make_optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimiser of all parameters of `network`.

        Its state must consist of tensors and numbers, one table for each parameter, so that it can be saved.
        """

    def rate(self, step: float, epoch: float) -> float:
        """The learning rate of a step.

        Both are the part of the training that is done, 0 to 1 (a little more where time is over): before this step,
        and before this epoch. With a budget of time, in which there may be no whole epoch, both are the same.
        """

    def mean_decay(self, step: int) -> float | None:
        """How much of the running mean of the weights stays at step `step`, from 1 on; prediction uses that mean.

        It starts as the weights before the first step. None, at every step, where the last weights are used.
        """


@frozen(kw_only=True)
class TrainingJob:
    """One training, as data: a fold of a configuration.

    `command` does it in a process of its own, here or on a machine that sees the same files under the same paths.
    Behind it `--device NAME` may stand, and `--with-parent`, by which it ends as at SIGTERM when its input does (see
    `seg.lifeline`). It trains, validates, and ends with a code of `seg.Exit`; SIGTERM makes it save its state and end
    with 143. Called again it goes on, or finds all done. Its outputs belong behind what is already in `log`, whose
    folder may have to be made.

    `device` is what it computes on, as `--device` says it: auto, cpu, cuda, cuda:0,cuda:1 …
    """

    configuration: str
    fold: str
    command: tuple[str, ...]
    log: Path
    device: str = "auto"

    @property
    def name(self) -> str:
        """How it is called where people read."""
        return f"{self.configuration} fold {self.fold}"


@runtime_checkable
class Executor(Protocol):
    """Where trainings run. No result depends on it, so another one may go on with a run."""

    def run(self, jobs: Sequence[TrainingJob], work: Callable[[TrainingJob], None], progress: Progress) -> None:
        """Do every one of `jobs`, and come back when all are done.

        They are folds of one configuration and need nothing of each other; what they need is there. Each is done by
        `work(job)` in this process, one at a time, or by its command in another one (see `seg.supervise`). One that is
        refused does not keep the others from being done.

        Raises:
            SegError: jobs were refused or failed; the records of all, and the exit code of the first.
        """


@runtime_checkable
class RemoteExecutor(Executor, Protocol):
    """An executor that has trainings run on other machines, and says what they compute on there.

    Without a word of the user, length and recipe of a training are chosen for its device, which this machine may lack.
    """

    def training_device(self, asked: str) -> str:
        """The device of the trainings where `--device` says `asked`.

        A device that is asked for by name stays. In place of "auto" it gives the name that is told to each training,
        cpu or cuda, or "auto" where this machine's device is meant. It answers at once, without asking the machines.
        """
