"""Two recipes of training: nnU-Net's, and one that makes the most of a given time.

`progress` runs from 0 to 1: the part of the epochs done, or of the time used.
"""

from __future__ import annotations

import math

import torch
from attrs import frozen
from torch import nn

from seg.settings import TrainOptions

NNUNET_RATE = 0.01
BUDGET_RATE = 4e-3
WARM_UP = 0.05  # of the whole length


@frozen(kw_only=True)
class Recipe:
    """How the weights move: the optimiser, the learning rate over time, and whether weights are averaged.

    `nnunet`: SGD, momentum 0.99, Nesterov, weight decay 3e-5, rate 0.01 · (1 - progress)^0.9 set once an epoch
    (Isensee et al. 2021). `budget`: AdamW with a linear rise and a cosine fall, and an exponential mean of the weights
    that is used for prediction.
    """

    name: str
    peak_rate: float

    @property
    def averages(self) -> bool:
        """Whether prediction uses the running mean of the weights."""
        return self.name == "budget"

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of all parameters of `network`."""
        parameters = list(network.parameters())
        if self.name == "nnunet":
            return torch.optim.SGD(parameters, lr=self.peak_rate, momentum=0.99, nesterov=True, weight_decay=3e-5)
        return torch.optim.AdamW(parameters, lr=self.peak_rate, weight_decay=0.01, betas=(0.9, 0.99))

    def rate(self, progress: float) -> float:
        """The learning rate at `progress`."""
        if self.name == "nnunet":
            return float(self.peak_rate * (1 - min(progress, 1.0)) ** 0.9)
        if progress < WARM_UP:
            return self.peak_rate * (0.1 + 0.9 * progress / WARM_UP)
        fall = (min(progress, 1.0) - WARM_UP) / (1 - WARM_UP)
        return self.peak_rate * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * fall)))

    def decay(self, step: int) -> float:
        """How much of the running mean of the weights stays at step `step`.

        It looks back over a twentieth of the steps so far, 500 at most, and so forgets when the network knew little.
        """
        return min(0.998, 1 - 1 / (1 + step / 20))


def choose_recipe(options: TrainOptions, *, budgeted: bool) -> Recipe:
    """The recipe that the options name; `auto` is the budget's with a budget of time, else nnU-Net's."""
    name = options.recipe if options.recipe != "auto" else ("budget" if budgeted else "nnunet")
    default = NNUNET_RATE if name == "nnunet" else BUDGET_RATE
    return Recipe(name=name, peak_rate=options.learning_rate or default)
