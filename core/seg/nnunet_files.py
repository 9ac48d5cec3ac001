"""nnU-Net's files read and written: `dataset.json`, fingerprint, plans; ours and theirs told apart by their keys.

Their forms are those of nnU-Net 2.8; `dataset.json` of the Medical Segmentation Decathlon is read too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, evolve

from seg.convert import from_data, load_json
from seg.errors import Record, SegError, usage_error
from seg.models import Description, Fingerprint, Labels, Plan
from seg.nnunet_plans import intensities_from_nnunet, plan_from_nnunet, plan_to_nnunet

NNUNET_FOLDER = re.compile(r"Dataset\d{3}_")

__all__ = [
    "fingerprint_from_nnunet", "fingerprint_to_nnunet", "plan_from_nnunet", "plan_to_nnunet", "read_description",
    "read_fingerprint_file", "read_plan_file",
]  # fmt: skip


def fingerprint_from_nnunet(data: Any, file: str = "dataset_fingerprint.json") -> Fingerprint:
    """Our form of nnU-Net's fingerprint, which names no cases: they are called by their numbers.

    Raises:
        SegError: a missing key or a value of the wrong type (exit 2).
    """
    _require(data, ("spacings", "shapes_after_crop", "median_relative_size_after_cropping"), file)
    shapes = data["shapes_after_crop"]
    ours = {
        "cases": [str(number) for number in range(len(shapes) if isinstance(shapes, list) else 0)],
        "shapes": shapes,
        "spacings": data["spacings"],
        "relative_size_after_cropping": data["median_relative_size_after_cropping"],
        "intensities": [],
    }
    found = evolve(from_data(ours, Fingerprint, file=file), intensities=intensities_from_nnunet(data, file))
    if not found.shapes or len(found.shapes) != len(found.spacings):
        raise usage_error(f"{len(found.shapes)} shapes and {len(found.spacings)} spacings", file=file,
                          expected="one of each for each case")
    return found


def fingerprint_to_nnunet(fingerprint: Fingerprint) -> dict[str, Any]:
    """nnU-Net's form of our fingerprint."""
    channels = {str(channel): asdict(values) for channel, values in enumerate(fingerprint.intensities)}
    return {
        "foreground_intensity_properties_per_channel": channels,
        "median_relative_size_after_cropping": fingerprint.relative_size_after_cropping,
        "shapes_after_crop": [list(shape) for shape in fingerprint.shapes],
        "spacings": [list(spacing) for spacing in fingerprint.spacings],
    }


def read_fingerprint_file(path: Path) -> Fingerprint:
    """The fingerprint in a file of ours or of nnU-Net's.

    Raises:
        SegError: the file is not there, or is no fingerprint (exit 2).
    """
    data = load_json(path)
    if isinstance(data, dict) and "shapes_after_crop" in data:
        return fingerprint_from_nnunet(data, str(path))
    return from_data(data, Fingerprint, file=str(path))


def read_plan_file(path: Path, description: Description | None = None) -> Plan:
    """The plan in a file of ours or of nnU-Net's.

    Args:
        path: the file.
        description: the data set it shall be used for. nnU-Net's plans do not say what the classes are; without a
            description they take it from the `dataset.json` beside them.

    Raises:
        SegError: the file is not there, or is no plan, or is one for other channels or classes (exit 2).
    """
    data = load_json(path)
    if isinstance(data, dict) and "configurations" in data and "plans_name" in data:
        return plan_from_nnunet(data, description or _description_beside(path), str(path))
    plan = from_data(data, Plan, file=str(path))
    return plan if description is None else _for_data_set(plan, description, str(path))


def _for_data_set(plan: Plan, description: Description, file: str) -> Plan:
    """The plan with `description` in place of its own, if they agree in what a network depends on.

    Its orientation stays: to that the images are turned.
    """
    for what, planned, given in (
        ("channels", plan.description.channel_names, description.channel_names),
        ("labels", plan.description.labels, description.labels),
    ):
        if planned != given:
            raise usage_error(f"a plan for other {what}: {planned}", expected=str(given), file=file)
    return evolve(plan, description=evolve(description, orientation=plan.description.orientation))


def _description_beside(path: Path) -> Description:
    beside = path.parent / "dataset.json"
    if not beside.exists():
        raise usage_error("a plan of nnU-Net, which does not say what the classes are", file=str(path),
                          advice="Name the data set, or put its dataset.json beside the plan.")
    return read_description(load_json(beside), str(beside))


def read_description(data: Any, file: str) -> Description:
    """What a `dataset.json` says, in nnU-Net's keys or in the Decathlon's.

    The Decathlon writes `modality` for `channel_names`, and its labels as {"1": "liver"}. Regions without a
    `regions_class_order` are let through, for planning needs none.

    Args:
        data: the content of the file.
        file: its path, for messages. Where the data set has no name of its own the folder's name is taken, and where
            that is one of nnU-Net's (`Dataset001_Liver`), by which nnU-Net finds the data set of a plan.

    Raises:
        SegError: everything that is wrong with it, one record each (SEG-D14, exit 3).
    """
    if not isinstance(data, dict):
        raise SegError(_wrong("$", "no JSON object", file))
    decathlon = "modality" in data or "training" in data
    records: list[Record] = []
    channels = _channels(data, file, records)
    labels = _labels(data, file, records)
    cases = data.get("numTraining", len(data["training"]) if isinstance(data.get("training"), list) else None)
    if type(cases) is not int or cases < 1:
        records.append(_wrong("$.numTraining", _shown(cases), file, expected="how many training cases there are"))
    ending = data.get("file_ending", ".nii.gz" if decathlon else None)
    if not isinstance(ending, str) or not ending.startswith("."):
        records.append(_wrong("$.file_ending", _shown(ending), file, expected="an ending such as '.nii.gz'"))
    if records or cases is None or ending is None:
        raise SegError(records)
    folder, own = Path(file).absolute().parent.name, data.get("name")
    name = own if isinstance(own, str) and own and not NNUNET_FOLDER.match(folder) else folder
    return Description(name=name, channel_names=channels, labels=labels, training_cases=cases, file_ending=ending)


def _channels(data: dict[str, Any], file: str, records: list[Record]) -> tuple[str, ...]:
    key = "modality" if "modality" in data and "channel_names" not in data else "channel_names"
    given = data.get(key)
    if not isinstance(given, dict) or not given:
        records.append(_wrong(f"$.{key}", _shown(given), file, expected='names by number, {"0": "CT"}'))
        return ()
    wanted = [str(number) for number in range(len(given))]
    if sorted(given, key=str) != sorted(wanted):
        records.append(_wrong(f"$.{key}", f"the keys {', '.join(given)}", file, expected=", ".join(wanted)))
        return ()
    return tuple(str(given[number]) for number in wanted)


def _labels(data: dict[str, Any], file: str, records: list[Record]) -> Labels:
    given = data.get("labels")
    if not isinstance(given, dict) or not given:
        expected = 'values by name, {"background": 0, "liver": 1}'
        records.append(_wrong("$.labels", _shown(given), file, expected=expected))
        return Labels(values={})
    if all(isinstance(name, str) for name in given.values()):  # the Decathlon's way round
        numbers = {name: key for key, name in given.items()}
        if len(numbers) < len(given):
            records.append(_wrong("$.labels", "two labels of the same name", file))
        given = {name: int(key) if key.isdecimal() else key for name, key in numbers.items()}
    values: dict[str, int | tuple[int, ...]] = {}
    for name, value in given.items():
        if type(value) is int:
            values[name] = value
        elif isinstance(value, list) and value and all(type(item) is int for item in value):
            values[name] = tuple(value)
        else:
            expected = "an integer, or a list of them for a region"
            records.append(_wrong(f"$.labels.{name}", _shown(value), file, expected=expected))
    order = data.get("regions_class_order") or []
    if not isinstance(order, list) or any(type(item) is not int for item in order):
        records.append(_wrong("$.regions_class_order", _shown(order), file, expected="a list of integers"))
        order = []
    labels = Labels(values=values)
    if labels.has_regions:
        labels = evolve(labels, regions_class_order=tuple(order))
    if len(values) == len(given):
        records += _inconsistencies(labels, file)
    return labels


def _inconsistencies(labels: Labels, file: str) -> list[Record]:
    """What each label says well enough for itself, but not all of them together."""
    records = []
    if labels.values.get("background") not in (0, (0,)):
        records.append(_wrong("$.labels.background", _shown(labels.values.get("background")), file, expected="0"))
    names: dict[object, str] = {}
    for name, value in labels.values.items():
        if value in names:
            records.append(_wrong(f"$.labels.{name}", f"the value {value} of {names[value]!r} again", file))
        names[value] = name
    ids = labels.ids
    if ids != tuple(range(len(ids))):
        records.append(_wrong("$.labels", f"the values {_listed(ids)}", file, expected=_listed(range(len(ids)))))
    if "ignore" in labels.values and labels.ignore != ids[-1]:
        records.append(_wrong("$.labels.ignore", _shown(labels.values["ignore"]), file, expected="the highest label"))
    regions = len(labels.foreground)
    if labels.regions_class_order and len(labels.regions_class_order) != regions:
        records.append(_wrong("$.regions_class_order", f"{len(labels.regions_class_order)} entries", file,
                              expected=f"{regions}, one for each region"))
    if not labels.foreground:
        records.append(_wrong("$.labels", "no class besides the background", file))
    return records


def _require(data: Any, keys: Sequence[str], file: str) -> None:
    if not isinstance(data, dict):
        raise usage_error("no JSON object", file=file)
    missing = [key for key in keys if key not in data]
    if missing:
        raise usage_error(f"the keys {', '.join(missing)} are missing", file=file)


def _wrong(path: str, found: str, file: str, expected: str = "") -> Record:
    return Record(code="SEG-D14", found=f"{path}: {found}", expected=expected, file=file)


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:80]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
