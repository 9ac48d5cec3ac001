"""Look at every voxel of one case: its faults, and what the data set wants to know of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from numpy.typing import NDArray

from seg._geometry import Geometry, differences, orientation
from seg._guard import Raw, load
from seg.errors import Record, SegError
from seg.files import digest_json
from seg.images import image_faults, label_faults, value_counts
from seg.models import Case, Dataset, Labels


@frozen(kw_only=True)
class Examined:
    """What one case is. `voxels` counts ids of the label map, `images` are the digests of its image files."""

    case: str
    records: tuple[Record, ...]
    digest: str
    images: tuple[str, ...] = ()
    geometry: Geometry | None = None
    orientation: str = ""
    voxels: dict[int, int] = field(factory=dict)
    labelled: bool = False  # whether the label map could be counted


def examine(case: Case, dataset: Dataset) -> Examined:
    """Read all files of `case`. Nothing is raised for what is wrong with them: it is in the records."""
    records: list[Record] = []
    images = {path: raw for path in case.images if (raw := _load(path, records)) is not None}
    for path, raw in images.items():
        records += image_faults(raw.array, str(path))
        records += raw.notes
    records += _channel_faults(case, images, dataset)
    label = _load(case.label, records) if case.label is not None else None
    voxels: dict[int, int] | None = None
    if case.label is None:
        records.append(Record(code="SEG-D09", found="there is no label map", file=str(case.images[0])))
    elif label is not None:
        first = next(iter(images.values()), None)
        records += _label_place(case.label, label, first)
        faults = label_faults(label.array, dataset.labels, str(case.label))
        records += faults or _float_note(label.array, case.label)
        if not any(record.code in ("SEG-D05", "SEG-D11", "SEG-D15") for record in faults):
            voxels = _count(label.array, dataset.labels)
    raws = [*(images.get(path) for path in case.images), label]
    geometry = next((raw.geometry for raw in images.values()), None)
    return Examined(
        case=case.id, records=tuple(evolve(record, case=case.id) for record in records),
        digest=digest_json([raw.digest if raw else "" for raw in raws]),
        images=tuple(raw.digest for raw in images.values()), geometry=geometry,
        orientation=orientation(geometry) if geometry else "", voxels=voxels or {}, labelled=voxels is not None,
    )  # fmt: skip


def _load(path: Path, records: list[Record]) -> Raw | None:
    try:
        return load(path)
    except SegError as error:
        records += error.records
    except MemoryError:
        records.append(Record(code="SEG-R04", found="not enough memory to read it", file=str(path)))
    return None


def _channel_faults(case: Case, images: dict[Path, Raw], dataset: Dataset) -> Iterable[Record]:
    """Channels that lie differently (D04), and another number of them than the data set declares (D15)."""
    if not images:
        return
    first, *others = images
    for path in others:
        for code, found, expected in differences(images[first].geometry, images[path].geometry, channels=True):
            yield Record(code=code, found=found, expected=f"{expected}, as in {first}", file=str(path),
                         advice="All channels of a case must share one grid.")
    names = dataset.description.channel_names
    count = sum(len(raw.array) for raw in images.values())
    if len(images) == len(case.images) and count != len(names):
        yield Record(code="SEG-D15", found=f"{count} channels", expected=f"{len(names)}: {', '.join(names)}",
                     file=str(first), advice="Every case needs the channels that the data set declares.")


def _label_place(path: Path, label: Raw, image: Raw | None) -> Iterable[Record]:
    """Where the label map does not lie on its image (D01, D02, D03)."""
    if image is None:
        return
    for code, found, expected in differences(image.geometry, label.geometry):
        advice = "Resample the label map onto the image, or correct its header."
        yield Record(code=code, found=found, expected=f"{expected}, as its image", file=str(path), advice=advice)


def _float_note(array: NDArray[Any], path: Path) -> list[Record]:
    if array.dtype.kind != "f":
        return []
    found = f"whole numbers stored as {array.dtype.newbyteorder('=').name}"
    return [Record(code="SEG-D11", severity="note", found=found, advice="They are read as integers.", file=str(path))]


def _count(array: NDArray[Any], labels: Labels) -> dict[int, int]:
    """Voxels of each id; file values that stand for no id are background."""
    values, counts = value_counts(array[0])
    found = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    if not labels.file_values:
        return found
    ids = {label_id: found.get(value, 0) for label_id, value in labels.file_values.items()}
    return {0: sum(found.values()) - sum(ids.values()), **ids}
