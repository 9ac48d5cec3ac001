"""What executors that start other processes have in common: follow them, tell what they say, end what is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from typing import Any, Protocol

from attrs import define, frozen

from seg.choice import OURS
from seg.contracts import blamed, expect
from seg.errors import Exit, Record, SegError
from seg.models import ComponentUse
from seg.progress import Progress
from seg.settings import AUTO
from seg.training_kinds import Executor, RemoteExecutor, TrainingJob

POLL_S = 0.2  # between two looks at the processes
LAST_LINES = 4  # of a log, told of a job that failed
GRACE_S = 120.0  # for a process to save its state once it is told to end


class Process(Protocol):
    """A job that was started elsewhere. A `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Its exit code once it has ended, negative if a signal ended it; None before."""

    def terminate(self) -> None:
        """Ask it to save its state and end."""

    def kill(self) -> None:
        """End it at once."""


def supervise(
    jobs: Sequence[TrainingJob], start: Callable[[TrainingJob, int], Process], progress: Progress, *, limit: int
) -> None:
    """Do all `jobs`, at most `limit` at a time, each in a process that `start(job, slot)` begins.

    `slot`, 0 to `limit` - 1, is no other job's meanwhile. New lines in a job's log are said under its name. One that
    fails leaves the others. If this process is stopped, the others are asked to end, and waited for.

    Raises:
        SegError: what could not be done, with exit code and last lines of each; the exit code is the first one's.
    """
    waiting, running, failed = list(jobs), dict[int, Running](), list[SegError]()
    try:
        while waiting or running:
            for slot in sorted(set(range(limit)) - set(running))[:len(waiting)]:
                job = waiting.pop(0)
                position = job.log.stat().st_size if job.log.exists() else 0
                running[slot] = Running(job, start(job, slot), position, position)
            time.sleep(POLL_S)
            for slot, one in list(running.items()):
                code = one.process.poll()
                one.tell(progress)
                if code is not None:
                    del running[slot]
                    failed += [_told(failure(one, code), progress)] if code else []
    except BaseException:
        end([one.process for one in running.values()])
        raise
    if failed:
        records = dict.fromkeys(record for error in failed for record in error.records)
        raise SegError(list(records), failed[0].exit_code)


@define
class Running:
    """A job that is being done, and how far its log was when it began, and was told."""

    job: TrainingJob
    process: Process
    begun: int
    told: int

    def tell(self, progress: Progress) -> None:
        """Say the lines that are new and whole."""
        lines, whole, _ = self._from(self.told).rpartition(b"\n")
        self.told += len(lines + whole)
        for line in lines.decode(errors="replace").splitlines():
            if line.strip():
                progress.say(f"{self.job.name}: {line}")

    def last_lines(self) -> list[str]:
        """What stands last in its log."""
        lines = [line.strip() for line in self._from(self.begun).decode(errors="replace").splitlines()]
        return [line for line in lines if line][-LAST_LINES:]

    def _from(self, position: int) -> bytes:
        if not self.job.log.exists():
            return b""
        with self.job.log.open("rb") as stream:
            stream.seek(position)
            return stream.read()


@frozen
class _Ended:
    """How a process ended, in words, what that means for the run, and what to do."""

    words: str
    exit_code: Exit
    advice: str = ""

    @classmethod
    def by(cls, code: int) -> _Ended:
        number = -code if code < 0 else code - 128 if code > 128 else 0
        if number == signal.SIGKILL:
            return cls("was killed (SIGKILL)", Exit.RESOURCES, "Often the system ends so what takes too much memory. ")
        if number:
            known = number in set(signal.Signals)
            return cls(f"was stopped by {signal.Signals(number).name if known else f'signal {number}'}", Exit.RESOURCES)
        known = code in set(Exit) - {Exit.DONE}  # with that, it ended too early
        return cls(f"ended with exit code {code}", Exit(code) if known else Exit.RESOURCES)


def failure(one: Running, code: int) -> SegError:
    """What is told of a job that did not end well."""
    ended, last = _Ended.by(code), " | ".join(one.last_lines())
    record = Record(code="SEG-T02", found=f"{one.job.name} {ended.words}" + (f"; last said: {last}" if last else ""),
                    file=str(one.job.log), advice=f"{ended.advice}The same command goes on.")
    return SegError(record, ended.exit_code)


def _told(error: SegError, progress: Progress) -> SegError:
    progress.say(str(error))
    return error


def end(processes: Sequence[Process]) -> None:
    """Ask the processes to end, and wait; what does not end in time, or at a second Ctrl-C, is killed."""
    left, until = list(processes), time.monotonic() + GRACE_S
    try:
        for process in left:
            process.terminate()
        while left and time.monotonic() < until:
            time.sleep(POLL_S)
            left = [process for process in left if process.poll() is None]
    finally:
        for process in left:
            process.kill()
        while any(process.poll() is None for process in left):
            time.sleep(POLL_S)


def device_elsewhere(executor: Executor, use: ComponentUse, asked: str) -> str:
    """The device that trainings compute on where `executor` has them run, if it is for the executor to say, else empty.

    Raises:
        SegError: a plugin's executor fails in that, or gives no text (exit 6).
    """
    if not isinstance(executor, RemoteExecutor):
        return ""
    with blamed(use, "training_device"):
        found: Any = executor.training_device(asked)
    name = expect(found, str, use, "training_device")
    return "" if name == AUTO else name


def command_of_seg() -> tuple[str, ...]:
    """The command `seg` of this installation, by this Python, wherever it is called from."""
    (script,) = distribution(OURS).entry_points.select(group="console_scripts", name="seg")
    # -P: else the folder that it is called from would come first where modules are looked for
    return sys.executable, "-P", "-c", f"from {script.module} import {script.attr}; {script.attr}()"


@contextmanager
def lifeline() -> Iterator[int]:
    """Standard input for processes that shall end with this one, however it ends: nothing else has the other end."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)
