"""One page about a run that opens without a network: data, plan, curves, metrics, pictures, times and versions.

It is made from the files of the run folder alone; what is not there yet is left out with a word.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from attrs import field, frozen

from seg.convert import from_data, load_json, read_json
from seg.errors import Exit, Record, SegError
from seg.explain import Row, configuration_rows, plan_rows, value_text
from seg.files import write_text
from seg.levels import Level, read_levels
from seg.listening import sections
from seg.metrics import METRICS, evaluation
from seg.models import Case, CaseMetrics, Configuration, Dataset, Evaluation, Fingerprint, Labels, Plan
from seg.registry import Registry
from seg.runfolder import RunFolder
from seg.stages.select import FILE as SELECTION
from seg.stages.select import Selection

if TYPE_CHECKING:
    from jinja2 import Environment

NAME = "report.html"
SHOWN_RECORDS = 200
T = TypeVar("T")


@frozen(kw_only=True)
class Picture:
    """A picture of a case, ready for the page."""

    title: str
    source: str


@frozen(kw_only=True)
class Trained:
    """What the page shows of one configuration."""

    name: str
    decisions: tuple[Row, ...] = ()
    reductions: dict[str, tuple[Row, ...]] = field(factory=dict)
    curves: str = ""
    lengths: tuple[str, ...] = ()
    result: Evaluation | None = None
    levels: tuple[Level, ...] = ()
    strips: str = ""
    pictures: tuple[Picture, ...] = ()


def write_report(run_folder: Path, registry: Registry | None = None) -> Path:
    """Write `report.html` into a run folder, from whatever lies there, and return its path.

    The plugins of `registry` add their sections at its end.

    Raises:
        SegError: there is no such folder, a file in it is damaged, or the page cannot be written.
    """
    if not run_folder.is_dir():
        raise SegError(Record(code="SEG-C08", found="no such folder", expected="a run folder", file=str(run_folder)),
                       Exit.USAGE)
    added = sections(run_folder, registry) if registry else ()
    text = pages().get_template("report.html.j2").render(**_content(RunFolder(run_folder)), sections=added)
    write_text(run_folder / NAME, text)
    return run_folder / NAME


def pages() -> Environment:
    """The templates of all pages, and how they write numbers and durations."""
    from jinja2 import Environment, PackageLoader

    found = Environment(loader=PackageLoader("seg"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"number": _number, "duration": _duration}
    return found


def _content(folder: RunFolder) -> dict[str, Any]:
    path = folder.path
    dataset, plan = _maybe(path / "dataset.json", Dataset), _maybe(path / "plan.json", Plan)
    fingerprint = _maybe(path / "fingerprint.json", Fingerprint)
    records = [from_data(item, Record, file="check.json") for item in _data(path / "check.json", [])]
    selection = _maybe(path / "validation" / SELECTION, Selection)
    names = list(plan.configurations) if plan else []
    names += sorted({item.name for item in path.glob("training/*") if item.is_dir()} - set(names))
    return {
        "title": dataset.description.name if dataset else plan.description.name if plan else path.resolve().name,
        "dataset": dataset,
        "facts": _facts(dataset, fingerprint),
        "classes": _classes(dataset, fingerprint),
        "severities": Counter(record.severity for record in records),
        "records": records[:SHOWN_RECORDS],
        "more_records": max(0, len(records) - SHOWN_RECORDS),
        "plan": plan_rows(plan) if plan else (),
        "chosen": _data(folder.model / "model.json", {}).get("chosen", []),
        "selection": selection,
        "levels": _data(folder.model / "model.json", {}).get("levels", {}),
        "configurations": [_configuration(folder, name, dataset, plan) for name in names],
        "metrics": tuple(selection.result) if selection else METRICS,
        "times": _data(path / "timings.json", {}),
        "settings": (path / "run.toml").read_text(encoding="utf-8") if (path / "run.toml").exists() else "",
    }


def _facts(dataset: Dataset | None, fingerprint: Fingerprint | None) -> list[Row]:
    rows = []
    if dataset:
        rows += [Row(name="folder", value=str(dataset.root)), Row(name="layout", value=dataset.layout),
                 Row(name="cases", value=str(len(dataset.cases))),
                 Row(name="channels", value=", ".join(dataset.description.channel_names))]
        groups = {case.group for case in dataset.cases if case.group}
        rows += [Row(name="patients", value=str(len(groups)))] if groups else []
        strata = Counter(case.stratum or "–" for case in dataset.cases)
        rows += [Row(name="strata", value=_counts(strata), reason="cases")] if len(strata) > 1 else []
    if fingerprint and fingerprint.shapes:
        rows += [
            Row(name="size (z, y, x)", value=_spread(fingerprint.shapes), reason="voxels after cropping"),
            Row(name="spacing (z, y, x)", value=_spread(fingerprint.spacings), reason="mm"),
            Row(name="size after cropping", value=f"{fingerprint.relative_size_after_cropping:.1%}", reason="median"),
            Row(name="orientations", value=_counts(fingerprint.orientations), reason="of x, y, z: cases"),
        ]
        for number, found in enumerate(fingerprint.intensities):
            rows.append(Row(name=f"intensities of channel {number}", value=value_text(found),
                            reason="foreground: mean ± deviation, percentiles 0.5 and 99.5"))
    return rows


def _classes(dataset: Dataset | None, fingerprint: Fingerprint | None) -> list[dict[str, Any]]:
    if not dataset:
        return []
    voxels, cases = (fingerprint.class_voxels, fingerprint.class_cases) if fingerprint else ({}, {})
    total = sum(voxels.values())
    return [{"name": name, "ids": ", ".join(str(value) for value in ids), "cases": cases.get(name),
             "share": voxels[name] / total if total and name in voxels else None}
            for name, ids in dataset.labels.foreground.items()]


def _spread(rows: Sequence[Sequence[float]]) -> str:
    """Smallest, median and largest along each axis; one where all are equal."""
    low, middle, high = (np.percentile(np.array(rows, float), part, axis=0) for part in (0, 50, 100))
    if np.allclose(low, high):
        return _join(middle)
    return f"{_join(middle)} in the middle, {_join(low)} to {_join(high)}"


def _join(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _configuration(folder: RunFolder, name: str, dataset: Dataset | None, plan: Plan | None) -> Trained:
    from seg._charts import metrics_svg, training_svg

    planned = plan.configurations.get(name) if plan else None
    folds = [path.name.removeprefix("fold_") for path in sorted(folder.training(name, "0").parent.glob("fold_*"))]
    curves = {fold: rows for fold in folds if (rows := _lines(folder.training(name, fold) / "metrics.jsonl"))}
    files = sorted((folder.path / "validation" / name).glob("fold_*/metrics.json"))
    found = {file.parent: read_json(file, Evaluation) for file in files}
    result = _together(list(found.values()))
    return Trained(
        name=name,
        decisions=configuration_rows(planned) if planned else (),
        reductions={fold: cut for fold in folds if (cut := _reductions(folder.training(name, fold), planned))},
        curves=_inline(training_svg(curves), "svg+xml") if curves else "",
        lengths=tuple(f"fold {fold}: {rows[-1]['step']} steps in {_duration(rows[-1]['seconds'])}, last loss "
                      f"{rows[-1]['loss']:.4f}" for fold, rows in curves.items()),
        result=result,
        levels=read_levels(folder.path / "validation" / name),
        strips=_inline(metrics_svg(result), "svg+xml") if result and result.mean["dice"] is not None else "",
        pictures=_pictures(found, dataset) if dataset else (),
    )


def _reductions(training: Path, planned: Configuration | None) -> tuple[Row, ...]:
    """What a budget changed in a fold, with the reasons it gave; nothing if nothing."""
    data = _data(training / "reduced.json", {})
    if not data.get("reasons"):
        return ()
    rows = [Row(name="because", value="", reason=str(reason)) for reason in data["reasons"]]
    if planned is None:
        return tuple(rows)
    before = {row.name: row.value for row in configuration_rows(planned)}
    after = configuration_rows(from_data(data["configuration"], Configuration, file=str(training / "reduced.json")))
    changed = [Row(name=row.name, value=f"{before.get(row.name, '–')} → {row.value}") for row in after
               if row.value != before.get(row.name)]
    return (*changed, *rows)


def _together(results: list[Evaluation]) -> Evaluation | None:
    """The evaluation of all folds as one."""
    if not results:
        return None
    names = list(dict.fromkeys(name for result in results for name in result.class_means))
    further = {name: better for result in results for name, better in result.larger_is_better.items()}
    return evaluation([case for result in results for case in result.cases], names, results[0].tolerance_mm, further)


def _pictures(found: Mapping[Path, Evaluation], dataset: Dataset) -> tuple[Picture, ...]:
    """Best, median and worst case by mean Dice, each with the fold's prediction; unreadable ones are left out."""
    from seg._overlays import overlay_png

    ranked = sorted(((score, case.case, path) for path, result in found.items() for case in result.cases
                     if (score := _mean_dice(case)) is not None), key=lambda item: item[:2], reverse=True)
    places = dict.fromkeys([0, len(ranked) // 2, len(ranked) - 1]) if ranked else {}
    titles = ["best", "median", "worst"] if len(places) == 3 else ["best", "worst"]
    cases = {case.id: case for case in dataset.cases}
    pictures = []
    for title, place in zip(titles, places, strict=False):
        score, name, path = ranked[place]
        shown = _shown(cases.get(name), path, dataset.labels)
        if shown is not None:
            caption = f"{title}: {name}, Dice {score:.3f}"
            pictures.append(Picture(title=caption, source=_inline(overlay_png(shown), "png")))
    return tuple(pictures)


def _shown(case: Case | None, folder: Path, labels: Labels) -> Any:
    """Image, truth and prediction of a case, or None where a file is gone."""
    from seg._overlays import Shown
    from seg.images import read_image, read_label
    from seg.inputs import case_name, list_images

    files = [path for path in list_images(folder) if case and case_name(path) == case.id]
    if case is None or case.label is None or not files:
        return None
    try:
        volume = read_image(case.images)
        truth, prediction = read_label(case.label, labels)[0], read_label(files[0], labels)[0]
    except SegError:
        return None
    return Shown(image=volume.array[0], truth=truth, prediction=prediction, spacing=volume.spacing, labels=labels)


def _mean_dice(case: CaseMetrics) -> float | None:
    values = [found.dice for found in case.classes.values() if found.dice is not None]
    return sum(values) / len(values) if values else None


def _maybe(path: Path, kind: type[T]) -> T | None:
    return read_json(path, kind) if path.exists() else None


def _data(path: Path, instead: Any) -> Any:
    return load_json(path) if path.exists() else instead


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; none if it is not there."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise SegError(Record(code="SEG-C03", found=f"cannot be read: {error}", file=str(path)), Exit.USAGE) from None


def _inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
