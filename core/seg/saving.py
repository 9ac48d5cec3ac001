"""What a training leaves on the disk while it goes on: states, one at a time and beside it if it likes, and lines."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from seg.aside import LAST_S, Aside
from seg.checkpoint import save_state
from seg.errors import SegError
from seg.files import write_text

SAVE_SHARE = 0.03  # of the time may go into saving states


class Saver:
    """Writes states into a folder, in order, and knows when the next one is due.

    As a context it waits at its end for what is still being written, and raises what went wrong there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._thread = folder, Aside("states")
        self._writing: Future[None] | None = None
        self._ended, self._took = -1e9, 0.0  # the last writing

    @property
    def due(self) -> bool:
        """Whether the last state is so old that a new one takes no more than its share of the time.

        Writing counts in full, also where the training does not wait for it: a disk has other users.
        """
        busy = self._writing is not None and not self._writing.done()
        return not busy and time.monotonic() - self._ended > self._took / SAVE_SHARE

    def save(self, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any], *, aside: bool = False) -> None:
        """Write the state after `step` steps; it is whole on the disk when this returns.

        With `aside` the tensors are copied to the machine's memory, which waits for the device, and written by a thread
        meanwhile; what goes wrong there is raised by the next `save` or `wait`.

        Raises:
            SegError: this state or the one before could not be written (exit 5); older ones stay.
        """
        self.wait()
        started = time.monotonic()
        given = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()} if aside else tensors

        def write() -> None:
            save_state(self._folder, step, given, numbers)
            self._ended = time.monotonic()
            self._took = self._ended - started

        if aside:
            self._writing = self._thread.submit(write)
        else:
            write()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for what is being written, but no longer than that; whether it is written.

        Raises:
            SegError: it could not be (exit 5). It is raised once.
        """
        writing = self._writing
        if writing is None:
            return True
        wait([writing], seconds)
        if not writing.done():
            return False
        self._writing = None
        writing.result()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if error is None:
            self.wait()
        else:
            with suppress(SegError):  # what ended the training counts more
                self.wait(LAST_S)
        self._thread.end(1.0)


class EpochLog:
    """One JSON object a line and epoch; lines of epochs that a resumed training does again are dropped."""

    def __init__(self, path: Path, epochs: int, *, leads: bool = True) -> None:
        self._path, self._leads = path, leads
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows = [row for row in rows if json.loads(row)["epoch"] <= epochs]

    def add(self, row: dict[str, Any]) -> None:
        """Add the line of an epoch, on the disk when this returns."""
        self._rows.append(json.dumps(row))
        if self._leads:
            write_text(self._path, "\n".join(self._rows) + "\n")
