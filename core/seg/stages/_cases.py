"""Where the cases of a training lie: on the device if they fit, else in the machine's memory, else on the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from attrs import evolve, frozen

from seg.arrays import open_array
from seg.aside import Loose, read_within
from seg.contracts import FirstBatch, FirstPositions
from seg.device import free_memory
from seg.estimates import BYTES_IMAGE, BYTES_LABEL, format_bytes
from seg.kinds import CaseArrays
from seg.progress import Progress
from seg.splits import members
from seg.stages.cascade import Handed, previous_predictions
from seg.store import Manifest, Store, StoredCase
from seg.training import Data

if TYPE_CHECKING:
    from seg.stages.train import Fold

MEMORY_SHARE = 0.5  # of the free memory may be taken by cases
MACHINE = torch.device("cpu")
OTHER_FILES = 256  # that a process may have open beside the cases
CLOSE_S = 5.0


@frozen(kw_only=True)
class Place:
    """Where cases lie: on `device`, or on the disk (None); and that in words."""

    device: torch.device | None
    words: str


def place_for(size: int, device: torch.device) -> Place:
    """The fastest place for cases of `size` bytes that are trained on `device`, by the memory that is free now."""
    if device.type == "cuda" and size < MEMORY_SHARE * free_memory(device):
        return Place(device=device, words=f"in the memory of {device}")
    free = free_memory(MACHINE)
    if size < MEMORY_SHARE * free:
        sent = ", sent through page-locked buffers" if device.type == "cuda" else ""
        return Place(device=MACHINE, words=f"in the machine's memory{sent}")
    return Place(device=None, words=f"read from the disk patch by patch: {format_bytes(free)} of memory free")


def size_of(manifest: Manifest, cases: Sequence[str], channels: int, maps: int) -> int:
    """Bytes of stored cases: images of so many channels, and label maps."""
    voxels = sum(math.prod(manifest.cases[case].shape) for case in cases)
    return voxels * (channels * BYTES_IMAGE + maps * BYTES_LABEL)


def training_data(fold: Fold, device: torch.device, files: ExitStack, progress: Progress) -> Data:
    """The training cases of a fold, where they are best; files that stay open are put on `files`.

    Raises:
        SegError: a file is damaged (exit 3), or the disk does not give it in time (exit 5).
    """
    store, previous = fold.store, previous_predictions(fold)
    training, _ = members(fold.folder.splits(), fold.fold, store.cases)
    size = size_of(store.manifest, training, len(fold.planned.normalization), 2 if previous else 1)
    place = place_for(size, device)
    progress.say(f"cases: {len(training)}, {format_bytes(size)}, {place.words}")
    get = partial(_loaded, store, device=place.device) if place.device else partial(_opened, store, files=files)
    if place.device is None:
        _allow_open((2 if previous else 1) * len(training))
    stall_s = fold.settings.train.stall_s
    cases = [read_within(stall_s, store.path(case), partial(get, case, previous.get(case))) for case in training]
    components = fold.components
    return Data(cases=[case.arrays for case in cases], index=[case.index for case in cases],
                sampler=FirstPositions(components.sampler, components.uses["sampler"]),
                augmenter=FirstBatch(components.augmenter, components.uses["augmenter"]),
                read_from=store.folder if place.device is None else None)


def _loaded(store: Store, case: str, previous: Handed | None, device: torch.device) -> StoredCase:
    """A case in the memory of `device`; the machine's need not hold more than one that goes elsewhere."""
    stored = store.load(case)
    arrays = CaseArrays(image=stored.arrays.image.to(device), label=stored.arrays.label.to(device),
                        previous=None if previous is None else previous.load().to(device))
    return evolve(stored, arrays=arrays)


def _opened(store: Store, case: str, previous: Handed | None, files: ExitStack) -> StoredCase:
    stored = files.enter_context(store.open(case))
    if previous is None:
        return stored
    return evolve(stored, arrays=evolve(stored.arrays, previous=files.enter_context(open_array(previous.file))))


def _allow_open(count: int) -> None:
    """Let this process have so many cases open at once, where the system lets it: 1024 files are a usual limit."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


@contextmanager
def case_files() -> Iterator[ExitStack]:
    """What the open files of cases are put on, closed at the end; not waited for where a reader is stuck in one.

    h5py does one thing at a time, so they can be closed only when that reader comes back.
    """
    files = ExitStack()
    try:
        yield files
    finally:
        Loose("closing", files.close).join(CLOSE_S)
