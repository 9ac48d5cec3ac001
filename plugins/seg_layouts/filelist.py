"""A list of files: a CSV table with a header, or JSON.

CSV columns: `image` (or `image_0`, `image_1`, …), `label`, and if wanted `case`, `group` (the patient: its cases share
a fold) and `stratum` (the hospital, say: each fold gets its share). JSON: a list of objects with these keys, or
{"labels": {…}, "channel_names": […], "cases": [ … ]}. Paths are relative to the list.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from attrs import frozen

from seg import Case, Dataset, Description, Labels, SegError, case_name, image_ending
from seg_layouts._contents import found_channels, found_labels
from seg_layouts._shared import Faults, channel_names, check_labels, dataset, given_labels, inside, load_object

TEXTS = ("case", "group", "stratum")
COLUMNS = ("image", "label", *TEXTS)


@frozen(kw_only=True)
class FileListLayout:
    """A CSV or JSON list with the image files, the label map, and optionally case, group and stratum of each case."""

    def recognises(self, path: Path) -> bool:
        """A file ending in .csv, .tsv or .json that is no `dataset.json`."""
        return path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".json") and path.name != "dataset.json"

    def read(self, path: Path, labels: dict[str, int] | None) -> Dataset:
        """The data set that `path` lists. Without `labels`, the classes are the list's or the values that occur.

        Raises:
            SegError: the list is broken (D14), with every fault of it.
        """
        head, rows, faults = _json(path) if path.suffix.lower() == ".json" else _table(path)
        cases = [case for place, row in rows if (case := _case(row, path.parent, place, faults)) is not None]
        if not rows:
            faults.add("$", "the list is empty", "at least one case")
        classes = given_labels(labels) if labels else _declared(head, faults)
        channels = channel_names(head, faults) if "channel_names" in head else ()
        faults.stop()
        if classes is None:
            classes = found_labels([case.label for case in cases if case.label], path)
        description = Description(
            name=str(head.get("name") or path.stem), channel_names=channels or found_channels(cases[0].images),
            labels=classes, training_cases=len(cases), file_ending=image_ending(cases[0].images[0]) or ".nii.gz",
        )  # fmt: skip
        return dataset(description, path.parent, "filelist", cases)


Rows = list[tuple[str, dict[str, Any]]]


def _json(path: Path) -> tuple[dict[str, Any], Rows, Faults]:
    faults = Faults(path)
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        whole = {}
    head: dict[str, Any] = {}
    place = "$"
    if not isinstance(whole, list):
        head, faults = load_object(path)
        whole, place = head.get("cases"), "$.cases"
        names = head.get("channel_names")
        if isinstance(names, list):
            head["channel_names"] = {str(number): name for number, name in enumerate(names)}
    if not isinstance(whole, list):
        faults.add(place, "the key is missing" if whole is None else f"{whole!r}", "a list of cases")
        faults.stop()
    rows: Rows = []
    for number, row in enumerate(whole):
        if isinstance(row, dict):
            rows.append((f"{place}[{number}]", row))
        else:
            faults.add(f"{place}[{number}]", f"{row!r}", '{"image": path, "label": path}')
    return head, rows, faults


def _table(path: Path) -> tuple[dict[str, Any], Rows, Faults]:
    faults = Faults(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        faults.add("$", f"cannot be read: {error}")
        raise SegError(faults.records) from None
    first = text.partition("\n")[0]
    sign = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=sign, skipinitialspace=True)
    rows: Rows = [(f"line {reader.line_num}", {key: value for key, value in row.items() if key and value})
                  for row in reader]
    return {}, rows, faults


def _declared(head: dict[str, Any], faults: Faults) -> Labels | None:
    if "labels" not in head:
        return None
    if not isinstance(head["labels"], dict):
        faults.add("$.labels", f"{head['labels']!r}", "an object")
        return None
    return check_labels(head["labels"], faults, head.get("regions_class_order"))


def _case(row: dict[str, Any], root: Path, place: str, faults: Faults) -> Case | None:
    unknown = [key for key in row if key not in COLUMNS and not re.fullmatch(r"image_\d+", key)]
    for key in unknown:
        faults.add(f"{place}.{key}", "an unknown column", f"one of {', '.join(COLUMNS)}, image_0, image_1, …")
    numbered = sorted((key for key in row if key.startswith("image_")), key=lambda key: int(key[6:]) if
                      key[6:].isdecimal() else 0)
    keys = ["image"] if "image" in row else [key for key in numbered if key not in unknown]
    if not keys or "label" not in row or (numbered and "image" in row):
        faults.add(place, f"the keys {', '.join(row) or '(none)'}", "image (or image_0, image_1, …) and label")
        return None
    paths = [inside(root, row[key], f"{place}.{key}", faults) for key in keys]
    label = inside(root, row["label"], f"{place}.label", faults)
    images = tuple(path for path in paths if path)
    texts = {key: row[key] for key in TEXTS if row.get(key) is not None}
    for key, value in texts.items():
        if not isinstance(value, str | int):
            faults.add(f"{place}.{key}", f"{value!r}", "a text")
    if len(images) < len(keys) or label is None:
        return None
    name = re.sub(r"_0000$", "", case_name(images[0]))
    return Case(id=str(texts.get("case", name)), images=images, label=label,
                **{key: str(texts[key]) for key in ("group", "stratum") if key in texts})
