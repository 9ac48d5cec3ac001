"""Predict the cases of a folder with a model; one bad case does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from seg.aside import Aside, begun
from seg.convert import load_json, write_json
from seg.device import is_device_failure, is_out_of_memory
from seg.device_faults import device_failed
from seg.errors import Exit, Record, SegError, usage_error
from seg.events import CasePredicted
from seg.files import digest_file, digest_json, whole_file
from seg.images import Volume, read_image, write_label
from seg.inputs import find_inputs
from seg.model import Model
from seg.models import Case
from seg.peaks import refuse_unreadable
from seg.preprocessing import Given
from seg.progress import Progress, Silent

LEDGER = "predictions.json"
TOO_LARGE = {"SEG-R04", "SEG-R07"}
"""A lack of memory or of disk that is one case's: a smaller one may fit."""
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
    `probabilities` float16 (K, Z, Y, X). A case whose file takes longer than `PredictOptions.stall_s` to read is left
    out. Whatever ends this, what was written is noted first.

    Raises:
        SegError: nothing to predict, or `output` holds the inputs (exit 2).
    """
    progress = progress or Silent()
    cases = find_inputs(source if isinstance(source, Path) else list(source),
                        len(model.description.plan.description.channel_names))
    if any(image.parent.resolve() == output.resolve() for case in cases for image in case.images):
        raise usage_error("the output folder is that of the inputs", expected="another folder", file=str(output))
    work = _Work(model=model, output=output, save_probabilities=save_probabilities, progress=progress,
                 ledger=load_json(output / LEDGER) if (output / LEDGER).exists() else {})
    progress.start("predict", len(cases))
    writer, last = Aside("write"), None
    try:
        for case, reading in _ahead(work.read, cases, model.options.stall_s):
            made = work.compute(case, reading)
            work.finish(last)  # its files were written while this case was predicted
            last = None if made is None else _Writing(made=made, files=writer.submit(partial(work.write, made)))
            del made
    finally:
        work.finish(last)
        writer.end()
    return work.outcome(cases)


@frozen(kw_only=True, eq=False)
class _Read:
    """A case whose image is read, or whose prediction is there already."""

    key: str  # digest of all that its prediction comes from
    seconds: float
    kept: Path | None = None
    volume: Volume | None = None  # without its voxels, which are `given`
    given: Given | None = None


@frozen(kw_only=True, eq=False)
class _Made:
    """A case that is predicted, but not written yet."""

    case: Case
    read: _Read
    volume: Volume
    labels: NDArray[Any]
    probabilities: NDArray[np.float32] | None
    seconds: float  # reading included


@frozen(kw_only=True, eq=False)
class _Writing:
    """A case whose files are being written."""

    made: _Made
    files: Future[tuple[list[Path], float]]  # and seconds


@frozen(kw_only=True)
class _Work:
    """The cases of one prediction: while one is computed, the next is read and the last one written.

    What becomes of each is noted by its name.
    """

    model: Model
    output: Path
    save_probabilities: bool
    progress: Progress
    ledger: Ledger
    written: dict[str, Path] = field(factory=dict)
    kept: dict[str, Path] = field(factory=dict)
    records: dict[str, list[Record]] = field(factory=dict)

    def outcome(self, cases: Sequence[Case]) -> Predicted:
        """All of it, in the order of the cases."""
        names = [case.id for case in cases]
        return Predicted(written=tuple(self.written[name] for name in names if name in self.written),
                         kept=tuple(self.kept[name] for name in names if name in self.kept),
                         records=tuple(record for name in names for record in self.records.get(name, [])))

    def read(self, case: Case) -> _Read:
        """The image, unless its prediction is there and whole."""
        started = time.monotonic()
        key = _source_digest(self.model, case, save_probabilities=self.save_probabilities)
        if found := _whole(self.output, self.ledger.get(case.id), key):
            return _Read(key=key, seconds=0.0, kept=found)
        refuse_unreadable(case.images)
        volume = read_image(case.images, self.model.description.plan.description.orientation)
        return _Read(key=key, seconds=time.monotonic() - started, given=Given(volume.array),
                     volume=evolve(volume, array=volume.array[:, :0].copy()))

    def compute(self, case: Case, reading: Future[_Read]) -> _Made | None:
        """The prediction of a case; None where there is nothing to write, which is then noted."""
        with self._refusals(case):
            read = _result(reading, self.model.options.stall_s)
            if read.volume is None or read.given is None:
                self.kept[case.id] = read.kept or self.output
                self.progress.advance()
                return None
            started = time.monotonic()
            labels, probabilities = self.model.predict_volume(
                read.given, read.volume.spacing, probabilities=self.save_probabilities, case=case.id)
            return _Made(case=case, read=read, volume=read.volume, labels=labels, probabilities=probabilities,
                         seconds=read.seconds + time.monotonic() - started)
        return None

    def write(self, made: _Made) -> tuple[list[Path], float]:
        """Write the files of one case, the label map first; returns them and the seconds that it took."""
        started, volume = time.monotonic(), made.volume
        files = [self.output / (made.case.id + volume.geometry.label_ending)]
        write_label(files[0], volume.turn.back(made.labels), volume.geometry,
                    self.model.description.plan.description.labels)
        if made.probabilities is not None:
            files.append(self.output / f"{made.case.id}.npz")
            with whole_file(files[1]) as temporary:
                turned = volume.turn.back(made.probabilities.astype(np.float16))
                np.savez_compressed(temporary, probabilities=turned)
        return files, time.monotonic() - started

    def finish(self, writing: _Writing | None) -> None:
        """Note a case whose files are written, unless that is done."""
        if writing is None or writing.made.case.id in self.written:
            return
        case, read = writing.made.case, writing.made.read
        with self._refusals(case):
            files, seconds = writing.files.result()
            self.ledger[case.id] = {"source": read.key, "files": {file.name: digest_file(file) for file in files}}
            write_json(self.output / LEDGER, self.ledger)
            self.written[case.id] = files[0]
            self.records[case.id] = _orientation_note(self.model, case, writing.made.volume)
            self.progress.tell(CasePredicted(case=case.id, file=files[0], seconds=writing.made.seconds + seconds))
            self.progress.advance()

    @contextmanager
    def _refusals(self, case: Case) -> Iterator[None]:
        """What is wrong with this case alone is noted; what would be with every other too is raised."""
        try:
            yield
        except SegError as error:
            if error.exit_code not in (Exit.DATA, Exit.PARTLY) and not _is_too_large(error):
                raise
            self.records[case.id] = [_named(record, case) for record in error.records]
            self.progress.advance()
        except Exception as error:
            if is_device_failure(error):
                raise device_failed(error, "the device failed", "What is written is kept; the same command goes on.",
                                    str(case.images[0])) from error
            if not is_out_of_memory(error):
                raise
            self.records[case.id] = [Record(
                code="SEG-R04", case=case.id, file=str(case.images[0]), found="not enough memory for this case",
                advice="Close other programs, or allow the maps less with --max-memory; on a GPU that is too small, "
                "--device cpu.")]
            self.progress.advance()


def _is_too_large(error: SegError) -> bool:
    """Whether this case alone asks for more than there is."""
    return {record.code for record in error.records} <= TOO_LARGE


def _ahead(
    read: Callable[[Case], _Read], cases: Sequence[Case], stall_s: float
) -> Iterator[tuple[Case, Future[_Read]]]:
    """Each case with its reading, which is over, or has taken `stall_s`; the next one's begins as it is handed out."""
    following = _begun(read, cases[0]) if cases else None
    for index, case in enumerate(cases):
        if following is None:
            return
        started, reading = following
        wait([reading], max(0.0, started + stall_s - time.monotonic()) if stall_s else None)
        following = _begun(read, cases[index + 1]) if index + 1 < len(cases) else None
        yield case, reading


def _begun(read: Callable[[Case], _Read], case: Case) -> tuple[float, Future[_Read]]:
    """A reading that has begun, and when; in a thread of its own, which may be left behind, even at the very end."""
    return time.monotonic(), begun("read", partial(read, case))


def _result(reading: Future[_Read], stall_s: float) -> _Read:
    """What was read.

    Raises:
        SegError: it takes too long (SEG-R10); what is wrong with the image.
    """
    if not reading.done():
        raise SegError(Record(code="SEG-R10", found=f"not read after {stall_s:g} s", expected="a file that can be read",
                              advice="Does the drive answer? --stall waits longer."), Exit.PARTLY)
    return reading.result()


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
    return evolve(record, case=record.case or case.id, file=record.file or str(case.images[0]))
