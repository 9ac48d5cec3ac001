"""What the layouts share: reading a `dataset.json` strictly, checking classes, and telling missing files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from seg import Case, Dataset, Description, Labels, Record, SegError, missing_record, name_records

CODE = "SEG-D14"


class Faults:
    """The faults of one JSON file, each with its place in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []

    def add(self, place: str, found: str, expected: str = "", advice: str = "") -> None:
        """One more fault at the JSON path `place`."""
        self.records.append(Record(code=CODE, found=f"{place}: {found}", expected=expected, advice=advice,
                                   file=str(self.path)))

    def stop(self) -> None:
        """Raise what was gathered, if anything was."""
        if self.records:
            raise SegError(self.records)


def load_object(path: Path) -> tuple[dict[str, Any], Faults]:
    """The object in a JSON file, and a place for its faults; keys that stand twice are one.

    Raises:
        SegError: the file cannot be read, or is no JSON object (D14).
    """
    faults = Faults(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in sorted({key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else ()):
            faults.add("$", f"the key {key!r} stands twice in one object")
        return dict(pairs)

    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except (OSError, ValueError, RecursionError) as error:
        faults.add("$", f"cannot be read as JSON: {error}", advice="Correct the file.")
        faults.stop()
    if not isinstance(data, dict):
        faults.add("$", f"a {type(data).__name__}", "an object")
        faults.stop()
    return data, faults


def quick_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file if there is one; for `recognises`, which never raises."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def json_in(path: Path) -> Path:
    """The `dataset.json` of a folder, or the file itself."""
    return path if path.name == "dataset.json" else path / "dataset.json"


def required(data: dict[str, Any], faults: Faults, key: str, kind: type, *others: str) -> Any:
    """The value of `key` (or of an older name of it), or None with a fault."""
    name = next((name for name in (key, *others) if name in data), None)
    if name is None:
        faults.add(f"$.{key}", "the key is missing")
        return None
    if not isinstance(data[name], kind) or isinstance(data[name], bool):
        faults.add(f"$.{name}", f"{data[name]!r}", {dict: "an object", int: "a whole number", str: "a text",
                                                    list: "a list"}[kind])
        return None
    return data[name]


def channel_names(data: dict[str, Any], faults: Faults) -> tuple[str, ...]:
    """`channel_names` (or the older `modality`): {"0": "CT", …}, numbered from 0 without a gap."""
    key = "channel_names" if "channel_names" in data else "modality" if "modality" in data else "channel_names"
    names = required(data, faults, key, dict)
    if names is None:
        return ()
    if not names or sorted(names) != sorted(str(number) for number in range(len(names))):
        faults.add(f"$.{key}", f"the keys are {', '.join(names) or 'none'}", "0, 1, …, one for each channel")
        return ()
    for number, name in names.items():
        if not isinstance(name, str):
            faults.add(f"$.{key}.{number}", f"{name!r}", "a text")
    return tuple(str(names[str(number)]) for number in range(len(names)))


def check_labels(values: dict[str, Any], faults: Faults, order: Any = None) -> Labels:
    """The classes from name → id or ids; every rule of nnU-Net 2.8 on labels is checked."""
    good: dict[str, int | tuple[int, ...]] = {}
    for name, value in values.items():
        ids = value if isinstance(value, list) else [value]
        if not ids or not all(type(item) is int and item >= 0 for item in ids):
            faults.add(f"$.labels.{name}", f"{value!r}", "a whole number from 0 on, or a list of them")
        else:
            good[name] = tuple(ids) if isinstance(value, list) else value
    if len(good) == len(values):
        _check_background(good, faults)
        _check_consecutive(good, faults)
        _check_ignore(good, faults)
    labels = Labels(values=good)
    return Labels(values=good, regions_class_order=_region_order(labels, order, faults))


def _check_background(values: dict[str, int | tuple[int, ...]], faults: Faults) -> None:
    if values.get("background") not in (0, (0,)):
        found = f"{values['background']!r}" if "background" in values else "the key is missing"
        faults.add("$.labels.background", found, "0")
    names: dict[int | tuple[int, ...], str] = {}
    for name, value in values.items():
        other = names.setdefault(value, name)
        if other != name:
            faults.add(f"$.labels.{name}", f"{value!r} is the value of {other!r} too", "a value of its own")


def _check_consecutive(values: dict[str, int | tuple[int, ...]], faults: Faults) -> None:
    first: dict[int, str] = {}
    for name, value in values.items():
        for item in value if isinstance(value, tuple) else (value,):
            first.setdefault(item, name)
    ids = sorted({0, *first})
    for before, after in pairwise(ids):
        if after != before + 1:
            faults.add(f"$.labels.{first[after]}", f"{after} follows {before}", f"{before + 1}: values without a gap")


def _check_ignore(values: dict[str, int | tuple[int, ...]], faults: Faults) -> None:
    if "ignore" not in values:
        return
    ids = {item for value in values.values() for item in (value if isinstance(value, tuple) else (value,))}
    if values["ignore"] != max(ids):
        faults.add("$.labels.ignore", f"{values['ignore']!r}", f"the largest value, {max(ids)}, as a number")


def _region_order(labels: Labels, order: Any, faults: Faults) -> tuple[int, ...]:
    if not labels.has_regions:
        return ()
    regions = len(labels.foreground)
    if not isinstance(order, list) or not all(type(item) is int for item in order) or len(order) != regions:
        found = "the key is missing" if order is None else f"{order!r}"
        faults.add("$.regions_class_order", found, f"a list of {regions} values, one for each region")
        return ()
    return tuple(order)


def given_labels(labels: dict[str, int]) -> Labels:
    """Classes from name → file value: ids from 1 in the order given; everything else in the files is background."""
    names = [name for name in labels if name != "background"]
    values: dict[str, int | tuple[int, ...]] = {"background": 0}
    values |= {name: number for number, name in enumerate(names, 1)}
    return Labels(values=values, file_values={number: labels[name] for number, name in enumerate(names, 1)})


def inside(root: Path, text: Any, place: str, faults: Faults) -> Path | None:
    """The file that a list means, relative to `root`; variables are never expanded."""
    if not isinstance(text, str) or not text or re.search(r"^~|\$|%\w+%|[\x00-\x1f]", text):
        faults.add(place, f"{text!r}", "a path, without ~ and without variables: they are not expanded")
        return None
    return root / text


def missing_files(cases: Iterable[Case]) -> list[Record]:
    """A record (D09) for each listed file that is not there, and for each case without a label map."""
    records = []
    for case in cases:
        records += [missing_record(path, case.id) for path in case.images if not path.exists()]
        if case.label is None:
            records.append(Record(code="SEG-D09", found="there is an image but no label map", case=case.id,
                                  file=str(case.images[0]), advice="Add the label map, or take the image away."))
        elif not case.label.exists():
            records.append(missing_record(case.label, case.id))
    return records


def dataset(description: Description, root: Path, layout: str, cases: Sequence[Case],
            faults: Sequence[Record] = ()) -> Dataset:
    """The data set, with what its names and its missing files say."""
    records = (*faults, *name_records(case.id for case in cases), *missing_files(cases))
    return Dataset(description=description, root=root, layout=layout, cases=tuple(cases), faults=records)
