"""What feeds the network: beside a device, each batch is made by a thread while the one before is worked on.

On a CUDA device it is made on a stream of its own, and the host is a few steps ahead of both. What is read from a disk
may be waited for in vain: such a wait ends, and with it the training, whose state is saved.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import count
from typing import Any, Protocol

import torch
from attrs import field, frozen

from seg.aside import Aside
from seg.kinds import Batch

AHEAD = 3  # steps that may be called for before the device has done them
POLL_S = 0.5  # how often a wait for a batch looks whether the user wants an end
CLOSE_S = 10.0  # how long the batch in the making is waited for at the end


class NoBatch(Exception):  # noqa: N818 - what it means is for the training to say
    """A batch did not come within `seconds`, or a signal came first."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no batch for {seconds:.0f} s")
        self.seconds = seconds


class Lane(Protocol):
    """Where batches are made, and how they come from there to the network."""

    def making(self) -> AbstractContextManager[Any]:
        """Stands around the making of a batch, in the thread that makes it."""

    def made(self) -> Any:
        """A mark behind the work on a batch, set in that thread."""

    def take(self, batch: Batch, mark: Any) -> None:
        """Have the network's work come after the mark; called in the network's thread, where nothing may wait."""


@frozen
class InOrder:
    """A device that does everything in the order in which it was called for, whichever thread did."""

    def making(self) -> AbstractContextManager[Any]:
        """Nothing is special about it."""
        return nullcontext()

    def made(self) -> None:
        """No mark is needed."""

    def take(self, batch: Batch, mark: Any) -> None:
        """It is there."""


@frozen(kw_only=True, eq=False)
class SideStream:
    """A stream of a CUDA device beside the one that the network's work is on."""

    device: torch.device
    stream: torch.cuda.Stream
    called: deque[torch.cuda.Event] = field(factory=deque)  # an event behind each step that the host called for last

    @classmethod
    def beside(cls, device: torch.device) -> SideStream:
        """A new one, whose work comes after all that was called for until now: the cases were copied there."""
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        return cls(device=device, stream=stream)

    def making(self) -> AbstractContextManager[Any]:
        """All work on the device goes to this stream; the device is the thread's current one."""
        return torch.cuda.stream(self.stream)

    def made(self) -> torch.cuda.Event:
        """An event behind the work so far."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return event

    def take(self, batch: Batch, mark: torch.cuda.Event) -> None:
        """The network's stream waits for the event, the host only for a step that was called for long ago.

        The batch's memory belongs to this stream, so the allocator is told that the network's uses it too: otherwise it
        would go to the next batch as soon as Python lets go of this one. It is free when the step is done; a host that
        runs far ahead, as it may where a step is one graph, would fill the memory with batches, and the clock of a
        budget would run ahead too.
        """
        current = torch.cuda.current_stream(self.device)
        behind = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        behind.record(current)
        self.called.append(behind)
        if len(self.called) > AHEAD:
            self.called.popleft().synchronize()
        current.wait_event(mark)
        batch.image.record_stream(current)
        batch.label.record_stream(current)


def lane_beside(device: torch.device) -> Lane:
    """Where batches for a network on `device` are made."""
    return SideStream.beside(device) if device.type == "cuda" else InOrder()


@contextmanager
def batches(
    make: Callable[[int], Batch], first: int, lane: Lane | None, *, limit_s: float = math.inf,
    stopped: Sequence[int] = (),
) -> Iterator[Callable[[], Batch]]:  # fmt: skip
    """A function that gives the batches of the steps `first`, `first` + 1, …, one a call.

    Args:
        make: makes the batch of a step.
        first: the first step.
        lane: where a thread makes them, each while the network works on the one before; None: `make` is called in
            between, by the caller's thread.
        limit_s: how long a batch of a thread is waited for.
        stopped: where a signal's number comes to lie, which ends such a wait.

    What `make` raises, the function raises. It also raises NoBatch; the thread is then left to itself, since nothing
    but the disk can end what it waits for.
    """
    if lane is None:
        steps = count(first)
        yield lambda: make(next(steps))
        return
    thread, step = Aside("batches"), first
    coming, left = thread.submit(partial(_made, make, step, lane)), CLOSE_S

    def take() -> Batch:
        nonlocal step, coming, left
        try:
            batch, mark = _awaited(coming, limit_s, stopped)
        except NoBatch:
            left = 0.0
            raise
        step += 1
        coming = thread.submit(partial(_made, make, step, lane))
        lane.take(batch, mark)
        return batch

    try:
        yield take
    finally:
        coming.cancel()
        thread.end(left)


def _made(make: Callable[[int], Batch], step: int, lane: Lane) -> tuple[Batch, Any]:
    with lane.making():
        return make(step), lane.made()


def _awaited(coming: Future[tuple[Batch, Any]], limit_s: float, stopped: Sequence[int]) -> tuple[Batch, Any]:
    began = time.monotonic()
    while not coming.done():
        waited = time.monotonic() - began
        if waited >= limit_s or (stopped and waited >= POLL_S):
            raise NoBatch(waited)
        wait([coming], min(POLL_S, limit_s - waited))
    return coming.result()
