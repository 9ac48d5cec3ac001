"""What the names of channels and classes say: how to normalise, and which axis must not be mirrored."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from seg import Description, Direction, Fingerprint, opposite_pairs, usage_error
from seg_nnunet._words import counted

SCHEMES = {"ct": "ct", "nonorm": "none", "rescale_to_0_1": "rescale_to_0_1", "rgb_to_0_1": "rgb_to_0_1",
           "zscore": "zscore"}
WHOLE = ("ct", "none", "rescale_to_0_1", "rgb_to_0_1")  # nnU-Net's schemes that know no region
MASKED_BELOW = 0.75  # a crop smaller than this share of the image means that most of it was padding
X_AXIS = 2  # of an array (z, y, x)
USUAL_AXES = {"LR": 2, "AP": 1, "SI": 0}


def normalization(channels: Sequence[str], given: Sequence[str] = ()) -> tuple[tuple[str, ...], str]:
    """The normaliser of each channel by its exact name (upper or lower case), and why.

    `given`, the option of the planner, has one name for all channels, or one for each.

    Raises:
        SegError: another number of names (exit 2).
    """
    if given:
        if len(given) not in {1, len(channels)}:
            raise usage_error(f"planner.normalization names {len(given)} normalisers",
                              expected=f"one, or one for each of {counted(len(channels), 'channel')}")
        schemes, why = normalization(channels)
        names = ",".join(given)
        return tuple(given) * (len(channels) // len(given)), f"Set by planner.normalization={names}. Without it: {why}"
    schemes = tuple(SCHEMES.get(channel.casefold(), "zscore") for channel in channels)
    words = [f"{channel!r} → {scheme}" for channel, scheme in zip(channels, schemes, strict=True)]
    unknown = [channel for channel in channels if channel.casefold() not in SCHEMES]
    units = any("ct" in re.split(r"[^a-z]+", name.casefold()) or "cbct" in name.casefold() for name in unknown)
    warning = "; only the exact name 'CT' is taken for Hounsfield units" if units else ""
    return schemes, (f"By the channel's name: {', '.join(words)}{warning}. {', '.join(SCHEMES)} are known (in upper or "
                     "lower case), any other name means zscore.")


def masked(schemes: Sequence[str], fingerprint: Fingerprint) -> tuple[tuple[bool, ...], str]:
    """Which channels are normalised inside the non-zero region alone, and why."""
    size = fingerprint.relative_size_after_cropping
    if size < MASKED_BELOW:
        why = (f"Cropping left {size:.2f} of the voxels (median), under {MASKED_BELOW}: what is zero is no tissue, and "
               f"would draw down mean and deviation. {', '.join(WHOLE)} take every voxel.")
        return tuple(scheme not in WHOLE for scheme in schemes), why
    why = (f"Cropping left {size:.2f} of the voxels (median), not under {MASKED_BELOW}; else zscore would leave out "
           "what is zero.")
    return (False,) * len(schemes), why


def intensities_reason(schemes: Sequence[str], description: Description, fingerprint: Fingerprint) -> str:
    """Where the statistics of the foreground come from, and what they are used for."""
    used = [f"{name!r} is clipped to {found.percentile_00_5:.4g} … {found.percentile_99_5:.4g} (percentiles 0.5 and "
            f"99.5), less {found.mean:.4g}, divided by {found.std:.4g}"
            for scheme, name, found in zip(schemes, description.channel_names, fingerprint.intensities, strict=False)
            if scheme == "ct"]
    what = "; ".join(used) or "No channel is ct, which alone uses them: each image is normalised by its own values"
    return f"Over the foreground of {counted(len(fingerprint.cases), 'case')}, each with equal weight. {what}."


def ends_reasons(description: Description) -> dict[str, str]:
    """Why the network has its inputs and outputs, by the names of the fields of a topology."""
    labels, names = description.labels, ", ".join(description.channel_names)
    classes = counted(len(labels.foreground), "class")
    outputs = (f"{classes} of several labels, so they may overlap: one map each (sigmoid). Labels apart would have one "
               "more map, for the background (softmax).") if labels.has_regions else (
               f"{classes} and the background (softmax). Regions of several labels would have one map each (sigmoid).")
    return {"topology.in_channels": f"The data set has {counted(len(description.channel_names), 'channel')}: {names}. "
                                    "A second stage of a cascade would have one more for each class.",
            "topology.outputs": outputs}


@frozen(kw_only=True)
class Mirroring:
    """The axes of a three-dimensional patch that may be mirrored, in transposed order, and why."""

    axes: tuple[int, ...]
    reason: str

    def of(self, dims: int) -> tuple[int, ...]:
        """The same for a patch of `dims` axes, which are the last ones."""
        return tuple(axis - 3 + dims for axis in self.axes if axis >= 3 - dims)


def mirroring(choice: str, fingerprint: Fingerprint, description: Description, order: Sequence[int]) -> Mirroring:
    """All axes, but not those along which classes differ by direction alone: a mirrored left kidney is a right one.

    nnU-Net mirrors every axis; there the network has to tell such classes apart by shape.

    Args:
        choice: "auto", "all", "first_two" or "none", the option of the planner.
        fingerprint: how the cases lie; the most common orientation decides.
        description: the names of the classes.
        order: `transpose_forward` of the plan.
    """
    if choice != "auto":
        auto = mirroring("auto", fingerprint, description, order)
        return Mirroring(axes={"all": (0, 1, 2), "first_two": (0, 1), "none": ()}[choice],
                         reason=f"Set by planner.mirroring={choice}. With auto: {auto.reason}")
    left_out: dict[int, str] = {}
    for pair in opposite_pairs(description.labels.foreground):
        axis, how = _axis_of(pair.direction, fingerprint)
        left_out.setdefault(axis, f"{pair.first!r} and {pair.second!r} differ by side, so the {pair.direction.name} "
                            f"axis ({'zyx'[axis]} of the files) is left out; {how}.")
    if not left_out:
        return Mirroring(axes=(0, 1, 2), reason="All axes, for no two classes are the left and right of one "
                         "thing; the axis between such would be left out.")
    kept = tuple(position for position in range(3) if order[position] not in left_out)
    return Mirroring(axes=kept, reason=" ".join((*left_out.values(), "nnU-Net mirrors all axes.")))


def _axis_of(direction: Direction, fingerprint: Fingerprint) -> tuple[int, str]:
    """The array axis (z, y, x) that runs along a direction of the body, and how that is known."""
    letters = set(direction.letters)
    known = {name: cases for name, cases in fingerprint.orientations.items() if set(name) & letters}
    if not known:
        return USUAL_AXES[direction.letters], "that is the usual axis, for how the cases lie is not known"
    common = max(known, key=lambda name: known[name])
    index = next(position for position, letter in enumerate(common) if letter in letters)
    return X_AXIS - index, f"{common} in {known[common]} of {sum(fingerprint.orientations.values())} cases"
