"""nnU-Net's raw layout: `dataset.json`, `imagesTr/<case>_<channel>`, `labelsTr/<case>` (nnU-Net 2.8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from seg import Case, Dataset, Description, Record, SegError, case_name, group_channels, list_images
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
class NnUNetLayout:
    """nnU-Net raw data, 2.x: keys `channel_names`, `labels`, `numTraining`, `file_ending`, and optionally `dataset`."""

    def recognises(self, path: Path) -> bool:
        """A folder with a `dataset.json` that has no `training` list, broken ones included."""
        data = quick_object(json_in(path))
        return json_in(path).is_file() and (data is None or "training" not in data)

    def read(self, path: Path, labels: dict[str, int] | None) -> Dataset:
        """The data set at `path` (the folder or its `dataset.json`).

        Raises:
            SegError: `dataset.json` is broken (D14), with every fault of it.
        """
        file = json_in(path)
        root = file.parent
        data, faults = load_object(file)
        description = _describe(data, faults, root.resolve().name, labels)
        orphans: list[Record] = []
        if "dataset" in data:
            cases = _listed(data["dataset"], root, faults)
        else:
            cases, orphans = _scanned(root, description, faults)
        broken = bool(faults.records)
        if cases and description.training_cases not in (0, len(cases)):
            faults.add("$.numTraining", f"{description.training_cases}", f"{len(cases)}: so many cases are there",
                       "Correct the number, or complete the data set.")
        if broken:
            faults.stop()
        return dataset(evolve(description, training_cases=len(cases)), root, "nnunet", cases,
                       (*faults.records, *orphans))


def _describe(data: dict[str, Any], faults: Faults, name: str, labels: dict[str, int] | None) -> Description:
    channels = channel_names(data, faults)
    values = required(data, faults, "labels", dict)
    count = required(data, faults, "numTraining", int)
    ending = required(data, faults, "file_ending", str)
    declared = given_labels(labels) if labels else check_labels(values or {}, faults, data.get("regions_class_order")) \
        if values is not None else given_labels({})
    return Description(name=name, channel_names=channels, labels=declared, training_cases=count or 0,
                       file_ending=ending or "")


def _listed(listed: Any, root: Path, faults: Faults) -> list[Case]:
    """The cases of the key `dataset`: {case: {"images": [path, …], "label": path}}."""
    if not isinstance(listed, dict):
        faults.add("$.dataset", f"a {type(listed).__name__}", "an object of cases")
        return []
    cases = []
    for case, entry in listed.items():
        place = f"$.dataset.{case}"
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images:
            faults.add(place, f"{entry!r}", '{"images": [path, …], "label": path}')
            continue
        paths = [inside(root, text, f"{place}.images[{number}]", faults) for number, text in enumerate(images)]
        label = inside(root, entry.get("label"), f"{place}.label", faults)
        cases.append(Case(id=case, images=tuple(path for path in paths if path), label=label))
    return cases


def _scanned(root: Path, description: Description, faults: Faults) -> tuple[list[Case], list[Record]]:
    """The cases of `imagesTr` and `labelsTr`, and the records of files that belong to none."""
    images, labels = root / "imagesTr", root / "labelsTr"
    absent = [folder for folder in (images, labels) if not folder.is_dir()]
    if absent:
        raise SegError([*faults.records, *(Record(
            code="SEG-D09", found="there is no such folder", expected="imagesTr and labelsTr", file=str(folder),
        ) for folder in absent)])
    ending = description.file_ending
    files = [path for path in list_images(images) if path.name.endswith(ending)]
    if not files:
        there = sorted({path.name[len(case_name(path)):] for path in list_images(images)})
        faults.add("$.file_ending", f"{ending!r}, but no image ends so", f"one of {', '.join(there)}" if there
                   else "images in imagesTr")
        return [], []
    truth = {case_name(path): path for path in list_images(labels) if path.name.endswith(ending)}
    groups = group_channels(files)
    wanted = range(len(description.channel_names))
    cases = [Case(id=case, images=tuple(images / f"{case}_{channel:04d}{ending}" for channel in wanted),
                  label=truth.get(case)) for case in groups]
    return cases, _strays(groups, truth, files, description)


def _strays(groups: dict[str, dict[int, Path]], truth: dict[str, Path], files: list[Path],
            description: Description) -> list[Record]:
    """Extra channels (error), names without a channel (error), label maps without an image (warning)."""
    known = {path for group in groups.values() for path in group.values()}
    channels = len(description.channel_names)
    records = [
        Record(code="SEG-D09", case=case, file=str(path), found=f"channel {channel} is not declared",
               expected=f"{channels} channels: {', '.join(description.channel_names)}",
               advice="Declare it in channel_names, or take the file away.")
        for case, group in groups.items() for channel, path in group.items() if channel >= channels
    ]  # fmt: skip
    records += [Record(code="SEG-D09", found="the name has no channel", file=str(path),
                       expected=f"{case_name(path)}_0000{description.file_ending}",
                       advice="Rename the file.") for path in files if path not in known]
    return records + [Record(code="SEG-D09", severity="warning", case=case, file=str(path),
                             found="a label map without an image", advice="It is not used.")
                      for case, path in truth.items() if case not in groups]
