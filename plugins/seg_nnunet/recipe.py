"""nnU-Net's recipe: SGD, whose rate falls once an epoch; its options are those in which nnU-Net's trainers differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import frozen

from seg import option

if TYPE_CHECKING:
    import torch


@frozen(kw_only=True)
class NnUNetRecipe:
    """SGD, Nesterov momentum 0.99, weight decay 3e-5, rate 0.01 · (1 - t)^0.9 set once an epoch (Isensee et al. 2021).

    It is made for 250,000 steps. The last weights are used for prediction.
    """

    learning_rate: float = option(0.01, "peak learning rate", ge=0.0)
    optimizer: str = option("sgd", "sgd has Nesterov momentum; adam and adamw have β 0.9, 0.999",
                            choices=("sgd", "adam", "adamw"))
    momentum: float = option(0.99, "momentum of sgd", ge=0.0, le=1.0)
    weight_decay: float = option(3e-5, "weight decay; decoupled from the gradient in adamw alone", ge=0.0)
    amsgrad: bool = option(default=False, help="the AMSGrad variant of adam and adamw")
    schedule: str = option("poly", "how the rate falls to 0: poly, cosine; constant: not at all",
                           choices=("poly", "cosine", "constant"))
    power: float = option(0.9, "exponent of poly", ge=0.0)
    warm_up: float = option(0.0, "part of the training in which the rate rises from 0, step by step", ge=0.0, le=0.9)

    def make_optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimiser of all parameters of `network`; on CUDA one that takes all of them at once."""
        from torch import optim, zeros_like

        parameters, rate, decay = list(network.parameters()), self.learning_rate, self.weight_decay
        fused = all(one.is_cuda and one.is_floating_point() for one in parameters) or None  # None: torch's choice
        if self.optimizer != "sgd":
            kind = optim.Adam if self.optimizer == "adam" else optim.AdamW
            return kind(parameters, lr=rate, weight_decay=decay, amsgrad=self.amsgrad, fused=fused)
        made = optim.SGD(parameters, lr=rate, momentum=self.momentum, nesterov=self.momentum > 0, weight_decay=decay,
                         fused=fused)
        if fused and self.momentum:  # torch's cannot begin with one parameter later than with the others
            for one in parameters:
                made.state[one]["momentum_buffer"] = zeros_like(one)
        return made

    def rate(self, step: float, epoch: float) -> float:
        """The learning rate: it rises with `step` and then falls with `epoch`, both the part done, 0 to 1."""
        if step < self.warm_up:
            return self.learning_rate * step / self.warm_up
        done = min(max(0.0, epoch - self.warm_up) / (1 - self.warm_up), 1.0)
        if self.schedule == "cosine":
            return self.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done))
        return self.learning_rate * ((1 - done) ** self.power if self.schedule == "poly" else 1.0)

    def mean_decay(self, step: int) -> None:  # noqa: ARG002 - at every step
        """No mean of the weights."""
        return
