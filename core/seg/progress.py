"""What a long stage says while it runs. The command line shows it; Python callers may leave it out."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

from seg.events import Event
from seg.files import disk_error


class Progress(Protocol):
    """A stage's voice: a bar that advances, and lines of text."""

    def start(self, title: str, total: int) -> None:
        """A new bar of `total` steps takes the place of the last one."""

    def advance(self, steps: int = 1) -> None:
        """The bar moves on."""

    def say(self, text: str) -> None:
        """One line of text, kept in the log."""

    def tell(self, event: Event) -> None:
        """Something happened that plugins may listen to."""


class Silent:
    """Says nothing."""

    def start(self, title: str, total: int) -> None:
        """Nothing is shown."""

    def advance(self, steps: int = 1) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def tell(self, event: Event) -> None:
        """Nobody listens."""


class Logged:
    """Passes everything on, and keeps each line of text in a file, with its time."""

    def __init__(self, progress: Progress, file: Path) -> None:
        self._progress, self._file = progress, file

    def start(self, title: str, total: int) -> None:
        """A new bar."""
        self._progress.start(title, total)

    def advance(self, steps: int = 1) -> None:
        """The bar moves on."""
        self._progress.advance(steps)

    def say(self, text: str) -> None:
        """One line of text, also into the file.

        Raises:
            SegError: the file cannot be written (exit 5).
        """
        self._progress.say(text)
        try:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {text}\n")
        except OSError as error:
            raise disk_error(error, self._file) from error

    def tell(self, event: Event) -> None:
        """Passed on."""
        self._progress.tell(event)
