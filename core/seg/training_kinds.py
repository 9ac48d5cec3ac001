"""The kinds of component that decide how a network is trained: losses and recipes (see `seg.kinds`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from seg.models import Configuration, Labels

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

        The outputs of deep supervision are weighed, and label maps brought to their size, by the caller.
        """


@runtime_checkable
class Recipe(Protocol):
    """How the weights move: the optimiser, the learning rate over time, and whether weights are averaged."""

    def optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimiser of all parameters of `network`. Its state must consist of tensors and numbers."""

    def learning_rate(self, step: float, epoch: float) -> float:
        """The learning rate of a step.

        Both are from 0 to 1, the part of the training that is done: before this step, and before this epoch.
        """

    def mean_decay(self, step: int) -> float | None:
        """How much of the running mean of the weights stays at step `step`, from 1 on; prediction uses that mean.

        None, at every step, where the last weights are used.
        """
