"""Work beside the caller's own: a thread that does one thing after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread
from threading import enumerate as threads_alive
from typing import Any, TypeVar

from seg.events import Event
from seg.progress import Progress

T = TypeVar("T")
LAST_S = 30.0  # how long work is waited for once something else has gone wrong


class Loose(Thread):
    """A thread that does not keep the process from ending: what hangs in it is left behind."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        super().__init__(target=work, name=name, daemon=True)
        self.start()


def any_left(seconds: float) -> bool:
    """Whether a loose thread is at work still, after waiting for it so long.

    Python must not take such a process down: a thread that comes back from a library of C++ meanwhile aborts it.
    """
    until = time.monotonic() + seconds
    left = [thread for thread in threads_alive() if isinstance(thread, Loose)]
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    return any(thread.is_alive() for thread in left)


class Aside:
    """A loose thread that does what it is handed, in order. It is started by the first thing to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._thread: Loose | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have `call` done after all that was handed over before; what it raises is raised by the future's `result`."""
        if self._thread is None:
            self._thread = Loose(self._name, partial(_work_off, self._work))
        future: Future[T] = Future()
        self._work.put((call, future))
        return future

    def end(self, seconds: float | None = None) -> bool:
        """Have the thread end after all that was handed over, and wait for it, but no longer than that.

        Returns:
            Whether it has ended. Nothing can be handed over any more.
        """
        if self._thread is None:
            return True
        self._work.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()


def _work_off(work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]) -> None:
    while (given := work.get()) is not None:
        call, future = given
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result is told
                future.set_exception(error)
        del given, call, future  # or what they hold would lie in memory until the next thing to do


@contextmanager
def telling(progress: Progress) -> Iterator[Callable[[Event], None]]:
    """Tells events to `progress` from a thread of its own, in order: a logger whose server is slow holds nobody up.

    At the end it waits until all is told, after an error no longer than LAST_S. What `progress.tell` raises is raised
    by a later call, or there.
    """
    thread, told = Aside("events"), deque[Future[None]]()

    def tell(event: Event) -> None:
        while told and told[0].done():
            told.popleft().result()
        told.append(thread.submit(partial(progress.tell, event)))

    try:
        yield tell
    except BaseException:
        thread.end(LAST_S)
        raise
    thread.end()
    for each in told:
        each.result()
