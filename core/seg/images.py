"""Images and label maps as arrays: the one place where files become (C, Z, Y, X) and go back.

SimpleITK's order (x, y, z) stays behind this module. Whatever is wrong with a file is a `SegError` whose records name
it (their codes are listed in `seg.stages.check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg._geometry import Geometry, differences, orientation
from seg._guard import Raw, from_image, load, read_geometry, save, sitk_quietly
from seg._turn import AS_IT_LIES, Turn, turn_to
from seg.errors import Exit, Record, SegError
from seg.files import whole_file
from seg.inputs import find_inputs, image_ending
from seg.models import Labels, Spacing3

__all__ = [
    "Geometry", "Volume", "find_inputs", "geometry_of", "image_faults", "join_channels", "label_faults", "label_ids",
    "label_to_sitk", "orientation", "read_image", "read_label", "turn_of", "volume_from_sitk", "write_label",
]  # fmt: skip

COUNTED_AT_ONCE = 1 << 16
SENTINEL = 1e30  # beyond any unit of intensity; its square overflows float32


@frozen(kw_only=True, eq=False)
class Volume:
    """An image in memory.

    `array` is float32 (C, Z, Y, X), finite; `spacing` (z, y, x) in mm, 999 times the in-plane one across a 2-D image;
    `geometry` the grid of its (first) file, from which `turn` led to the array: `turn.back` leads label maps and
    probabilities back to it.
    """

    array: NDArray[np.float32]
    spacing: Spacing3
    geometry: Geometry
    turn: Turn = AS_IT_LIES

    @property
    def orientation(self) -> str:
        """Where the axes x, y, z of the array point to, as "RAS" and the like; "2D" for a 2-D image."""
        own = orientation(self.geometry)
        return own if self.geometry.ndim == 2 else self.turn.letters(own)


def read_image(paths: Sequence[Path], reorient: str = "") -> Volume:
    """Read one case's image.

    Args:
        paths: a file for each channel; or one file with several (a fourth axis, or colours, of which an alpha channel
            is dropped); or a folder with one DICOM series.
        reorient: the orientation to turn a 3-D image to (`Description.orientation`); empty: as it lies.

    Raises:
        SegError: a file cannot be read (see `seg._guard.load`); channels lie differently (D04); a voxel is not finite
            (D05) or overflows (D06).
    """
    raws = [load(path) for path in paths]
    faults = [record for path, raw in zip(paths, raws, strict=True) for record in image_faults(raw.array, str(path))]
    volume, records = join_channels(paths, raws, reorient)
    errors = [record for record in (*faults, *records) if record.severity == "error"]
    if errors:
        raise SegError(errors)
    return volume


def join_channels(paths: Sequence[Path], raws: Sequence[Raw], reorient: str = "") -> tuple[Volume, list[Record]]:
    """One volume of several files, and how they disagree (D04); of other shapes than the first's they are left out."""
    first = raws[0].geometry
    records = [
        Record(code=code, found=found, expected=f"{expected}, as in {paths[0].name}", file=str(path),
               advice="All channels of a case must share one grid.")
        for path, raw in zip(paths[1:], raws[1:], strict=True)
        for code, found, expected in differences(first, raw.geometry, channels=True)
    ]  # fmt: skip
    turn = turn_to(first, reorient)
    grid = turn.grid(first)
    fitting = [turn.forth(raw.array) for raw in raws if raw.array.shape[1:] == raws[0].array.shape[1:]]
    array = np.empty((sum(map(len, fitting)), *grid.shape), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.concatenate(fitting, out=array, casting="unsafe")
    geometry = evolve(first, channels=len(array))
    return Volume(array=array, spacing=grid.spacing_zyx, geometry=geometry, turn=turn), records


def image_faults(array: NDArray[Any], file: str) -> list[Record]:
    """What is wrong with the numbers of an image (C, Z, Y, X) of any dtype: D05, D06, and a warning if all are 0."""
    if array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            return [not_finite(array, file)]
        if max(abs(low), abs(high)) >= SENTINEL:
            count = int((np.abs(array) >= SENTINEL).sum())
            return [Record(code="SEG-D06", found=f"{count} voxels beyond ±{SENTINEL:g} (from {low:g} to {high:g})",
                           expected="intensities", file=file,
                           advice="Replace the marker for missing voxels, by 0 say.")]
    if not array.any():
        return [Record(code="SEG-D05", found="every voxel is 0", severity="warning", file=file,
                       advice="Is this the right file?")]
    return []


def not_finite(array: NDArray[Any], file: str) -> Record:
    """The fault of NaN or infinite voxels (SEG-D05), with their number and the first one's place."""
    bad = ~np.isfinite(array)
    place = np.unravel_index(int(bad.argmax()), array.shape)
    first = ", ".join(f"{name} {index}" for name, index in zip("czyx", place, strict=True))
    return Record(code="SEG-D05", found=f"{int(bad.sum())} voxels are NaN or infinite, the first at {first}",
                  expected="finite numbers", advice="Replace them, by 0 say.", file=file)


def read_label(
    path: Path, labels: Labels | None = None, turn: Turn = AS_IT_LIES
) -> tuple[NDArray[Any], Geometry]:
    """Read a label map: ids (Z, Y, X), int16 where they fit, else int32; and their grid.

    Args:
        path: the file. Numbers of a float type are accepted where they are whole, three equal colours as grey.
        labels: what the numbers mean. With `Labels.file_values`, each stands for its id and all others are 0;
            without, an undeclared number is refused. None: the file's own numbers are given.
        turn: that of the image (`Volume.turn`), so that the two stay together whatever rounding did to their headers.

    Raises:
        SegError: it cannot be read; it holds several channels (D15), NaN (D05), fractions or negative numbers (D11),
            undeclared numbers (D10).
    """
    raw = load(path)
    faults = label_faults(raw.array, labels, str(path))
    if faults:
        raise SegError(faults)
    return np.ascontiguousarray(turn.forth(label_ids(raw.array, labels))), turn.grid(raw.geometry)


def label_faults(array: NDArray[Any], labels: Labels | None, file: str) -> list[Record]:
    """What is wrong with a label map (C, Z, Y, X) as its file has it: D05, D10, D11, D15."""
    if len(array) != 1 and not (len(array) == 3 and (array == array[:1]).all()):
        return [Record(code="SEG-D15", found=f"a label map of {len(array)} channels", expected="one", file=file,
                       advice="Label maps hold one number a voxel.")]
    plane = array[0]
    if plane.dtype.kind == "f":
        if not np.isfinite(plane.sum(dtype=np.float64)):
            return [not_finite(array, file)]
        broken = plane[plane != np.rint(plane)]
        if broken.size:
            return [Record(code="SEG-D11", found=f"fractions: {_counts(broken)}", expected="whole numbers", file=file,
                           advice="Was it resampled with interpolation? Nearest neighbour keeps labels whole.")]
    values, counts = value_counts(plane)
    if values[0] < 0 or values[-1] > np.iinfo(np.int32).max:
        return [Record(code="SEG-D11", found=f"values from {values[0]} to {values[-1]}", file=file,
                       expected="0, for background, and above")]
    return _undeclared(values, counts, labels, file) if labels is not None and not labels.file_values else []


def _undeclared(values: NDArray[Any], counts: NDArray[Any], labels: Labels, file: str) -> list[Record]:
    unknown = {int(value): int(count) for value, count in zip(values, counts, strict=True) if value not in labels.ids}
    if not unknown:
        return []
    told = ", ".join(f"{value}: {count} voxels" for value, count in list(unknown.items())[:8])
    return [Record(code="SEG-D10", found=f"undeclared values ({told}{', …' if len(unknown) > 8 else ''})", file=file,
                   expected=", ".join(f"{value} {name}" for name, value in labels.values.items()),
                   advice="Declare them, or correct the label map.")]


def value_counts(plane: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The whole numbers that occur, ascending, and how often."""
    low, high = plane.min(), plane.max()
    if low >= 0 and high < 1 << 16:
        flat, counts = plane.reshape(-1), np.zeros(int(high) + 1, np.int64)
        for start in range(0, flat.size, COUNTED_AT_ONCE):  # bincount makes eight bytes of each number
            counts += np.bincount(flat[start : start + COUNTED_AT_ONCE].astype(np.int64), minlength=counts.size)
        values = np.flatnonzero(counts)
        return values, counts[values]
    values, counts = np.unique(plane, return_counts=True)
    return values.astype(np.int64), counts


def label_ids(array: NDArray[Any], labels: Labels | None) -> NDArray[Any]:
    """Ids (Z, Y, X), int16 where they fit, else int32, of a faultless label map (C, Z, Y, X) as its file has it."""
    plane: NDArray[Any] = array[0]
    if labels is not None and labels.file_values:
        ids = np.zeros(plane.shape, np.int16 if max(labels.file_values) < 1 << 15 else np.int32)
        for label_id, value in labels.file_values.items():
            ids[plane == value] = label_id
        return ids
    return plane.astype(np.int16 if plane.max() < 1 << 15 else np.int32)


def write_label(path: Path, array: NDArray[Any], geometry: Geometry, labels: Labels | None = None) -> None:
    """Write a label map on the grid `geometry`, in the format of `path`'s ending, whole or not at all.

    Args:
        path: the file; `geometry.label_ending` is the ending that suits the image.
        array: ids (Z, Y, X), whole numbers.
        geometry: the grid of the image.
        labels: turns ids into the files' own values; without, ids are written.

    The dtype is uint8 where the declared values fit into it, else uint16, else uint32.

    Raises:
        SegError: the format is none we write (exit 2), or the disk refuses (exit 5).
    """
    if image_ending(path) not in (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".bmp", ".tif", ".tiff"):
        record = Record(code="SEG-C06", found="label maps are not written in this format", file=str(path),
                        expected=f"a name ending in {geometry.label_ending}")
        raise SegError(record, Exit.USAGE)
    image = label_to_sitk(array, geometry, labels)
    with whole_file(path) as temporary:
        save(image, temporary)


def label_to_sitk(array: NDArray[Any], geometry: Geometry, labels: Labels | None = None) -> Any:
    """A SimpleITK image on the grid `geometry` from ids (Z, Y, X); see `write_label`.

    Raises:
        ValueError: `array` has not the shape of `geometry`.
    """
    if array.shape != geometry.shape:
        raise ValueError(f"a label map of shape {array.shape} on a grid of {geometry.shape}")
    sitk = sitk_quietly()
    largest = int(array.max()) if labels is None else max(map(labels.file_value, labels.ids))
    written = array.astype(np.uint8 if largest < 1 << 8 else np.uint16 if largest < 1 << 16 else np.uint32)
    if labels is not None and labels.file_values:
        for label_id, value in labels.file_values.items():
            written[array == label_id] = value
    image = sitk.GetImageFromArray(written[0] if geometry.ndim == 2 else written)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def volume_from_sitk(image: Any, reorient: str = "") -> Volume:
    """A volume from a SimpleITK image of 2, 3 or 4 axes or of several components; `reorient` as in `read_image`.

    Raises:
        SegError: it is of another dimension (D15), or holds what is not finite (D05, D06).
    """
    try:
        array, geometry = from_image(image)
    except ValueError as error:
        raise SegError(Record(code="SEG-D15", found=str(error), expected="two or three axes, and channels")) from None
    errors = [record for record in image_faults(array, "the image in memory") if record.severity == "error"]
    if errors:
        raise SegError(errors)
    turn = turn_to(geometry, reorient)
    return Volume(array=turn.forth(array).astype(np.float32, order="C"), spacing=turn.grid(geometry).spacing_zyx,
                  geometry=geometry, turn=turn)


def geometry_of(path: Path) -> Geometry:
    """The grid of a file or of a DICOM series, from headers alone.

    Raises:
        SegError: as `read_image`, as far as headers tell.
    """
    if path.is_dir() and not image_ending(path):
        return load(path).geometry
    return read_geometry(path)


def turn_of(path: Path, reorient: str) -> Turn:
    """How `read_image` turns the image whose (first) file is `path`; without `reorient` nothing is read."""
    return turn_to(geometry_of(path), reorient) if reorient else AS_IT_LIES


def _counts(values: NDArray[Any]) -> str:
    found, counts = np.unique(values, return_counts=True)
    told = ", ".join(f"{value:g}: {count} voxels" for value, count in list(zip(found, counts, strict=True))[:8])
    return told + (", …" if len(found) > 8 else "")
