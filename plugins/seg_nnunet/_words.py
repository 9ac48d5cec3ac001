"""Numbers as the reasons of a plan write them."""

from __future__ import annotations

from collections.abc import Iterable

AXES = "zyx"  # of the files, before they are transposed


def by(lengths: Iterable[float]) -> str:
    """Sizes or spacings: `36 × 50 × 35`."""
    return " × ".join(f"{length:.6g}" for length in lengths)


def million(values: float) -> str:
    """How many values feature maps hold, in millions."""
    return f"{values / 1e6:.4g} million"


def percent(share: float) -> str:
    """A part of one in percent."""
    return f"{100 * share:.3g} %"


def counted(number: int, what: str) -> str:
    """`1 class`, `2 classes`; `3 channels`."""
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number} {what if number == 1 else plural}"
