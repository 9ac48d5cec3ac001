"""What only the files themselves say: which values label maps hold, and how many channels an image has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seg import Labels, Record, SegError, geometry_of, image_ending, in_threads, read_label

MOST_CLASSES = 64  # more values than these are no classes but intensities
COLOURS = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")


def found_labels(paths: Sequence[Path], root: Path) -> Labels:
    """Classes from the values that occur: 0 is background, the others are classes in ascending order.

    Files that cannot be read are passed over; the check of the data set tells of them.

    Raises:
        SegError: there are more values than classes are likely (D10).
    """
    values = sorted({value for found in in_threads(_values, paths, 2) for value in found} - {0})
    if len(values) > MOST_CLASSES:
        raise SegError(Record(code="SEG-D10", found=f"the label maps hold {len(values)} different values",
                              file=str(root), expected=f"at most {MOST_CLASSES} classes",
                              advice="Name the classes with --labels name=value,…; lossy formats spoil label maps."))
    names = ["foreground"] if len(values) == 1 else [f"label_{value}" for value in values]
    classes: dict[str, int | tuple[int, ...]] = {"background": 0}
    classes |= {name: number for number, name in enumerate(names, 1)}
    same = values == list(range(1, len(values) + 1))
    return Labels(values=classes, file_values={} if same else dict(enumerate(values, 1)))


def found_channels(images: Sequence[Path]) -> tuple[str, ...]:
    """Names for the channels of a case with these files; a single file is looked into."""
    count = len(images)
    if count == 1:
        try:
            count = geometry_of(images[0]).channels
        except SegError:
            count = 1
        if count == 3 and image_ending(images[0]) in COLOURS:
            return "R", "G", "B"
    return ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))


def _values(path: Path) -> set[int]:
    import numpy as np

    try:
        return set(np.unique(read_label(path, None)[0]).tolist())
    except SegError:
        return set()
