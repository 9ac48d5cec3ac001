"""One program in a process of its own: its figures, seconds of the processor, and peak memory of its process tree."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen

T = TypeVar("T")
LOOK_S = (0.05, 0.5)  # between two looks at the memory, at least and at most
LOOK_SHARE = 0.02  # of the time may go into looking: a look at a large process holds it up


class Failed(Exception):  # noqa: N818 - it says what happened, and ends a part
    """A program ended with an error."""


@frozen(kw_only=True)
class Run:
    """What one process took, its children included."""

    cpu_s: float
    wall_s: float
    peak_mb: float  # 0 where the system has no /proc
    figures: dict[str, Any] = field(factory=dict)  # of its last line, where that is JSON


def run(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command with one thread of the processor.

    Raises:
        Failed: it ended with an error; the end of what it said.
    """
    words = list(map(str, command))
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})})
        peak, ended, due = 0.0, 0, 0.0
        while not ended:
            now = time.perf_counter()
            if now >= due:
                peak = max(peak, tree_mb(process.pid))
                took = time.perf_counter() - now
                due = now + took + min(max(LOOK_S[0], took / LOOK_SHARE), LOOK_S[1])
            time.sleep(0.01)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise Failed(f"{' '.join(words)[:300]} ended with {process.returncode}:\n{text[-3000:]}")
    return Run(cpu_s=usage.ru_utime + usage.ru_stime, wall_s=wall, peak_mb=peak, figures=last_figures(text))


def last_figures(text: str) -> dict[str, Any]:
    """The last line of `text` that is a JSON object; nothing where none is."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                continue
            return found
    return {}


def tree_mb(pid: int) -> float:
    """What a process and its descendants hold now, in MB: pages that several share are counted once (Linux's PSS).

    At least the highest that one of them held (VmHWM), so that a short peak of a single process is not missed.
    """
    held, highest = 0.0, 0.0
    waiting = [pid]
    while waiting:
        one = Path("/proc") / str(waiting.pop())
        try:
            held += _kilobytes(one / "smaps_rollup", "Pss:") / 1024
            highest = max(highest, _kilobytes(one / "status", "VmHWM:") / 1024)
            for task in (one / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it ended meanwhile
            continue
    return max(held, highest)


def _kilobytes(file: Path, key: str) -> float:
    line = next((line for line in file.read_text().splitlines() if line.startswith(key)), f"{key} 0 kB")
    return float(line.split()[1])


def in_turn(calls: Mapping[str, Callable[[int], T]], repeats: int) -> dict[str, list[T]]:
    """Each call `repeats` times, one after the other and again (A B A B …); a call is given the number of its turn."""
    found: dict[str, list[T]] = {name: [] for name in calls}
    for repeat in range(repeats):
        for name, call in calls.items():
            found[name].append(call(repeat))
    return found
