"""Predict the cases of a folder with a model; one bad case does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from seg.convert import load_json, write_json
from seg.errors import Record, SegError, usage_error
from seg.events import CasePredicted
from seg.files import digest_file, digest_json, whole_file
from seg.images import Volume, read_image, write_label
from seg.inputs import find_inputs
from seg.model import Model
from seg.models import Case
from seg.progress import Progress, Silent

LEDGER = "predictions.json"
Ledger = dict[str, Any]  # "source": digest; "files": name → digest


@frozen(kw_only=True)
class Predicted:
    """What came of a prediction: files written now, files kept from before, and what was refused."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    records: tuple[Record, ...]


def predict(
    model: Model,
    source: Path | Sequence[Path],
    output: Path,
    *,
    save_probabilities: bool = False,
    progress: Progress | None = None,
) -> Predicted:
    """Write a label map for each case of `source` into `output`, on the case's grid and in its format.

    A file that this model already made of the same input is kept. With `save_probabilities` also `<case>.npz` with
    `probabilities` float16 (K, Z, Y, X).

    Raises:
        SegError: nothing to predict, or `output` holds the inputs (exit 2).
    """
    progress = progress or Silent()
    cases = find_inputs(source if isinstance(source, Path) else list(source),
                        len(model.description.plan.description.channel_names))
    if any(image.parent.resolve() == output.resolve() for case in cases for image in case.images):
        raise usage_error("the output folder is that of the inputs", expected="another folder", file=str(output))
    ledger = load_json(output / LEDGER) if (output / LEDGER).exists() else {}
    written: list[Path] = []
    kept: list[Path] = []
    records: list[Record] = []
    progress.start("predict", len(cases))
    for case in cases:
        try:
            key = _source_digest(model, case, save_probabilities=save_probabilities)
            if found := _whole(output, ledger.get(case.id), key):
                kept.append(found)
            else:
                started = time.monotonic()
                files, notes = _one(model, case, output, save_probabilities=save_probabilities)
                seconds = time.monotonic() - started
                records += notes
                ledger[case.id] = {"source": key, "files": {file.name: digest_file(file) for file in files}}
                write_json(output / LEDGER, ledger)
                written.append(files[0])
                progress.tell(CasePredicted(case=case.id, file=files[0], seconds=seconds))
        except SegError as error:
            if error.exit_code not in (3, 4):
                raise
            records += [_named(record, case) for record in error.records]
        progress.advance()
    return Predicted(written=tuple(written), kept=tuple(kept), records=tuple(records))


def _one(model: Model, case: Case, output: Path, *, save_probabilities: bool) -> tuple[list[Path], list[Record]]:
    """Predict and write one case; the label map comes first in the list of files."""
    volume = read_image(case.images, model.description.plan.description.orientation)
    labels, probabilities = model.predict_volume(volume.array, volume.spacing, probabilities=save_probabilities,
                                                 case=case.id)
    file = output / (case.id + volume.geometry.label_ending)
    write_label(file, volume.turn.back(labels), volume.geometry, model.description.plan.description.labels)
    files = [file]
    if probabilities is not None:
        files.append(output / f"{case.id}.npz")
        with whole_file(files[1]) as temporary:
            np.savez_compressed(temporary, probabilities=volume.turn.back(probabilities.astype(np.float16)))
    return files, _orientation_note(model, case, volume)


def _orientation_note(model: Model, case: Case, volume: Volume) -> list[Record]:
    """A warning where the case, as it is predicted, lies otherwise than every case of the training."""
    known, own = model.description.orientations, volume.orientation
    if not known or own in known:
        return []
    seen = ", ".join(f"{count} {name}" for name, count in known.items())
    return [Record(code="SEG-D19", severity="warning", case=case.id, file=str(case.images[0]),
                   found=f"orientation {own}", expected=f"one of the training's: {seen}")]


def _source_digest(model: Model, case: Case, *, save_probabilities: bool) -> str:
    files = [file for image in case.images for file in (sorted(image.iterdir()) if image.is_dir() else [image])]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise SegError(Record(code="SEG-D09", found="no such file", file=str(missing[0]), case=case.id))
    options = [str(model.options.deciding), str(save_probabilities)]
    return digest_json([model.digest, options, [digest_file(file) for file in files]])


def _whole(output: Path, entry: Ledger | None, key: str) -> Path | None:
    """The label map of an earlier prediction from the same source, if all its files are as they were written."""
    if not entry or entry.get("source") != key:
        return None
    files: dict[Path, str] = {output / name: digest for name, digest in entry["files"].items()}
    if not all(file.is_file() and digest_file(file) == digest for file, digest in files.items()):
        return None
    first, *_ = files
    return first


def _named(record: Record, case: Case) -> Record:
    from attrs import evolve

    return evolve(record, case=record.case or case.id, file=record.file or str(case.images[0]))
