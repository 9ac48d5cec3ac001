"""Find a data set, and look at every voxel of it: all faults of all cases in one go.

The codes, and what each says:

| code | fault |
|---|---|
| SEG-D00 | no data set there |
| SEG-D01 | the label map has another shape than its image |
| SEG-D02 | the label map has another spacing (more than 1e-3 apart) |
| SEG-D03 | the label map has another origin (a hundredth of a voxel) or direction (1e-3) |
| SEG-D04 | two channels of a case lie differently |
| SEG-D05 | NaN or infinite voxels; a warning where every voxel is 0 |
| SEG-D06 | a marker beyond ±1e30 among the intensities |
| SEG-D07 | a file is cut short or damaged |
| SEG-D08 | a file cannot be read |
| SEG-D09 | a file is missing, or belongs to no case (a warning for label maps) |
| SEG-D10 | undeclared values in a label map |
| SEG-D11 | fractions or negative values in a label map; a note on whole numbers of a float type |
| SEG-D12 | a class occurs nowhere (warning) |
| SEG-D13 | too few cases for the folds, or no foreground anywhere |
| SEG-D14 | `dataset.json` or a list of files is broken |
| SEG-D15 | another number of channels or of dimensions; a warning on images of one slice |
| SEG-D16 | a spacing that is no length; a warning where it is far from all others |
| SEG-D17 | a faulty DICOM series |
| SEG-D18 | a case's name cannot be a file's, or clashes with another's |
| SEG-D19 | orientations are mixed, or 2-D images cannot be turned to one (warning) |
| SEG-D20 | classes that differ by side alone (warning) |
| SEG-D21 | two cases have the same image (warning) |
"""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from attrs import evolve, frozen

from seg.aside import in_threads
from seg.contracts import blamed, expect
from seg.errors import Record, SegError
from seg.models import Case, Dataset
from seg.progress import Progress, Silent
from seg.registry import Registry
from seg.sides import opposite_pairs
from seg.splits import units
from seg.stages._examine import Examined, examine

THREADS = 2  # unpacking and hashing run without the interpreter's lock; two cases are in memory at a time
FAR_SPACING = 5.0  # times the median of the cases, either way


@frozen(kw_only=True)
class CheckReport:
    """What the check of a data set found.

    `class_voxels` and `class_cases` count each foreground class over all label maps that could be read;
    `orientations` counts cases ("RAS" and the like); `digests` has a SHA-256 over the contents of the files of each
    case; `same_images` names the cases whose images are the same, file by file.
    """

    records: tuple[Record, ...]
    cases: int
    class_voxels: dict[str, int]
    class_cases: dict[str, int]
    orientations: dict[str, int]
    digests: dict[str, str]
    same_images: tuple[tuple[str, ...], ...] = ()

    @property
    def errors(self) -> tuple[Record, ...]:
        """The records that refuse the data set."""
        return tuple(record for record in self.records if record.severity == "error")


def check(
    dataset: Dataset, *, folds: int = 5, needs_folds: bool = True, progress: Progress | None = None
) -> CheckReport:
    """Read every file of `dataset` and tell everything that is wrong with it; nothing is raised for that.

    Args:
        dataset: as `find_dataset` gives it.
        folds: into how many the cases will be split.
        needs_folds: whether they will be split at all.
        progress: told after each case.
    """
    progress = progress or Silent()
    progress.start("check", len(dataset.cases))
    cases = list(_examined(dataset, progress))
    same_images = _same_images(cases)
    records = [*dataset.faults, *(record for case in cases for record in case.records)]
    if needs_folds:
        records += _fold_faults(dataset.cases, folds, same_images)
    records += _class_faults(dataset, cases)
    records += _odd_ones(cases)
    records += _orientations(cases, dataset.description.orientation)
    records += [Record(code="SEG-D21", severity="warning", case=case, found=f"has the same image as {first}",
                       advice="They stay in one fold, unless a file of folds parts them; is one a copy by mistake?")
                for first, *others in same_images for case in others]
    foreground = dataset.labels.foreground
    return CheckReport(
        records=_once(records), cases=len(cases),
        class_voxels={name: sum(_voxels(case, ids) for case in cases) for name, ids in foreground.items()},
        class_cases={name: sum(_voxels(case, ids) > 0 for case in cases) for name, ids in foreground.items()},
        orientations=dict(Counter(case.orientation for case in cases if case.orientation).most_common()),
        digests={case.case: case.digest for case in cases}, same_images=same_images,
    )  # fmt: skip


def find_dataset(
    path: Path, registry: Registry, labels: dict[str, int] | None = None, orientation: str = ""
) -> Dataset:
    """The data set at `path`, read by the first layout that recognises it; all its paths are absolute.

    Args:
        path: a folder, or a list of files (CSV or JSON).
        registry: where the layouts come from.
        labels: name → file value, in place of what the layout knows of classes.
        orientation: to which the stages after the check shall turn all images.

    Raises:
        SegError: nothing is there, no layout recognises it, or the one that does cannot read it.
    """
    if not path.exists() or not os.access(path, os.R_OK):
        why = "it may not be read" if path.exists() else "there is no such file or folder"
        raise SegError(Record(code="SEG-D00", found=why, file=str(path)))
    broken: list[str] = []
    for component in registry.of_kind("layout"):
        try:
            layout, use = registry.build("layout", component.qualified)
            recognised = layout.recognises(path)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and hurts only itself
            broken.append(f"{component.qualified} ({error})")
            continue
        if recognised:
            with blamed(use, "read"):
                found = _absolute(expect(layout.read(path, labels), Dataset, use, "read"))
            return evolve(found, description=evolve(found.description, orientation=orientation))
    raise SegError(_unrecognised(path, registry, broken))


def _absolute(dataset: Dataset) -> Dataset:
    """`dataset` as it can be read from any working directory: it is kept in the run folder."""
    cases = tuple(evolve(case, images=tuple(path.absolute() for path in case.images),
                         label=None if case.label is None else case.label.absolute()) for case in dataset.cases)
    return evolve(dataset, root=dataset.root.absolute(), cases=cases)


def _unrecognised(path: Path, registry: Registry, broken: list[str]) -> Record:
    if path.is_dir():
        names = sorted(item.name + ("/" if item.is_dir() else "") for item in path.iterdir())
        listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        found = f"no data set; the folder holds {listed}" if names else "the folder is empty"
    else:
        found = "no list of images and label maps"
    known = "; ".join(f"{component.name}: {component.summary}" for component in registry.of_kind("layout"))
    advice = f"Layouts that failed: {'; '.join(broken)}" if broken else ""
    return Record(code="SEG-D00", found=found, expected=f"one of these layouts: {known}", advice=advice, file=str(path))


def _examined(dataset: Dataset, progress: Progress) -> Iterator[Examined]:
    for case in in_threads(partial(examine, dataset=dataset), dataset.cases, THREADS):
        progress.advance()
        yield case


def _once(records: Iterable[Record]) -> tuple[Record, ...]:
    """A layout may have told already what is told again when the file is read."""
    told: dict[tuple[str, ...], Record] = {}
    for record in records:
        again = record.code == "SEG-D09" and record.case and record.file
        text = "" if again else record.found
        told.setdefault((record.code, str(record.case), str(record.file), text), record)
    return tuple(told.values())


def _voxels(case: Examined, ids: Sequence[int]) -> int:
    return sum(case.voxels.get(label_id, 0) for label_id in ids)


def _fold_faults(cases: Sequence[Case], folds: int, same_images: Iterable[Sequence[str]]) -> list[Record]:
    groups = set(units(cases, same_images).values())
    if len(groups) >= folds:
        return []
    what = "cases" if len(groups) == len(cases) else f"groups in {len(cases)} cases (cases of one image are one)"
    return [Record(code="SEG-D13", found=f"{len(groups)} {what}", expected=f"at least {folds}, one for each fold",
                   advice="Add cases, or train on all of them with --fold full.")]


def _class_faults(dataset: Dataset, cases: Sequence[Examined]) -> list[Record]:
    """No foreground at all (D13), classes that occur nowhere (D12), and those that differ by side alone (D20)."""
    foreground = dataset.labels.foreground
    records = _sides(foreground)
    if not any(case.labelled for case in cases):
        return records
    absent = [name for name, ids in foreground.items() if not any(_voxels(case, ids) for case in cases)]
    if len(absent) == len(foreground):
        return [*records, Record(code="SEG-D13", found="no label map holds any foreground",
                                 expected=f"voxels of {', '.join(absent) or 'a class'}",
                                 advice="Check the values in the label maps, or name them with --labels name=value.")]
    return records + [Record(code="SEG-D12", severity="warning", found=f"the class {name!r} occurs in no case",
                             advice="It cannot be learnt, and counts in no mean.") for name in absent]


def _sides(names: Iterable[str]) -> list[Record]:
    """A warning on classes whose names are the same but for a direction."""
    found: dict[str, list[str]] = {}
    for pair in opposite_pairs(names):
        found.setdefault(pair.direction.name, []).append(f"{pair.first!r} and {pair.second!r}")
    return [Record(code="SEG-D20", severity="warning", found=f"{', '.join(pairs)} differ by side alone",
                   expected=f"no mirroring along the {name} axis, which would swap them",
                   advice="planner.mirroring=auto leaves that axis out.") for name, pairs in found.items()]



def _odd_ones(cases: Sequence[Examined]) -> Iterator[Record]:
    """Cases of another dimension (D15), of one slice (D15), of far spacing (D16)."""
    known = [(case.case, case.geometry) for case in cases if case.geometry is not None]
    if not known:
        return
    usual = Counter(geometry.ndim for _, geometry in known).most_common(1)[0][0]
    medians = [statistics.median(geometry.spacing_zyx[axis] for _, geometry in known) for axis in range(3)]
    for case, geometry in known:
        if geometry.ndim != usual:
            yield Record(code="SEG-D15", case=case, found=f"an image of {geometry.ndim} dimensions",
                         expected=f"{usual}, as most cases have", advice="Train on either kind alone.")
            continue
        if geometry.ndim == 3 and 1 in geometry.size:
            yield Record(code="SEG-D15", severity="warning", case=case, found="an image of one slice")
        ratios = [value / median for value, median in zip(geometry.spacing_zyx, medians, strict=True)]
        if max(ratios) > FAR_SPACING or min(ratios) < 1 / FAR_SPACING:
            spacing, middle = (", ".join(f"{value:.4g}" for value in values) for values in
                               (geometry.spacing_zyx, medians))
            yield Record(code="SEG-D16", severity="warning", case=case, found=f"spacing ({spacing}) mm (z, y, x)",
                         expected=f"about ({middle}) mm, the median of all cases", advice="Is the unit right?")


def _orientations(cases: Sequence[Examined], wanted: str) -> list[Record]:
    """A warning on mixed orientations, or on what cannot be turned to the one that is wanted (D19)."""
    found = Counter(case.orientation for case in cases if case.orientation)
    if wanted and found["2D"]:
        return [Record(code="SEG-D19", severity="warning", found=f"{found['2D']} 2-D images, which have no orientation",
                       expected=f"volumes, which data.reorient={wanted} turns", advice="They are used as they lie.")]
    if wanted or len(found) < 2:
        return []
    counts = ", ".join(f"{count} {name}" for name, count in found.most_common())
    return [Record(code="SEG-D19", severity="warning", found=f"mixed orientations: {counts}",
                   expected="the same for all cases",
                   advice="Images are used as they lie; --set data.reorient=RAS turns them all to one orientation.")]


def _same_images(cases: Sequence[Examined]) -> tuple[tuple[str, ...], ...]:
    found: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        if case.images:
            found.setdefault(case.images, []).append(case.case)
    return tuple(tuple(names) for names in found.values() if len(names) > 1)
