"""Find a data set, and look at every voxel of it: all faults of all cases in one go."""

from __future__ import annotations

from pathlib import Path

from seg.errors import Record, SegError
from seg.models import Dataset
from seg.registry import Registry


def find_dataset(path: Path, registry: Registry, labels: dict[str, int] | None = None) -> Dataset:
    """The data set at `path`, read by the first layout that recognises it.

    Args:
        path: a folder, or a list of files (CSV or JSON).
        registry: where the layouts come from.
        labels: name → file value, in place of what the layout knows of classes.

    Raises:
        SegError: nothing is there, no layout recognises it, or the one that does cannot read it.
    """
    if not path.exists():
        raise SegError(Record(code="SEG-D00", found="there is no such file or folder", file=str(path)))
    broken: list[str] = []
    for component in registry.of_kind("layout"):
        try:
            layout, _ = registry.build("layout", component.qualified)
            recognised = layout.recognises(path)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and hurts only itself
            broken.append(f"{component.qualified} ({error})")
            continue
        if recognised:
            found: Dataset = layout.read(path, labels)
            return found
    raise SegError(_unrecognised(path, registry, broken))


def _unrecognised(path: Path, registry: Registry, broken: list[str]) -> Record:
    if path.is_dir():
        names = sorted(item.name + ("/" if item.is_dir() else "") for item in path.iterdir())
        found = "the folder is empty" if not names else f"no data set; the folder holds {', '.join(names[:8])}"
        found += ", …" if len(names) > 8 else ""
    else:
        found = "no list of images and label maps"
    known = "; ".join(f"{component.name}: {component.summary}" for component in registry.of_kind("layout"))
    advice = f"Layouts that failed: {'; '.join(broken)}" if broken else ""
    return Record(code="SEG-D00", found=found, expected=f"one of these layouts: {known}", advice=advice, file=str(path))
