"""What is done of a folder of predictions, and what it came from, so that nothing whole and current is done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen

from seg.convert import from_data, load_json, to_data, write_json
from seg.errors import SegError
from seg.files import digest_file
from seg.models import CaseMetrics

LEDGER = "predictions.json"


@frozen(kw_only=True)
class Validated:
    """A case that is done: the digest of what it came from, its files (name → digest, label map first), its metrics."""

    source: str
    files: dict[str, str]
    metrics: CaseMetrics


class Ledger:
    """The finished cases of `folder` that came from their `sources`, with all their files as they were written.

    `sources` maps each case to the digest of what it comes from.
    """

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        self._folder, self._sources = folder, sources
        self._done = {case: done for case, done in entries(folder).items() if done.source == sources.get(case)
                      and all(_is_whole(folder / name, digest) for name, digest in done.files.items())}

    def __contains__(self, case: str) -> bool:
        return case in self._done

    def add(self, metrics: CaseMetrics, files: Iterable[Path]) -> None:
        """A case is done: its metrics, and what was written for it inside the folder."""
        names = {file.relative_to(self._folder).as_posix(): digest_file(file) for file in files}
        self._done[metrics.case] = Validated(source=self._sources[metrics.case], files=names, metrics=metrics)
        write_json(self._folder / LEDGER, {name: to_data(done) for name, done in self._done.items()})

    def metrics(self, cases: Iterable[str]) -> list[CaseMetrics]:
        """The metrics of cases, all of which are done."""
        return [self._done[case].metrics for case in cases]


def entries(folder: Path) -> dict[str, Validated]:
    """Everything that a folder's ledger says, by case; nothing where there is none, or one of another version."""
    file = folder / LEDGER
    if not file.exists():
        return {}
    try:
        return {case: from_data(data, Validated, file=str(file)) for case, data in load_json(file).items()}
    except SegError:  # predictions that cannot be told to be current are made again
        return {}


def _is_whole(file: Path, digest: str) -> bool:
    return file.is_file() and digest_file(file) == digest
