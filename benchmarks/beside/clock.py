"""Seconds of a call, for both programs; imports nothing of either, so that it runs in both environments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any


def mean_seconds(call: Callable[[], object], times: int, device: str) -> float:
    """Mean seconds of `times` calls: of the processor on a CPU, by the clock on a GPU, whose work is waited for.

    The mean and not the median: a part of the calls (a rotated patch) takes several times as long as the others.
    """
    if device == "cpu":
        started = time.process_time()
        for _ in range(times):
            call()
        return (time.process_time() - started) / times
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


def gpu_mb(device: str) -> float:
    """The peak of what tensors took of the GPU, in MB; 0 on a CPU."""
    if device == "cpu":
        return 0.0
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def say(**figures: Any) -> None:
    """The figures, as the last line of the output."""
    print(json.dumps(figures), flush=True)
