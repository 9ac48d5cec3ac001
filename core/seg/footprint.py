"""What a network takes in prediction: parameters, bytes of its weights, and the peak of its feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seg.device import autocast

_Reference: Any = StorageWeakRef  # torch says no types of it


@frozen(kw_only=True)
class Footprint:
    """Parameters, bytes of weights (buffers included), bytes of activations at their peak."""

    parameters: int
    weight_bytes: int
    activation_bytes: int


def footprint(network: nn.Module, tiles: Tensor, mode: str = "auto") -> Footprint:
    """What `network` takes while it predicts `tiles` (B, C, *patch), in the arithmetic `mode` (see `seg.device`).

    The activations are all that one pass has in memory at the same time beyond weights and tiles: on CUDA what torch
    says that it allocated, workspaces of the convolutions included; elsewhere the tensors that operations make, as
    long as they live.
    """
    def one_pass() -> None:
        with torch.no_grad(), autocast(tiles.device, mode):
            network(tiles)

    weights = [*network.parameters(), *network.buffers()]
    return Footprint(parameters=sum(value.numel() for value in network.parameters()),
                     weight_bytes=sum(value.numel() * value.element_size() for value in weights),
                     activation_bytes=_peak(one_pass, tiles.device, [*weights, tiles]))


def _peak(work: Callable[[], None], device: torch.device, known: Sequence[Tensor]) -> int:
    """The most bytes that `work` has in use at the same time, beyond the tensors `known` from before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    live = _LiveTensors(known)
    with live:
        work()
    return live.peak


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, and counts the bytes of what they made and what is still referred to.

    What shares its memory with another tensor (views, results in place) counts once.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._bytes = {_Reference(tensor.untyped_storage()): 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                self._bytes.setdefault(_Reference(storage), storage.nbytes())
        self._bytes = {storage: size for storage, size in self._bytes.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result
