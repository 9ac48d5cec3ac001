"""What came of a comparison, and how it is written: as data, as a table, as a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from seg.bootstrap import FEWEST_CASES, PairedDifference
from seg.convert import write_json
from seg.effects import Effect
from seg.errors import Record
from seg.files import write_text
from seg.grids import SEED, member_name
from seg.metrics import METRICS
from seg.stages.report import pages

FILE = "compare.json"


@frozen(kw_only=True)
class MemberResult:
    """What came of a member: metrics as its model predicts (post-processed), and what they cost.

    `larger_is_better` has the further metrics (`metrics.also`). `steps` and `seconds` are of all its trainings
    together, `parameters` of one network of each configuration, `peak_memory_bytes` of the device, where that was
    measured (CUDA). `reduced`: a budget made the network smaller than planned. A member that failed has `faults`, and
    no metrics.
    """

    name: str
    choices: dict[str, str]
    cases: int = 0
    mean: dict[str, float | None] = field(factory=dict)
    class_means: dict[str, dict[str, float | None]] = field(factory=dict)
    larger_is_better: dict[str, bool] = field(factory=dict)
    steps: int = 0
    seconds: float = 0.0
    parameters: int = 0
    peak_memory_bytes: int | None = None
    reduced: bool = False
    faults: tuple[Record, ...] = ()
    exit_code: int = 0


@frozen(kw_only=True)
class Comparison:
    """All members, how far each is above the first one (`differences`), and each factor alone (`effects`).

    Where seeds vary beside something else, differences are over all of them. Effects are there with two factors or
    more: a value against the first one of its factor, over every combination of the others.
    """

    schema: int = 1
    data: str
    folds: tuple[str, ...]
    length: str
    members: tuple[MemberResult, ...]
    differences: tuple[Effect, ...]
    effects: dict[str, tuple[Effect, ...]]

    @property
    def baseline(self) -> str:
        """What the differences are to."""
        return member_name(without_seed(self.members[0].choices))

    @property
    def further(self) -> dict[str, bool]:
        """The metrics beside Dice, HD95 and NSD that any member has, and whether larger is better."""
        return {name: better for member in self.members for name, better in member.larger_is_better.items()}

    @property
    def caution(self) -> str:
        """What the intervals do not tell."""
        if 0 < max(member.cases for member in self.members) < FEWEST_CASES:
            return (f"Fewer than {FEWEST_CASES} validated cases: the intervals say little, and no difference is called "
                    "supported. More folds (--fold all) give more cases.")
        if SEED in self.members[0].choices:
            return ""
        return "One seed: the intervals tell what other cases would change, not another training (--seed 0,1,2)."

    @property
    def faults(self) -> tuple[Record, ...]:
        """Why members failed; empty if none did."""
        return tuple(record for member in self.members for record in member.faults)


def without_seed(choices: Mapping[str, str]) -> dict[str, str]:
    """The choices that are compared: seeds are repetitions, unless nothing else varies."""
    return {name: value for name, value in choices.items() if name != SEED} or dict(choices)


def write_comparison(found: Comparison, out: Path) -> None:
    """Write `compare.json`, `compare.csv` (a row a member) and `compare.html` into the folder `out`."""
    write_json(out / FILE, found)
    write_text(out / "compare.csv", _table(found))
    templates = pages()
    templates.filters["reach"] = _reach
    page = templates.get_template("compare.html.j2")
    write_text(out / "compare.html", page.render(found=found, fewest=FEWEST_CASES))


def _reach(found: PairedDifference) -> float:
    """How far from 0 an interval reaches."""
    return max(abs(found.low or 0.0), abs(found.high or 0.0))


def _table(found: Comparison) -> str:
    factors, metrics = list(found.members[0].choices), (*METRICS, *found.further)
    costs = ("cases", "steps", "seconds", "parameters", "peak_memory_bytes", "reduced")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["member", *factors, *metrics, *costs, "difference_dice", "low", "high", "supported", "fault"])
    effects = {each.name: each for each in found.differences}
    for member in found.members:
        arm = effects.get(member_name(without_seed(member.choices)))
        dice = arm.differences["dice"] if arm else None
        writer.writerow([
            member.name, *member.choices.values(), *(member.mean.get(metric) for metric in metrics),
            *(getattr(member, cost) for cost in costs),
            *((dice.difference, dice.low, dice.high, arm.supported) if arm and dice else ("", "", "", "")),
            "; ".join(map(str, member.faults))])
    return text.getvalue()
