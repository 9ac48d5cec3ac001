"""Rows of figures of both programs, as a table in Markdown and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from attrs import field, frozen

HEAD = ("what", "seg", "nnU-Net", "ratio", "target", "remark")


@frozen(kw_only=True)
class Row:
    """One figure of both, every repeat of it."""

    part: str
    what: str
    unit: str  # s, ms, MB, or nothing
    ours: list[float]
    theirs: list[float] = field(factory=list)  # empty: only seg was measured
    at_most: float | None = None  # the ratio; where there is none, our figure
    at_least: float | None = None
    remark: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours by theirs, of the medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.theirs else None

    @property
    def target(self) -> str:
        """The target in words, and whether it was met."""
        value = self.ratio if self.theirs else statistics.median(self.ours)
        if value is None or (self.at_most is None and self.at_least is None):
            return ""
        if self.at_most is not None:
            return f"≤ {self.at_most:.4g}" + ("" if value <= self.at_most else ", missed")
        return f"≥ {self.at_least:.4g}" + ("" if self.at_least is None or value >= self.at_least else ", missed")

    def cells(self) -> tuple[str, ...]:
        """What stands in the table."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, self._figure(self.ours), self._figure(self.theirs), ratio, self.target, self.remark

    def _figure(self, values: Sequence[float]) -> str:
        """The median, and the best where there are several."""
        if not values:
            return "–"
        middle, best = (_number(value, self.unit) for value in (statistics.median(values), min(values)))
        return (middle if len(values) == 1 else f"{middle} (best {best})") + (f" {self.unit}" if self.unit else "")


def markdown(rows: Sequence[Row], head: Sequence[str]) -> str:
    """The lines of `head`, then a table for each part."""
    lines = list(head)
    for part in dict.fromkeys(row.part for row in rows):
        lines += ["", f"### {part.capitalize()}", "", _line(HEAD), _line(["---"] * len(HEAD))]
        lines += [_line(row.cells()) for row in rows if row.part == part]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float, unit: str) -> str:
    if not unit:
        return f"{value:.5f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
