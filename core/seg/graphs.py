"""A training pass as one CUDA graph: what the host launches kernel by kernel is recorded, and then started as a whole.

That helps where launching takes longer than computing, for small patches and in 2-D, and hardly elsewhere. So a graph
is taken only after it gave the same gradient as the plain pass, in less time; whatever goes wrong, the plain pass is
there. Who records and measures is a `Recorder`, so that all decisions here need no device.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from attrs import frozen
from torch import Tensor, nn

from seg.errors import tell
from seg.kinds import Batch

Pass = Callable[[Batch], Tensor]
"""Gives the loss of a batch and whether it is a number (2,), and leaves the gradient in the parameters."""

WARM_UP = 3  # passes on the stream that records, as torch asks for
TIMED = 5
GAIN = 1.03  # a graph must be so many times as fast
TOLERANCE = {16: 1e-2, 32: 1e-4}  # bits: how far loss and gradient may be off, relative to their size


@frozen(kw_only=True, eq=False)
class Candidate:
    """A pass that may be recorded: its network, a real batch to try it on, and the bits that it computes in.

    The pass must leave everything but the gradients as it was.
    """

    work: Pass
    network: nn.Module
    batch: Batch
    bits: int


class Recorder(Protocol):
    """Records passes, and measures them."""

    def record(self, candidate: Candidate) -> Pass:
        """The recorded pass, for batches of the candidate's shape. It may raise anything, and leave a mess."""

    def seconds(self, work: Callable[[], object]) -> float:
        """How long one call of `work` keeps the device: the median of some, after some to warm up."""

    def recover(self) -> None:
        """Clear what is left of a graph that is not used; raises what the device raises if it does not answer."""


def obstacle(device: torch.device, network: nn.Module, *, parts: int, ranks: int) -> str:
    """Why no graph is tried; empty where it may be."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if ranks > 1:
        return "several devices take part"
    if parts > 1:
        return "batches are worked on in parts"
    if next(network.buffers(), None) is not None:  # a batch norm's: passes that are tried would change it
        return "the network has buffers"
    return ""


def faster_pass(candidate: Candidate, recorder: Recorder, say: Callable[[str], None], *, forced: bool) -> Pass:
    """The candidate's pass, or a recorded one that does the same faster; `forced`: however fast it is.

    One line tells which. Weights, and the states of torch's generators, are as before.

    Raises:
        Exception: what the device raises, if it does not answer after a recording that failed.
    """
    image = candidate.batch.image
    try:
        with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
            chosen, said = _tried(candidate, recorder, forced=forced)
    except Exception as error:  # noqa: BLE001 - whatever it is, the plain pass is there
        chosen, said = candidate.work, f"not used: {tell(error)}"
    if chosen is candidate.work:
        candidate.network.zero_grad(set_to_none=True)
        recorder.recover()
    say(f"CUDA graph: {said}")
    return chosen


def _tried(candidate: Candidate, recorder: Recorder, *, forced: bool) -> tuple[Pass, str]:
    work, batch = candidate.work, candidate.batch
    plain_s = recorder.seconds(lambda: work(batch))
    expected = _outcome(work, candidate)  # before anything is recorded: both at once would take twice the memory
    recorded = recorder.record(candidate)
    if fault := _fault(_outcome(recorded, candidate), expected, TOLERANCE[candidate.bits]):
        return work, f"not used: {fault}"
    times = plain_s / recorder.seconds(lambda: recorded(batch))
    if times >= GAIN or forced:
        return recorded, f"used, {times:.2f} times as fast"
    return work, f"not used, it would be {times:.2f} times as fast"


def _outcome(work: Pass, candidate: Candidate) -> list[Tensor | None]:
    """Copies of the loss, then of each parameter's gradient."""
    loss = work(candidate.batch).clone()
    grads = [parameter.grad for parameter in candidate.network.parameters()]
    return [loss, *(None if grad is None else grad.detach().clone() for grad in grads)]


def _fault(found: list[Tensor | None], expected: list[Tensor | None], tolerance: float) -> str:
    """What is wrong with a loss and gradients, where others are expected; empty where nothing is.

    All gradients are taken as one vector, because that of a bias before a norm is nothing but rounding.
    """
    if [one is None for one in found] != [one is None for one in expected]:
        return "other parameters have a gradient"
    for name, some in (("loss", slice(1)), ("gradient", slice(1, None))):
        pairs = [(one.float(), other.float()) for one, other in zip(found[some], expected[some], strict=True)
                 if one is not None and other is not None]
        error = sum(float((one - other).square().sum()) for one, other in pairs) ** 0.5
        size = sum(float(other.square().sum()) for _, other in pairs) ** 0.5
        if not error <= tolerance * size:  # also where it is no number
            return f"its {name} is off by {error:.2g}, of {size:.2g}"
    return ""


@frozen(kw_only=True)
class CudaRecorder:
    """Records on a CUDA device. Nothing else may use the device meanwhile."""

    device: torch.device

    def record(self, candidate: Candidate) -> Pass:
        """As `Recorder` says; a pass for which the host would wait is refused before it is recorded."""
        work, network, given = candidate.work, candidate.network, candidate.batch
        static = Batch(image=given.image.neg(), label=given.label.clone())  # not the batch that it is compared on
        with torch.cuda.device(self.device):
            stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            current = torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # torch does not leave the one below where a recording fails
                for _ in range(WARM_UP - 1):
                    work(static)
                with _no_waiting():
                    work(static)
                network.zero_grad(set_to_none=True)  # so the graph writes gradients, and adds to none
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    result = work(static)
            current.wait_stream(stream)
        parameters = list(network.parameters())
        gradients = [parameter.grad for parameter in parameters]

        def replay(batch: Batch) -> Tensor:
            if batch.image.shape != static.image.shape or batch.label.shape != static.label.shape:
                return work(batch)
            static.image.copy_(batch.image)
            static.label.copy_(batch.label)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            graph.replay()
            return result.clone()

        return replay

    def seconds(self, work: Callable[[], object]) -> float:
        """As `Recorder` says."""
        times = list[float]()
        with torch.cuda.device(self.device):
            for _ in range(WARM_UP + TIMED):
                begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                begun.record()
                work()
                ended.record()
                ended.synchronize()
                times.append(begun.elapsed_time(ended) / 1000)
        return statistics.median(times[WARM_UP:])

    def recover(self) -> None:
        """As `Recorder` says."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        torch.zeros(1, device=self.device).item()


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device raises instead: nothing that waits can be recorded.

    A recording that fails half-way is best avoided; torch before 2.10 does not clean up everything behind it.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
