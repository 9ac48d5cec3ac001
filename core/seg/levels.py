"""Levels: the smaller networks that a trained one contains, where its architecture says so (`seg.Prunable`).

A level is known by its name. A network, or a model, *holds* a level and contains all cheaper ones; an empty name stands
for the whole network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import attrs
from attrs import frozen

from seg.convert import read_json
from seg.errors import SegError, usage_error
from seg.kinds import Architecture, Prunable
from seg.metrics import evaluation
from seg.models import Evaluation, Topology
from seg.settings import AUTO

if TYPE_CHECKING:
    from torch import nn

FILE = "levels.json"


@frozen(kw_only=True)
class Level:
    """What a level of a network is worth and what it costs, on the validation cases of one fold or of several.

    `seconds` is the median time of a case's sliding window. `weight_bytes` and `activation_bytes` are its weights and
    the peak of its feature maps for one batch of tiles (see `seg.footprint`).
    """

    name: str
    evaluation: Evaluation
    seconds: float
    parameters: int
    weight_bytes: int
    activation_bytes: int

    @property
    def dice(self) -> tuple[float | None, ...]:
        """The mean Dice over the classes, then that of each class."""
        return self.evaluation.mean["dice"], *(mean["dice"] for mean in self.evaluation.class_means.values())

    @property
    def memory_bytes(self) -> int:
        """Weights and activations together."""
        return self.weight_bytes + self.activation_bytes


@frozen(kw_only=True)
class FoldLevels:
    """All levels on one fold, cheapest first: `levels.json`. `source` is the digest of what they were measured on."""

    source: str
    device: str
    levels: tuple[Level, ...]


def levels_within(architecture: Architecture, topology: Topology, held: str = "") -> tuple[str, ...]:
    """The levels that a network of the level `held` contains, cheapest first; none where the architecture has none.

    Raises:
        SegError: there is no level `held` (exit 2).
    """
    names = architecture.levels(topology) if isinstance(architecture, Prunable) else ()
    if not held:
        return names
    if held not in names:
        raise _no_such_level(architecture, names, held)
    return names[: names.index(held) + 1]


def require_level(architecture: Architecture, topology: Topology, level: str) -> None:
    """Refuse a level that networks of this architecture and topology do not have; `auto` wants any at all.

    Raises:
        SegError: the record names those there are (exit 2).
    """
    names = levels_within(architecture, topology)
    if level and level not in names and not (level == AUTO and names):
        raise _no_such_level(architecture, names, level)


def at_level(
    architecture: Architecture, network: nn.Module, topology: Topology, level: str, held: str = ""
) -> nn.Module:
    """The part of `network`, which is of the level `held`, that is `level`; weights are shared, not copied.

    Raises:
        SegError: there is no such level in it; the record names those there are (exit 2).
    """
    if not level:
        return network
    names = levels_within(architecture, topology, held)
    if level not in names or not isinstance(architecture, Prunable):
        raise _no_such_level(architecture, names, level, held)
    return architecture.prune(network, level)


def read_levels(configuration: Path) -> tuple[Level, ...]:
    """What was measured in the folds of `validation/<configuration>`, together; empty where nothing was."""
    return together([read_json(file, FoldLevels) for file in sorted(configuration.glob(f"fold_*/{FILE}"))])


def together(folds: Sequence[FoldLevels]) -> tuple[Level, ...]:
    """The levels that all folds have, over the cases of all of them; none of no folds."""
    named = [{level.name: level for level in fold.levels} for fold in folds]
    common = [name for name in (named[0] if named else ()) if all(name in fold for fold in named)]
    return tuple(_joined([fold[name] for fold in named]) for name in common)


def smallest_sufficient(levels: Sequence[Level], tolerance: float) -> Level:
    """The first level whose mean Dice is at most `tolerance` below the best; the whole where there is no Dice at all.

    Raises:
        ValueError: there are no levels.
    """
    if not levels:
        raise ValueError("no levels to choose among")
    scores = [value for level in levels if (value := level.dice[0]) is not None]
    if not scores:
        return levels[-1]
    return next(level for level in levels if level.dice[0] is not None and level.dice[0] >= max(scores) - tolerance)


def _joined(parts: Sequence[Level]) -> Level:
    """One level, measured on several folds."""
    first = parts[0].evaluation
    cases = [case for part in parts for case in part.evaluation.cases]
    return attrs.evolve(parts[0], evaluation=evaluation(cases, list(first.class_means), first.tolerance_mm,
                                                   first.larger_is_better),
                        seconds=median(part.seconds for part in parts),
                        activation_bytes=max(part.activation_bytes for part in parts))


def _no_such_level(architecture: Architecture, names: Sequence[str], level: str, held: str = "") -> SegError:
    what = type(architecture).__name__
    if not names:
        return usage_error(f"level {level!r} of an architecture without levels, {what}", expected="no level",
                           advice="Leave out --prune, or predict.prune.")
    advice = f"The model holds the level {held} alone, and what it contains." if held else ""
    return usage_error(f"level {level!r} of {what}", expected=f"one of {', '.join(names)}", advice=advice)
