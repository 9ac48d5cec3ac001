"""The layout of the Medical Segmentation Decathlon: `dataset.json` with a list of `training` pairs.

Images with a fourth axis hold their channels in it. Files of nnU-Net v1, whose list names `x.nii.gz` where
`x_0000.nii.gz` lies, are read too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from seg import Case, Dataset, Description, Labels, case_name, image_ending
from seg_layouts._shared import (
    Faults,
    channel_names,
    check_labels,
    dataset,
    given_labels,
    inside,
    json_in,
    load_object,
    quick_object,
    required,
)


@frozen(kw_only=True)
class DecathlonLayout:
    """Medical Segmentation Decathlon: keys `modality` (or `channel_names`), `labels` by number, `training`."""

    def recognises(self, path: Path) -> bool:
        """A folder with a `dataset.json` that has a `training` list."""
        data = quick_object(json_in(path))
        return data is not None and "training" in data

    def read(self, path: Path, labels: dict[str, int] | None) -> Dataset:
        """The data set at `path` (the folder or its `dataset.json`).

        Raises:
            SegError: `dataset.json` is broken (D14), with every fault of it.
        """
        file = json_in(path)
        root = file.parent
        data, faults = load_object(file)
        channels = channel_names(data, faults)
        values = required(data, faults, "labels", dict)
        training = required(data, faults, "training", list)
        declared = given_labels(labels) if labels else _labels(values or {}, faults, data.get("regions_class_order")) \
            if values is not None else given_labels({})
        cases = _cases(training or [], root, max(1, len(channels)), faults)
        if training is not None and not training:
            faults.add("$.training", "an empty list", "at least one case")
        faults.stop()
        count = data.get("numTraining")
        if count is not None and count != len(cases):
            faults.add("$.numTraining", f"{count!r}", f"{len(cases)}: so many cases are listed",
                       "Correct the number, or complete the list.")
        description = Description(name=str(data.get("name") or root.resolve().name), channel_names=channels,
                                  labels=declared, training_cases=len(cases),
                                  file_ending=image_ending(cases[0].images[0]) or ".nii.gz")
        return dataset(description, root, "decathlon", cases, faults.records)


def _labels(values: dict[str, Any], faults: Faults, order: Any) -> Labels:
    """Number → name turned into name → number; names as keys are left as they are."""
    if not all(key.isdecimal() for key in values):
        return check_labels(values, faults, order)
    turned: dict[str, Any] = {}
    for key, name in sorted(values.items(), key=lambda item: int(item[0])):
        if not isinstance(name, str) or not name:
            faults.add(f"$.labels.{key}", f"{name!r}", "the name of a class")
        elif name in turned:
            faults.add(f"$.labels.{key}", f"{name!r} is the name of {turned[name]} too", "a name of its own")
        else:
            turned[name] = int(key)
    zero = next((name for name, value in turned.items() if value == 0), None)
    if zero and "background" not in turned:  # "Background", "bg": the number says what it is
        turned = {"background" if name == zero else name: value for name, value in turned.items()}
    return check_labels(turned, faults, order)


def _cases(training: list[Any], root: Path, channels: int, faults: Faults) -> list[Case]:
    cases = []
    for number, entry in enumerate(training):
        place = f"$.training[{number}]"
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            faults.add(place, f"{entry!r}", '{"image": path, "label": path}')
            continue
        image = inside(root, entry["image"], f"{place}.image", faults)
        label = inside(root, entry["label"], f"{place}.label", faults)
        if image and label and not image.name.startswith("._"):
            cases.append(Case(id=case_name(image), images=_files(image, channels), label=label))
    return cases


def _files(image: Path, channels: int) -> tuple[Path, ...]:
    ending = image.name[len(case_name(image)):]
    split = [image.with_name(f"{case_name(image)}_{channel:04d}{ending}") for channel in range(channels)]
    return tuple(split) if not image.exists() and split[0].exists() else (image,)
