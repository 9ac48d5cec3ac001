"""What a job does on its node. It is pickled on the way there, so this module imports nothing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any


class Command:
    """A command whose outputs go behind what is in a file; its exit code is the result.

    Out of time or preempted (submitit then calls `checkpoint`) it is told to save its state and is queued again.
    """

    def __init__(self, words: Sequence[str], log: str) -> None:
        self.words, self.log = tuple(words), log
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run it to its end."""
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's warning is for this process alone
        with open(self.log, "ab") as log:  # noqa: PTH123
            self._process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=log,  # noqa: S603 - ours
                                             stderr=subprocess.STDOUT, start_new_session=True)
        signal.signal(signal.SIGUSR2, before)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """The same once more, after the state is saved."""
        from submitit.helpers import DelayedSubmission

        self._pass_on(signal.SIGTERM)
        if self._process:
            self._process.wait()
        return DelayedSubmission(Command(self.words, self.log))

    def _pass_on(self, number: int, _: object = None) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM if number == signal.SIGINT else number)
