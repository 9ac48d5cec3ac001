"""A network for the time there is: where the planned one would get too few steps, the planner is asked for less.

A step's cost is counted in floating-point operations on torch's `meta` device, without computing anything; how fast
this machine is at it is measured with a few steps of the smallest form.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from attrs import frozen
from torch.utils.flop_counter import FlopCounterMode

from seg.kinds import Architecture, Planner
from seg.models import Configuration


@frozen(kw_only=True)
class Reduced:
    """What a budget made of a planned configuration, and why; no reasons: it was left as it was."""

    configuration: Configuration
    reasons: tuple[str, ...] = ()


def fit_budget(
    configuration: Configuration,
    planner: Planner,
    architecture: Architecture,
    seconds: float,
    min_steps: int,
    step_seconds: Callable[[Configuration], float],
) -> Reduced:
    """The first of the configuration and its reductions that makes `min_steps` steps in `seconds`, or the last.

    `step_seconds` measures how long a training step of a configuration takes on the device.
    """
    forms = [(configuration, ""), *planner.reductions(configuration)]
    costs = [step_operations(form, architecture) for form, _ in forms]
    per_operation = step_seconds(forms[-1][0]) / costs[-1]
    enough = [index for index, cost in enumerate(costs) if seconds / (cost * per_operation) >= min_steps]
    chosen = enough[0] if enough else len(forms) - 1
    if chosen == 0:
        return Reduced(configuration=configuration)
    planned, got = (int(seconds / (costs[index] * per_operation)) for index in (0, chosen))
    why = f"about {planned} steps of the planned network in {seconds:.0f} s, {got} now; at least {min_steps} wanted"
    return Reduced(configuration=forms[chosen][0], reasons=(*(reason for _, reason in forms[1 : chosen + 1]), why))


def step_operations(configuration: Configuration, architecture: Architecture) -> int:
    """Floating-point operations of a forward pass of one batch."""
    with torch.device("meta"):
        network = architecture.build(configuration.topology)
        images = torch.empty(configuration.batch, configuration.topology.in_channels, *configuration.patch)
        with FlopCounterMode(display=False) as counter:
            network(images)
    return max(1, int(counter.get_total_flops()))


def measure(step: Callable[[], None], device: torch.device, repeats: int = 3) -> float:
    """Seconds of one call of `step`, the fastest of a few after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
