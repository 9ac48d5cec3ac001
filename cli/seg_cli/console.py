"""How things look on a terminal, and off it: records, tables, progress. No bars where the output is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console

from seg.errors import Record
from seg.models import Evaluation

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from seg.events import Event
    from seg.levels import Level
    from seg.stages.select import Selection

WIDTH = 200  # columns, where the output is no terminal
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def console(*, err: bool = False) -> Console:
    """A console on standard output or standard error; text that is no terminal's is not wrapped."""
    terminal = (sys.stderr if err else sys.stdout).isatty()
    return Console(stderr=err, highlight=False, width=None if terminal else WIDTH)


def print_records(records: Sequence[Record]) -> None:
    """Each record on standard error: code, place, what was found, what was expected, what to do."""
    from rich.text import Text

    screen = console(err=True)
    for record in records:
        place = " · ".join(part for part in (f"case {record.case}" if record.case else "", record.file or "") if part)
        screen.print(Text.assemble((f"{record.code} {record.severity}", COLOURS[record.severity]),
                                   f"  {place}" if place else ""), soft_wrap=True)
        screen.print(Text(f"    found {record.found}" if record.expected else f"    {record.found}"), soft_wrap=True)
        if record.expected:
            screen.print(Text(f"    expected {record.expected}"), soft_wrap=True)
        if record.advice:
            screen.print(Text(f"    {record.advice}"), soft_wrap=True)


def warn(text: str) -> None:
    """Plain text on standard error."""
    from rich.text import Text

    console(err=True).print(Text(text), soft_wrap=True)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> None:
    """A table under its title; `numbers` sets every column but the first to the right."""
    from rich.table import Table
    from rich.text import Text

    if title:  # a table's own title is wrapped to its width
        console().print(Text(title), soft_wrap=True)
    table = Table(show_edge=False, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def print_evaluation(title: str, result: Evaluation) -> None:
    """The table of metrics: a row a class, and the mean over the classes."""
    metrics = list(result.mean)
    rows = [[name, *(_number(values.get(metric)) for metric in metrics)] for name, values in result.class_means.items()]
    rows.append(["mean", *(_number(result.mean[metric]) for metric in metrics)])
    print_table(f"{title}: {len(result.cases)} cases", ["class", *metrics], rows, numbers=True)
    if result.absent:
        console().print(f"present in no case, and counted nowhere: {', '.join(result.absent)}")


def print_selection(found: Selection) -> None:
    """The candidates with what the chosen one is better by, if there were several; then the post-processing."""
    if len(found.candidates) > 1:
        rows = [[name, *map(_number, means.values()), "chosen" if name == found.name else str(found.differences[name])]
                for name, means in found.candidates.items()]
        header = ["candidate", *next(iter(found.candidates.values())), f"{found.metric}: chosen − this"]
        print_table("choice", header, rows, numbers=True)
    if found.postprocessing:
        before, after = (_number(means["dice"]) for means in (found.candidates[found.name], found.result))
        console().print(f"post-processing ({', '.join(found.postprocessing)}): Dice {before} → {after}")


def print_levels(title: str, levels: Sequence[Level]) -> None:
    """The table of the levels of a network: Dice, time, parameters and memory of each."""
    first = levels[0].evaluation
    header = ["level", "Dice", *first.class_means, "seconds a case", "parameters", "memory (MB)"]
    rows = [[level.name, *map(_number, level.dice), f"{level.seconds:.3f}", f"{level.parameters:,}",
             f"{level.memory_bytes / 1e6:.1f}"] for level in levels]
    print_table(f"{title}: {len(first.cases)} cases", header, rows, numbers=True)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


class ConsoleProgress:
    """Bars with the time left on a terminal, lines of text everywhere; use it in a `with` block."""

    def __init__(self) -> None:
        self._screen = console(err=True)
        self._bars: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                  TimeRemainingColumn(), console=self._screen, transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def start(self, title: str, total: int) -> None:
        """A new bar of `total` steps takes the place of the last one."""
        if self._bars:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(title, total=total)
        else:
            self.say(title)

    def advance(self, steps: int = 1) -> None:
        """The bar moves on."""
        if self._bars and self._task is not None:
            self._bars.advance(self._task, steps)

    def say(self, text: str) -> None:
        """One line of text."""
        from rich.text import Text

        self._screen.print(Text(text), soft_wrap=True)

    def tell(self, event: Event) -> None:
        """Nothing is shown: plugins hear of it (see `seg.listening`)."""
