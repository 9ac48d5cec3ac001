"""Classes whose names differ by a direction alone: left and right, anterior and posterior, superior and inferior.

A mirror image of a left kidney is a right one, so the axis between them must not be mirrored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import frozen


@frozen
class Direction:
    """An axis of the body: its letters in an orientation such as RAS, and the words for its two ends."""

    name: str
    letters: str
    ends: tuple[tuple[str, ...], tuple[str, ...]]


DIRECTIONS = (
    Direction("left-right", "LR", (("left", "l", "lt", "lh"), ("right", "r", "rt", "rh"))),
    Direction("front-back", "AP", (("anterior", "ant", "ventral", "front"), ("posterior", "post", "dorsal", "back"))),
    Direction("head-foot", "SI", (("superior", "sup", "upper", "cranial"), ("inferior", "inf", "lower", "caudal"))),
)


@frozen(kw_only=True)
class Pair:
    """Two classes that are the two ends of one thing."""

    direction: Direction
    first: str
    second: str


def opposite_pairs(names: Iterable[str]) -> list[Pair]:
    """Every pair of names that differ in the words of one direction alone.

    Such as kidney_left and kidney_right, "lung L" and "lung R", Anterior and Posterior.
    """
    known = list(names)
    pairs = []
    for direction in DIRECTIONS:
        first, second = ({stem: name for name in known if (stem := _without(name, words)) is not None}
                         for words in direction.ends)
        pairs += [Pair(direction=direction, first=name, second=second[stem])
                  for stem, name in first.items() if stem in second]
    return pairs


def _without(name: str, words: Sequence[str]) -> str | None:
    """`name` with the word of an end replaced by a mark, or None without one; the first word may be glued on."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).casefold()
    parts = [part for part in re.split(r"[^a-z0-9]+", text) if part]
    marked = ["*" if part in words else part.replace(words[0], " * ") for part in parts]
    return " ".join(" ".join(marked).split()) if marked != parts else None
