"""A recipe that makes the most of some thousand steps: AdamW, one cycle of the rate, averaged weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import frozen

from seg import option

if TYPE_CHECKING:
    import torch

FIRST, LAST = 0.1, 0.005  # of the peak rate


@frozen(kw_only=True)
class BudgetRecipe:
    """AdamW with a linear rise and a cosine fall of the rate (Smith 2018), and a running mean of the weights.

    The exponential mean is used for prediction: over so few steps it replaces much of the slow end of a schedule.
    """

    learning_rate: float = option(0.004, "peak learning rate", ge=0.0)
    weight_decay: float = option(0.01, "decoupled weight decay", ge=0.0)
    warm_up: float = option(0.05, "part of the training in which the rate rises from a tenth", ge=0.0, le=0.9)
    averaging: float = option(0.998, "the most of the mean of the weights that stays at a step; 0: no mean",
                              ge=0.0, le=0.99999)

    def make_optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW for all parameters of `network`; on CUDA one that takes all of them at once."""
        from torch.optim import AdamW

        parameters = list(network.parameters())
        fused = all(one.is_cuda and one.is_floating_point() for one in parameters) or None  # None: torch's choice
        return AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, betas=(0.9, 0.99), fused=fused)

    def rate(self, step: float, epoch: float) -> float:  # noqa: ARG002 - it moves at every step
        """The learning rate where the part `step` of the training is done, 0 to 1."""
        if step < self.warm_up:
            return self.learning_rate * (FIRST + (1 - FIRST) * step / self.warm_up)
        fall = (min(step, 1.0) - self.warm_up) / (1 - self.warm_up)
        return self.learning_rate * (LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * fall)))

    def mean_decay(self, step: int) -> float | None:
        """How much of the mean stays at step `step`.

        It looks back over a twentieth of the steps so far, 500 at most, and so forgets when the network knew little.
        """
        return min(self.averaging, 1 - 1 / (1 + step / 20)) if self.averaging else None
