"""Work beside the caller's own: a thread that does one thing after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from threading import enumerate as threads_alive
from typing import Any, TypeAlias, TypeVar

from seg.errors import Exit, Record, SegError
from seg.events import Event
from seg.progress import Progress

S = TypeVar("S")
T = TypeVar("T")
_Todo: TypeAlias = "SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]"  # None: there is nothing more
LAST_S = 30.0  # how long work is waited for once something else has gone wrong
LEAVE_S = 10.0  # and reading or preparing a case; a cluster kills 30 seconds after it asks for an end


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


def begun(name: str, call: Callable[[], T]) -> Future[T]:
    """What `call` gives, or raises, done in a loose thread of its own."""
    future: Future[T] = Future()
    Loose(name, partial(_do, call, future))
    return future


def read_within(seconds: float, file: Path, call: Callable[[], T]) -> T:
    """What `call` reads from `file`; it is left behind where the disk does not answer.

    Raises:
        SegError: it takes longer than `seconds` (SEG-R10, exit 5); whatever `call` raises.
    """
    reading = begun("read", call)
    wait([reading], seconds)
    if not reading.done():
        raise SegError(Record(code="SEG-R10", found=f"not read after {seconds:g} s", file=str(file),
                              expected="an answer of the disk (train.stall_s)",
                              advice="See to the disk or the way to it; the same command goes on from here."),
                       Exit.RESOURCES)
    return reading.result()


def in_threads(work: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """What `work` gives of each of `items`, in their order, done by so many threads.

    What it raises is raised here, and nothing further is begun. Whatever ends this early, Ctrl-C too, what is at work
    has ten seconds to end (a second Ctrl-C ends that wait), and is left behind then: a read may hang for ever.
    """
    todo: _Todo = SimpleQueue()
    futures: deque[Future[T]] = deque()
    for item in items:
        futures.append(Future())
        todo.put((partial(work, item), futures[-1]))
    for _ in range(threads):
        todo.put(None)
    workers = [Loose("work", partial(_work_off, todo)) for _ in range(min(threads, len(futures)))]
    try:
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()
        until = time.monotonic() + LEAVE_S
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))


class Aside:
    """A loose thread that does what it is handed, in order. It is started by the first thing to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: _Todo = SimpleQueue()
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


def _work_off(work: _Todo) -> None:
    while (given := work.get()) is not None:
        call, future = given
        if future.set_running_or_notify_cancel():
            _do(call, future)
        del given, call, future  # or what they hold would lie in memory until the next thing to do


def _do(call: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result is told
        future.set_exception(error)


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
