"""Laws of fingerprinters, planners and layouts: what happens before a voxel is prepared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve, fields

from seg.convert import dump_json, from_data
from seg.errors import SegError
from seg.kinds import Fingerprinter, Layout, Planner
from seg.models import Configuration, Description, Fingerprint, Intensities, Plan, Topology
from seg.progress import Silent
from seg.testing._check import Check, expect, no_torch
from seg.testing._samples import PlainArchitecture, dataset, fingerprints

MANY = 200  # so many forms of a configuration are no list of reductions any more


def _plans(planner: Planner) -> Iterator[tuple[str, Plan]]:
    for name, (fingerprint, description) in fingerprints().items():
        yield name, _plan(planner, fingerprint, description)


def _plan(planner: Planner, fingerprint: Fingerprint, description: Description) -> Plan:
    """The plan; the sample architecture stands in for the planner's own, so that no other plugin is needed."""
    return evolve(planner.plan(fingerprint, description, PlainArchitecture()), planner="p", architecture="a", source="")


def planner_valid(planner: Planner) -> None:
    from seg.stages.plan import plan_faults

    for name, plan in _plans(planner):
        faults = plan_faults(plan)
        expect(not faults, f"a plan for a data set that is {name}: {'; '.join(faults)}", "a plan that fits together")


def planner_file(planner: Planner) -> None:
    for name, plan in _plans(planner):
        again = from_data(json.loads(dump_json(plan)), Plan)
        expect(again == plan, f"another plan from its file, for a data set that is {name}", "the same")


def planner_deterministic(planner: Planner) -> None:
    for (name, first), (_, second) in zip(_plans(planner), _plans(evolve(planner)), strict=True):  # type: ignore[misc]
        expect(first == second, f"two plans of a data set that is {name}", "the same plan twice")


def planner_reasons(planner: Planner) -> None:
    known = {field.name for field in fields(Configuration)} | {f"topology.{f.name}" for f in fields(Topology)}
    for name, plan in _plans(planner):
        for configuration in plan.configurations.values():
            reasons = configuration.reasons
            expect(reasons.get("patch"), f"no reason for the patch of {configuration.name}, {name}", "a sentence")
            strange = sorted(set(reasons) - known)
            expect(not strange, f"reasons of {', '.join(strange)}", "names of fields of the configuration, or of its "
                   "topology as topology.NAME")


def planner_reductions(planner: Planner) -> None:
    from seg.stages.plan import plan_faults

    for name, plan in _plans(planner):
        for key, configuration in plan.configurations.items():
            before = _cost(configuration, plan)
            forms = list(islice(planner.reductions(configuration), MANY))
            expect(len(forms) < MANY, f"{MANY} reductions of {key} and no end, {name}", "an end")
            for form, reason in forms:
                cost, told = _cost(form, plan), f"a reduction of {key}, {name},"
                expect(cost < before, f"{told} of {cost} values after one of {before}", "cheaper and cheaper ones")
                expect(reason, f"{told} without a reason", "a sentence")
                faults = plan_faults(evolve(plan, configurations={**plan.configurations, key: form}))
                expect(not faults, f"{told} with which {'; '.join(faults)}", "one that fits the plan")
                before = cost


def _cost(configuration: Configuration, plan: Plan) -> int:
    """Values of the feature maps of one batch."""
    classes = len(plan.description.labels.values)
    size = PlainArchitecture().feature_map_size(configuration.topology, configuration.patch, classes)
    return configuration.batch * size


def planner_light(planner: Planner) -> None:
    with no_torch():
        for _, plan in _plans(planner):
            for configuration in plan.configurations.values():
                list(islice(planner.reductions(configuration), MANY))


def planner_default(planner: Planner) -> None:
    from seg.discovery import discover

    name = planner.default_architecture
    known = [item.name for item in discover().of_kind("architecture")]
    expect(name in known or ":" in name, f"the default architecture {name!r}", f"one of {', '.join(known)}")


class _Counting(Silent):
    """Counts how often it is told of a case."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, steps: int = 1) -> None:
        """One more."""
        self.steps += steps


def _fingerprinted(check: Callable[[Fingerprinter, Path], None]) -> Callable[[Any], None]:
    def law(fingerprinter: Any) -> None:
        with TemporaryDirectory() as folder:
            check(fingerprinter, Path(folder))

    return law


def fingerprinter_cases(fingerprinter: Fingerprinter, folder: Path) -> None:
    from seg.images import read_image

    data = dataset(folder)
    found = fingerprinter.fingerprint(data, Silent())
    names = tuple(case.id for case in data.cases)
    expect(found.cases == names, f"the cases {found.cases}", f"{names}, in the order of the data set")
    expect(len(found.shapes) == len(found.spacings) == len(names),
           f"{len(found.shapes)} shapes, {len(found.spacings)} spacings", f"{len(names)} of each")
    for case, shape, spacing in zip(data.cases, found.shapes, found.spacings, strict=True):
        image = read_image(case.images)
        size = image.array.shape[1:]
        expect(all(0 < n <= m for n, m in zip(shape, size, strict=True)), f"the shape {shape} of {case.id}",
               f"{size} (z, y, x), or less after cropping")
        own = image.geometry.spacing[::-1]
        near = all(abs(a - b) < 1e-3 for a, b in zip(spacing, own, strict=True))
        expect(near, f"the spacing {spacing} of {case.id}", f"{own} mm (z, y, x)")


def fingerprinter_statistics(fingerprinter: Fingerprinter, folder: Path) -> None:
    data = dataset(folder)
    found = fingerprinter.fingerprint(data, Silent())
    channels = len(data.description.channel_names)
    expect(len(found.intensities) == channels, f"{len(found.intensities)} entries of intensities",
           f"{channels}, one for each channel")
    expect(0 < found.relative_size_after_cropping <= 1, f"the relative size {found.relative_size_after_cropping}",
           "more than 0, at most 1")
    for one in found.intensities:
        ordered = [one.min, one.percentile_00_5, one.median, one.percentile_99_5, one.max]
        expect(ordered == sorted(ordered) and one.std >= 0 and one.min <= one.mean <= one.max, f"{one}",
               "min ≤ 0.5 % ≤ median ≤ 99.5 % ≤ max, the mean between, a spread of 0 or more")
    over = {name: count for name, count in found.class_cases.items() if count > len(data.cases)}
    expect(not over, f"classes in more cases than there are: {over}", f"at most {len(data.cases)}")


def fingerprinter_file(fingerprinter: Fingerprinter, folder: Path) -> None:
    data = dataset(folder)
    found = fingerprinter.fingerprint(data, Silent())
    again = from_data(json.loads(dump_json(found)), Fingerprint)
    expect(again == found, "another fingerprint from its file", "the same")
    expect(fingerprinter.fingerprint(data, Silent()) == found, "another fingerprint the second time", "the same")
    expect(all(isinstance(one, Intensities) for one in found.intensities), "other statistics", "seg.Intensities")


def fingerprinter_progress(fingerprinter: Fingerprinter, folder: Path) -> None:
    data, progress = dataset(folder), _Counting()
    fingerprinter.fingerprint(data, progress)
    expect(progress.steps == len(data.cases), f"{progress.steps} steps of progress", f"{len(data.cases)}, one a case")


STRANGE = {"empty folder": None, "notes.xyz": b"hello", "archive.bin": bytes(range(256)), "no ending": b""}


def layout_strange(layout: Layout) -> None:
    with TemporaryDirectory() as name:
        for path in _strange(Path(name)):
            told = layout.recognises(path)
            expect(told is False, f"{told!r} for {path.name!r}", "False, and no exception")


def layout_refuses(layout: Layout) -> None:
    with TemporaryDirectory() as name:
        for path in _strange(Path(name)):
            try:
                found = layout.read(path, None)
            except SegError as error:
                expect(error.records, f"a SegError without a record for {path.name!r}", "at least one record")
                continue
            expect(found.faults or not found.cases, f"{len(found.cases)} cases in {path.name!r}", "a SegError")


def layout_damaged(layout: Layout) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        for place in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "images/a.nii.gz", "labels/a.nii.gz"):
            (root / place).parent.mkdir(exist_ok=True)
            (root / place).write_bytes(b"no image")
        (root / "dataset.json").write_text("{", encoding="utf-8")
        told = layout.recognises(root)
        expect(isinstance(told, bool), f"{told!r} for a folder of damaged files", "True or False, and no exception")


def _strange(root: Path) -> Iterator[Path]:
    """Paths that are no data set of anybody's."""
    for name, content in STRANGE.items():
        path = root / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        yield path
    yield root / "not there"


CHECKS = (
    Check(id="planner-valid", kind="planner", law=planner_valid,
          reason="A plan that does not fit together is refused before training (SEG-P05)."),
    Check(id="planner-file", kind="planner", law=planner_file, reason="A plan is stored as JSON and read again."),
    Check(id="planner-deterministic", kind="planner", law=planner_deterministic,
          reason="A run that goes on makes its plan again and must find the same."),
    Check(id="planner-reasons", kind="planner", law=planner_reasons,
          reason="`seg plan --explain` shows why a value is what it is, by the name of its field."),
    Check(id="planner-reductions", kind="planner", law=planner_reductions,
          reason="A budget takes the first form that is cheap enough, so forms get cheaper and come to an end."),
    Check(id="planner-light", kind="planner", law=planner_light,
          reason="Planning answers at once, on a machine without a GPU or images."),
    Check(id="planner-default-architecture", kind="planner", law=planner_default,
          reason="Without --arch the planner's own architecture is taken."),
    Check(id="fingerprinter-cases", kind="fingerprinter", law=_fingerprinted(fingerprinter_cases),
          reason="Sizes and spacings of the cases are all that a planner knows of the images."),
    Check(id="fingerprinter-statistics", kind="fingerprinter", law=_fingerprinted(fingerprinter_statistics),
          reason="Intensities are clipped and scaled by these statistics."),
    Check(id="fingerprinter-file", kind="fingerprinter", law=_fingerprinted(fingerprinter_file),
          reason="A fingerprint is stored as JSON, and its digest decides whether a plan is stale."),
    Check(id="fingerprinter-progress", kind="fingerprinter", law=_fingerprinted(fingerprinter_progress),
          reason="Reading all images takes long; the user sees how far it is."),
    Check(id="layout-strange", kind="layout", law=layout_strange,
          reason="Every layout is asked about every path; one that raises or grabs stops the others."),
    Check(id="layout-refuses", kind="layout", law=layout_refuses,
          reason="Users see what is wrong with a path as records, not as a traceback."),
    Check(id="layout-damaged", kind="layout", law=layout_damaged,
          reason="Damaged files are the check's business; asking whose a folder is opens none."),
)
