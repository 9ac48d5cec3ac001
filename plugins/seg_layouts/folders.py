"""Two folders whose files have equal names: images and label maps."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from seg import (
    Case,
    Dataset,
    Description,
    Record,
    SegError,
    case_name,
    group_channels,
    image_ending,
    is_dicom_folder,
    list_images,
)
from seg_layouts._contents import found_channels, found_labels
from seg_layouts._shared import dataset, given_labels

IMAGES = ("images", "imagestr", "image", "imgs", "img")
LABELS = ("labels", "labelstr", "label", "masks", "mask", "segmentations")


@frozen(kw_only=True)
class FoldersLayout:
    """`images/` and `labels/` (or `masks/`, `imagesTr/`, …) with equal names; channels by the suffix `_0000`."""

    def recognises(self, path: Path) -> bool:
        """A folder with both of these folders, and without a `dataset.json`."""
        return not (path / "dataset.json").exists() and all(_folders(path))

    def read(self, path: Path, labels: dict[str, int] | None) -> Dataset:
        """The data set at `path`. Without `labels`, the classes are the values that occur in the label maps.

        Raises:
            SegError: there is no image (D09), or the label maps hold too many values (D10).
        """
        images, truths = _folders(path)
        if images is None or truths is None:
            raise SegError(Record(code="SEG-D09", found="there are no folders images and labels", file=str(path)))
        truth = {case_name(file): file for file in list_images(truths)}
        cases = _cases(images, truth)
        if not cases:
            raise SegError(Record(code="SEG-D09", found="the folder holds no image", file=str(images)))
        used = {case.label for case in cases}
        orphans = [Record(code="SEG-D09", severity="warning", case=name, file=str(file), advice="It is not used.",
                          found="a label map without an image") for name, file in truth.items() if file not in used]
        classes = given_labels(labels) if labels else found_labels(list(truth.values()), truths)
        description = Description(
            name=path.resolve().name, channel_names=found_channels(cases[0].images), labels=classes,
            training_cases=len(cases), file_ending=image_ending(cases[0].images[0]) or ".nii.gz",
        )  # fmt: skip
        return dataset(description, path, "folders", cases, orphans)


def _folders(path: Path) -> tuple[Path | None, Path | None]:
    """The folder of the images and that of the label maps."""
    try:
        there = {item.name.lower(): item for item in sorted(path.iterdir()) if item.is_dir()}
    except OSError:
        return None, None
    images = next((there[name] for name in IMAGES if name in there), None)
    return images, next((there[name] for name in LABELS if name in there), None)


def _cases(images: Path, truth: dict[str, Path]) -> list[Case]:
    """Each image file with the label map of its name; if no name fits as it stands, the suffix is a channel."""
    files = list_images(images)
    files += [folder for folder in sorted(images.iterdir()) if not image_ending(folder) and is_dicom_folder(folder)]
    groups = {} if any(case_name(file) in truth for file in files) else group_channels(files)
    count = max((max(group) + 1 for group in groups.values()), default=0)
    grouped = {file for group in groups.values() for file in group.values()}
    cases = [Case(id=name, images=_channels(name, group, count), label=truth.get(name))
             for name, group in groups.items()]
    cases += [Case(id=case_name(file), images=(file,), label=truth.get(case_name(file)))
              for file in files if file not in grouped]
    return sorted(cases, key=lambda case: case.id)


def _channels(name: str, group: dict[int, Path], count: int) -> tuple[Path, ...]:
    some = next(iter(group.values()))
    ending = some.name[len(case_name(some)):]
    return tuple(group.get(channel, some.with_name(f"{name}_{channel:04d}{ending}")) for channel in range(count))
