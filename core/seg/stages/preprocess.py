"""The stage that fills a case store: read, prepare, write; only what is missing or stale."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from seg.aside import in_threads
from seg.convert import to_data
from seg.errors import Exit, Record, SegError, usage_error
from seg.events import CasePreprocessed
from seg.files import digest_json, locked
from seg.images import read_image, read_label
from seg.models import Case, Configuration, Dataset, Plan
from seg.preprocessing import Preparation, class_locations, prepare
from seg.progress import Progress, Silent
from seg.store import Store

VERSION = 1  # raise it when the same input would give another result
_AT_ONCE = 2  # cases in memory at a time

_DECIDING = ("spacing", "normalization", "use_mask_for_norm", "order_image", "order_label")


def preprocess(
    dataset: Dataset,
    how: Preparation,
    folder: Path,
    *,
    digests: Mapping[str, str],
    progress: Progress | None = None,
) -> list[Record]:
    """Fill the store in `folder` with the cases of `dataset`, for one configuration.

    A case whose files and settings are as they were is not done again, so that a run that was killed goes on. A case
    that cannot be read does not stop the others.

    Args:
        dataset: the cases.
        how: what was decided for the configuration.
        folder: of the store; held by a lock meanwhile.
        digests: digest of the input files of each case.
        progress: is told of every case.

    Returns:
        What was wrong with cases, which are then not in the store; an empty list when all are.

    Raises:
        SegError: the disk is too small or full, the store is in use (exit 5); a normaliser fails (exit 6).
    """
    wanted = case_digests(how, {case.id: digests[case.id] for case in dataset.cases})
    voice = progress or Silent()
    with locked(folder):
        store = Store(folder)
        missing = set(store.begin(settings_digest(how), wanted))
        _check_space(len(missing), how.plan, how.configuration, folder)
        work = _Work(dataset=dataset, how=how, store=store, digests=wanted)
        voice.start(f"preprocess {how.configuration.name}", len(dataset.cases))
        voice.advance(len(dataset.cases) - len(missing))
        return work.run([case for case in dataset.cases if case.id in missing], voice)


def configuration_of(plan: Plan, name: str) -> Configuration:
    """The configuration `name` of `plan`.

    Raises:
        SegError: there is none (exit 2).
    """
    if name in plan.configurations:
        return plan.configurations[name]
    raise usage_error(f"the plan has no configuration {name!r}", expected="one of " + ", ".join(plan.configurations))


def store_name(plan: Plan, name: str) -> str:
    """The configuration whose case store serves `name`: the first of the plan that prepares cases alike.

    So the second stage of a cascade trains on the cases of `3d_fullres`.
    """
    wanted = _deciding(configuration_of(plan, name))
    return next(other for other, item in plan.configurations.items() if _deciding(item) == wanted)


def settings_digest(how: Preparation) -> str:
    """Digest of everything but the files that decides what a preprocessed case looks like."""
    plan, configuration, normalisers = how.plan, how.configuration, how.normalisers
    others = normalisers.of_others(configuration)
    return digest_json({
        "version": VERSION,
        "transpose": plan.transpose_forward,
        "intensities": to_data(plan.intensities) if normalisers.use_intensities(configuration) else None,
        "labels": to_data(plan.description.labels),
        **({"orientation": plan.description.orientation} if plan.description.orientation else {}),
        **_deciding(configuration),
        **({"normalisers": to_data(others)} if others else {}),
    })


def _deciding(configuration: Configuration) -> dict[str, Any]:
    """What of a configuration decides how its cases look."""
    settings = to_data(configuration)
    return {"dims": configuration.dims, **{name: settings[name] for name in _DECIDING}}


def case_digests(how: Preparation, digests: Mapping[str, str]) -> dict[str, str]:
    """What the store's manifest must say of each case (see `Store.require`), from the digests of its input files."""
    settings = settings_digest(how)
    return {case: digest_json([settings, digest]) for case, digest in digests.items()}


@frozen(kw_only=True)
class _Work:
    """The cases of one store, on two threads: one reads while the other computes."""

    dataset: Dataset
    how: Preparation
    store: Store
    digests: Mapping[str, str]

    def run(self, cases: list[Case], progress: Progress) -> list[Record]:
        """Every case; those that fail give their records, ordered as the cases are."""
        faults: list[Record] = []
        for case, found in zip(cases, in_threads(self._one, cases, _AT_ONCE), strict=True):
            faults += found
            progress.advance()
            if not found:
                progress.tell(CasePreprocessed(folder=self.store.folder, case=case.id,
                                               configuration=self.how.configuration.name))
        return faults

    def _one(self, case: Case) -> list[Record]:
        try:
            self._prepare_and_store(case)
        except MemoryError:
            return [Record(code="SEG-R04", case=case.id, found="not enough memory for this case",
                           advice="Close other programs, or use a machine with more memory.")]
        except SegError as error:
            if error.exit_code in {Exit.USAGE, Exit.RESOURCES, Exit.PLUGIN}:  # no fault of this case
                raise
            return [evolve(record, case=record.case or case.id) for record in error.records]
        return []

    def _prepare_and_store(self, case: Case) -> None:
        volume = read_image(case.images, self.how.plan.description.orientation)
        label = None
        if case.label is not None:
            label, _ = read_label(case.label, self.dataset.labels, volume.turn)
            if label.shape != volume.array.shape[1:]:
                raise SegError(Record(code="SEG-D01", case=case.id, file=str(case.label),
                                      found=f"label of size {label.shape}",
                                      expected=f"{volume.array.shape[1:]}, the size of the image"))
        prepared = prepare(volume.array, volume.spacing, self.how, label, case.id)
        labels = self.dataset.labels
        locations = {} if prepared.label is None else class_locations(prepared.label, labels)
        self.store.write(case.id, prepared, locations, self.how.configuration.patch3, self.digests[case.id])


def _check_space(cases: int, plan: Plan, configuration: Configuration, folder: Path) -> None:
    """Refuse at the start what will not fit: cases of the plan's median size."""
    size = configuration.median_shape
    slices = plan.original_median_shape[0] if len(size) == 2 else 1
    need = int(cases * slices * prod(size) * (4 * configuration.topology.in_channels + 2))
    free = shutil.disk_usage(folder).free
    if need > free:
        raise SegError(Record(code="SEG-R06", file=str(folder), found=f"{free / 1e9:.1f} GB are free",
                              expected=f"about {need / 1e9:.1f} GB for {cases} preprocessed cases",
                              advice="Free some space, or choose another folder with -o."), Exit.RESOURCES)
