"""The journal: written line by line, so that it is whole as far as it goes, and read again as trainings."""

from __future__ import annotations

import html
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

FILE = "history.jsonl"


@frozen(kw_only=True)
class Training:
    """What the journal says of one fold of one configuration: the loss of each epoch, the mean Dice if validated."""

    configuration: str
    fold: str
    losses: tuple[float, ...]
    dice: float | None


def note(run: Path, event: str, **facts: Any) -> None:
    """Add a line to the journal of the run folder `run`: the time (UTC), what happened, and the facts."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
    with (run / FILE).open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":  # a line that was cut short must not spoil this one
                stream.write(b"\n")
        stream.write(json.dumps(line).encode() + b"\n")


def events(run: Path) -> list[dict[str, Any]]:
    """All lines of a journal in their order; none where there is no journal. A line that was cut short is left out."""
    file = run / FILE
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # the machine stopped in the middle of it
            continue
    return found


def trainings(run: Path) -> list[Training]:
    """The trainings of a journal. An epoch that was done again after an interruption counts as it was the last time."""
    losses: dict[tuple[str, str], dict[int, float]] = {}
    dice: dict[tuple[str, str], float | None] = {}
    for line in events(run):
        key = (line.get("configuration", ""), line.get("fold", ""))
        if line["event"] == "epoch":
            kept = {epoch: loss for epoch, loss in losses.get(key, {}).items() if epoch < line["epoch"]}
            losses[key] = {**kept, line["epoch"]: line["loss"]}
        elif line["event"] == "validated":
            dice[key] = line.get("dice")
    return [Training(configuration=key[0], fold=key[1], losses=tuple(rows.values()), dice=dice.get(key))
            for key, rows in losses.items()]


def number(value: float | None) -> str:
    """Four digits after the point, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def table(run: Path) -> str:
    """The trainings of a run as an HTML table; empty where there is no journal of any."""
    rows = "".join(
        f"<tr><td>{html.escape(one.configuration)}</td><td>{html.escape(one.fold)}</td><td>{len(one.losses)}</td>"
        f"<td>{number(one.losses[0])}</td><td>{number(one.losses[-1])}</td><td>{number(one.dice)}</td></tr>"
        for one in trainings(run))
    head = "".join(f"<th>{name}</th>" for name in ("configuration", "fold", "epochs", "first loss", "last loss",
                                                   "mean Dice"))
    return f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
