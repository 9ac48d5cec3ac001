"""nnU-Net's fingerprint: sizes and spacings after cropping, intensities of the foreground (Isensee et al. 2021)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg import (
    Case,
    Dataset,
    Description,
    Fingerprint,
    Progress,
    Record,
    SegError,
    bounding_box,
    in_threads,
    nonzero_mask,
    option,
    read_image,
    read_label,
)
from seg_nnunet._statistics import KEPT, SEED, Sample, draw, pool


@frozen(kw_only=True, eq=False)
class Measured:
    """What is kept of one case; the image itself is not. `samples` has one entry a channel, none without foreground."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    relative_size: float
    samples: tuple[Sample, ...]
    class_voxels: dict[str, int]
    orientation: str


@frozen(kw_only=True)
class Share:
    """What each case may add to the statistics of a channel: draws, and different values that are kept of them."""

    draws: int
    kept: int


@frozen(kw_only=True)
class NnUNetFingerprinter:
    """nnU-Net 2.8's fingerprint, from the same random draws.

    In memory at once are as many cases as there are threads, and at most 96 MiB of foreground values for each channel.
    """

    samples: int = option(10**8, "Foreground voxels drawn for the intensities of a channel, all cases together.", ge=1)
    threads: int = option(2, "How many cases are read at the same time.", ge=1)

    def fingerprint(self, dataset: Dataset, progress: Progress) -> Fingerprint:
        """The fingerprint of `dataset`.

        Raises:
            SegError: the faults of all cases that cannot be read; or no case has any foreground (D13).
        """
        found = self._measure(dataset, progress)
        pooled = [[each.samples[channel] for each in found if each.samples]
                  for channel in range(len(dataset.description.channel_names))]
        if not all(pooled):
            raise SegError(Record(code="SEG-D13", found="no label map has foreground", file=str(dataset.root),
                                  expected=f"voxels of {', '.join(dataset.labels.foreground)}",
                                  advice="Check that labels and images belong together."))
        names = list(dataset.labels.foreground)
        return Fingerprint(
            cases=tuple(case.id for case in dataset.cases),
            shapes=tuple(each.shape for each in found),
            spacings=tuple(each.spacing for each in found),
            relative_size_after_cropping=float(np.median([each.relative_size for each in found])),
            intensities=tuple(pool(samples) for samples in pooled),
            class_voxels={name: sum(each.class_voxels[name] for each in found) for name in names},
            class_cases={name: sum(each.class_voxels[name] > 0 for each in found) for name in names},
            orientations=dict(Counter(each.orientation for each in found).most_common()),
        )

    def _measure(self, dataset: Dataset, progress: Progress) -> list[Measured]:
        """All cases, in order; a fault of one does not hide those of others."""
        count, found, records = len(dataset.cases), list[Measured](), list[Record]()
        share = Share(draws=max(self.samples // count, 1), kept=max(KEPT // count, 1000))
        measure = partial(_measured, description=dataset.description, share=share)
        for each in in_threads(measure, dataset.cases, self.threads):
            if isinstance(each, SegError):
                records += each.records
            else:
                found.append(each)
            progress.advance()
        if records:
            raise SegError(records)
        return found


def _measured(case: Case, description: Description, share: Share) -> Measured | SegError:
    try:
        return _measure(case, description, share)
    except SegError as error:
        return error


def _measure(case: Case, description: Description, share: Share) -> Measured:
    """What is kept of one case.

    Raises:
        SegError: a file of it cannot be read, or image and label map differ in size (D01); the records name the case.
    """
    labels = description.labels
    try:
        volume = read_image(case.images, description.orientation)
        label, _ = read_label(_label_path(case), labels, volume.turn)
    except SegError as error:
        raise SegError([evolve(record, case=case.id) for record in error.records], error.exit_code) from None
    image = volume.array  # (C, Z, Y, X)
    if label.shape != image.shape[1:]:
        raise SegError(Record(code="SEG-D01", found=f"a label map of {label.shape} voxels", case=case.id,
                              expected=f"{image.shape[1:]}, as the image has", file=str(case.label)))
    box = tuple(slice(*ends) for ends in zip(*bounding_box(nonzero_mask(image)), strict=True))
    cropped = label[box]
    inside = cropped > 0  # the ignore label too, as nnU-Net 2.8 does
    counts = np.bincount(label[label > 0], minlength=max(labels.ids) + 1)
    z, y, x = cropped.shape
    return Measured(
        shape=(z, y, x), spacing=volume.spacing, relative_size=cropped.size / label.size,
        samples=_samples([channel[box][inside] for channel in image], share),
        class_voxels={name: int(counts[list(ids)].sum()) for name, ids in labels.foreground.items()},
        orientation=volume.orientation,
    )


def _label_path(case: Case) -> Path:
    if case.label is None:
        raise SegError(Record(code="SEG-D09", found="no label map", expected="one for each training case"))
    return case.label


def _samples(channels: Sequence[NDArray[np.float32]], share: Share) -> tuple[Sample, ...]:
    """The foreground of each channel; one generator a case goes through its channels in order (nnU-Net 2.8)."""
    if not channels[0].size:
        return ()
    generator = np.random.RandomState(SEED)
    return tuple(draw(values, share.draws, share.kept, generator) for values in channels)
