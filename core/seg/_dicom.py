"""One DICOM series as one volume, slice by slice.

SimpleITK's series reader drops slices that it cannot read, and makes a spacing out of whatever positions it finds. Here
every slice is read by itself, and the positions must be those of a regular stack.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg._geometry import DIRECTION_TOLERANCE, Geometry, differences, from_sitk, spacing_record
from seg._guard import ITK, Raw, from_image, last_line, sitk_quietly
from seg.errors import Record, SegError
from seg.files import digest_file
from seg.inputs import is_dicom_file

POSITION_TOLERANCE = 0.01  # of the distance between slices
SERIES_UID, FRAMES = "0020|000e", "0028|0008"


@frozen(kw_only=True, eq=False)
class _Slice:
    path: Path
    series: str
    frames: int
    array: NDArray[Any]  # (C, 1, Y, X)
    geometry: Geometry

    @property
    def normal(self) -> NDArray[np.float64]:
        """The direction that slices are stacked in."""
        return np.array(self.geometry.direction).reshape(3, 3)[:, 2]


def read_series(folder: Path) -> Raw:
    """The volume of the one DICOM series in `folder`. Other files beside it are told in a note.

    Raises:
        SegError: with all that is wrong (SEG-D17): a slice that cannot be read, several series, slices that are
            missing, twice there, of another size or direction, or shifted against each other; frames in one file.
    """
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    wanted = [path for path in files if is_dicom_file(path)]
    if not wanted:
        raise SegError(_fault(folder, "the folder holds no DICOM file", "one DICOM series"))
    records: list[Record] = []
    slices = [found for path in wanted if (found := _read(path, records)) is not None]
    records += _series_faults(folder, slices)
    if records:
        raise SegError(records)
    normal = slices[0].normal
    slices.sort(key=lambda item: float(np.dot(item.geometry.origin, normal)))
    records += _stack_faults(folder, slices)
    if records:
        raise SegError(records)
    geometry = _stacked(slices)
    wrong = spacing_record(geometry, str(folder))
    if wrong:
        raise SegError(wrong)
    digest = hashlib.sha256("".join(sorted(digest_file(path) for path in wanted)).encode()).hexdigest()
    stray = [path.name for path in files if path not in wanted]
    notes = [Record(code="SEG-D17", severity="note", found=f"no part of the series: {', '.join(stray[:5])}",
                    file=str(folder))] if stray else []  # fmt: skip
    return Raw(array=np.concatenate([item.array for item in slices], axis=1), geometry=geometry, digest=digest,
               notes=tuple(notes))


def _read(path: Path, records: list[Record]) -> _Slice | None:
    sitk = sitk_quietly()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        with ITK:
            image = reader.Execute()
        array, _ = from_image(image)
        geometry = from_sitk(image, components=image.GetNumberOfComponentsPerPixel())
    except (RuntimeError, ValueError) as error:
        found = "the slice is empty" if path.stat().st_size == 0 else f"the slice cannot be read: {last_line(error)}"
        records.append(_fault(path, found, "a whole slice", "Copy the series again from where it came from."))
        return None

    def tag(name: str) -> str:
        return str(reader.GetMetaData(name)).strip() if reader.HasMetaDataKey(name) else ""

    frames = int(tag(FRAMES) or "1")
    return _Slice(path=path, series=tag(SERIES_UID), frames=frames, array=array, geometry=geometry)


def _series_faults(folder: Path, slices: list[_Slice]) -> list[Record]:
    """Several series, several frames in a file, slices of other sizes or directions."""
    series = Counter(item.series for item in slices)
    if len(series) > 1:
        told = "; ".join(f"{uid} ({count} slices)" for uid, count in series.most_common(4))
        return [_fault(folder, f"{len(series)} series: {told}", "one series",
                       "Put each series into a folder of its own, and give the one you mean.")]
    records = [_fault(item.path, f"{item.frames} frames in one file", "one slice a file",
                      "Convert it to NIfTI, with dcm2niix say.")
               for item in slices if item.frames > 1 or item.geometry.shape[0] > 1]
    if records or not slices:
        return records
    usual = Counter(_kind(item) for item in slices).most_common(1)[0][0]
    first = next(item for item in slices if _kind(item) == usual)
    for item in slices:
        others = [f"{found}, not {expected}" for _, found, expected in differences(first.geometry, item.geometry)
                  if not found.startswith("origin")]
        if others:
            records.append(_fault(item.path, others[0], "slices of one size and direction",
                                  "Take localisers and other views out of the folder."))
    return records


def _kind(item: _Slice) -> tuple[Any, ...]:
    return item.geometry.size, tuple(np.round(item.geometry.direction, 3))


def _stack_faults(folder: Path, slices: list[_Slice]) -> list[Record]:
    """Slices, ordered along their normal, that are no regular stack: missing, double, or shifted ones."""
    origins = np.array([item.geometry.origin for item in slices])
    steps = np.diff(origins, axis=0)
    gaps = steps @ slices[0].normal
    if not len(gaps):
        return []
    positive = [gap for gap in gaps.tolist() if gap > 0]
    usual = statistics.median(positive) if positive else 0.0
    records = []
    for item, after, gap in zip(slices, slices[1:], gaps.tolist(), strict=False):
        if gap <= POSITION_TOLERANCE * usual:
            records.append(_fault(after.path, f"lies where {item.path.name} lies", "one slice at each position",
                                  "Take one of them out of the folder."))
        elif abs(gap - usual) > POSITION_TOLERANCE * usual:
            missing = round(gap / usual) - 1
            what = f"{missing} slices seem to be missing" if missing > 0 else "the stack is irregular"
            records.append(_fault(folder, f"{gap:.4g} mm between {item.path.name} and {after.path.name}: {what}",
                                  f"{usual:.4g} mm, as between the others", "Complete the series."))
    sideways = np.abs(steps - gaps[:, None] * slices[0].normal).max()
    if not records and sideways > max(DIRECTION_TOLERANCE, POSITION_TOLERANCE) * usual:
        records.append(_fault(folder, f"the slices are shifted against each other by {sideways:.4g} mm",
                              "slices straight above each other",
                              "Correct the tilt of the gantry by resampling (dcm2niix does it)."))
    return records


def _stacked(slices: list[_Slice]) -> Geometry:
    first, last = slices[0].geometry, slices[-1].geometry
    distance = float(np.dot(np.subtract(last.origin, first.origin), slices[0].normal))
    between = distance / (len(slices) - 1) if len(slices) > 1 else first.spacing[2]
    return Geometry(size=(*first.size[:2], len(slices)), spacing=(*first.spacing[:2], between), origin=first.origin,
                    direction=first.direction, channels=first.channels)


def _fault(path: Path, found: str, expected: str, advice: str = "") -> Record:
    return Record(code="SEG-D17", found=found, expected=expected, advice=advice, file=str(path))
