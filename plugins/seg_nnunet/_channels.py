"""What the names of channels and classes say: how to normalise, and which axis must not be mirrored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import frozen

from seg import Description, Fingerprint

SCHEMES = {"ct": "ct", "nonorm": "none", "rescale_to_0_1": "rescale_to_0_1", "rgb_to_0_1": "rgb_to_0_1",
           "zscore": "zscore"}
MASKED_BELOW = 0.75  # a crop smaller than this share of the image means that most of it was padding
LEFT, RIGHT = ("left", "l", "lt", "lh"), ("right", "r", "rt", "rh")
X_AXIS = 2  # of an array (z, y, x)


def normalization(channels: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The scheme of each channel by its exact name (upper or lower case), and why."""
    schemes = tuple(SCHEMES.get(channel.casefold(), "zscore") for channel in channels)
    words = [f"{channel!r} → {scheme}" for channel, scheme in zip(channels, schemes, strict=True)]
    why = "By the channel's name: " + ", ".join(words)
    unknown = [channel for channel in channels if channel.casefold() not in SCHEMES]
    if any("ct" in re.split(r"[^a-z]+", name.casefold()) or "cbct" in name.casefold() for name in unknown):
        return schemes, why + "; only the exact name 'CT' is taken for Hounsfield units."
    return schemes, why + "."


def masked(schemes: Sequence[str], fingerprint: Fingerprint) -> tuple[tuple[bool, ...], str]:
    """Which channels are normalised inside the non-zero region alone, and why."""
    size = fingerprint.relative_size_after_cropping
    if size < MASKED_BELOW:
        why = f"Cropping left {size:.2f} of the voxels, under {MASKED_BELOW}: what is zero is no tissue (z-score only)."
        return tuple(scheme == "zscore" for scheme in schemes), why
    return (False,) * len(schemes), f"Cropping left {size:.2f} of the voxels, not under {MASKED_BELOW}."


@frozen(kw_only=True)
class Mirroring:
    """The axes of a three-dimensional patch that may be mirrored, in transposed order, and why."""

    axes: tuple[int, ...]
    reason: str

    def of(self, dims: int) -> tuple[int, ...]:
        """The same for a patch of `dims` axes, which are the last ones."""
        return tuple(axis - 3 + dims for axis in self.axes if axis >= 3 - dims)


def mirroring(choice: str, fingerprint: Fingerprint, description: Description, order: Sequence[int]) -> Mirroring:
    """All axes, but not left-right where classes differ by side alone, because a mirrored left kidney is a right one.

    Args:
        choice: "auto", "all" or "none", the option of the planner.
        fingerprint: how the cases lie; the most common orientation decides.
        description: the names of the classes.
        order: `transpose_forward` of the plan.
    """
    if choice != "auto":
        return Mirroring(axes=(0, 1, 2) if choice == "all" else (), reason=f"Set by planner.mirroring={choice}.")
    pair = side_pair(description.labels.foreground)
    if pair is None:
        return Mirroring(axes=(0, 1, 2), reason="All axes: no two classes are the left and right of one thing.")
    axis, how = _left_right(fingerprint)
    kept = tuple(position for position in range(3) if order[position] != axis)
    why = (f"{pair[0]!r} and {pair[1]!r} differ by side, so the left-right axis ({'zyx'[axis]} of the files) is left "
           f"out; {how}.")
    return Mirroring(axes=kept, reason=why)


def side_pair(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that differ in left and right alone: kidney_left and kidney_right, "lung L" and "lung R"."""
    lefts: dict[str, str] = {}
    rights: dict[str, str] = {}
    for name in names:
        for words, found in ((LEFT, lefts), (RIGHT, rights)):
            if (stem := _without(name, words)) is not None:
                found[stem] = name
    common = [stem for stem in lefts if stem in rights]
    return (lefts[common[0]], rights[common[0]]) if common else None


def _without(name: str, words: Sequence[str]) -> str | None:
    """`name` with the word of a side replaced by a mark, or None where there is none; long words may be glued on."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).casefold()
    parts = [part for part in re.split(r"[^a-z0-9]+", text) if part]
    marked = ["*" if part in words else part.replace(words[0], " * ") for part in parts]
    return " ".join(" ".join(marked).split()) if marked != parts else None


def _left_right(fingerprint: Fingerprint) -> tuple[int, str]:
    """The array axis (z, y, x) that runs between left and right, and how that is known."""
    known = {name: cases for name, cases in fingerprint.orientations.items() if set(name) & set("LR")}
    if not known:
        return X_AXIS, "that is the usual axis, for how the cases lie is not known"
    common = max(known, key=lambda name: known[name])
    index = next(position for position, letter in enumerate(common) if letter in "LR")
    return X_AXIS - index, f"{common} in {known[common]} of {sum(fingerprint.orientations.values())} cases"
