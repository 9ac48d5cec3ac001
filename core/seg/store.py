"""The case store: one HDF5 file a case, and a manifest that says which are whole.

A file holds `image` float32 (C, Z, Y, X), `label` int16 (Z, Y, X), `locations/<k>` int32 (N, 3), and as attributes what
is needed to go back. Plain h5py reads it. Chunks are about as large as a patch, not compressed, each with a checksum
(fletcher32); the format's own structures carry theirs (HDF5 1.10).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import h5py
import numpy as np
import torch
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from seg.convert import dump_json, from_data, read_json, write_json
from seg.errors import Exit, Record, SegError
from seg.files import whole_file
from seg.kinds import CaseArrays, CaseIndex
from seg.models import CaseProperties, Size3
from seg.patches import damaged
from seg.preprocessing import Prepared

_CHUNK_VOXELS = 64**3  # a chunk of 1 MiB fits the cache of HDF5


@frozen(kw_only=True)
class Entry:
    """A case that is whole: the digest of what it was made from, and its size in voxels."""

    digest: str
    shape: Size3


@frozen(kw_only=True)
class Manifest:
    """What a store holds. `source` is the digest of the settings that all its cases share."""

    schema: int = 1
    source: str = ""
    cases: dict[str, Entry] = field(factory=dict)


@frozen(kw_only=True, eq=False)
class StoredCase:
    """A case out of the store: its voxels (tensors, or datasets of the open file), its way back, its classes."""

    arrays: CaseArrays
    properties: CaseProperties
    index: CaseIndex


class Store:
    """The preprocessed cases of one configuration, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock()  # cases are written by several threads
        path = self._manifest_path
        self._manifest = read_json(path, Manifest, exit_code=Exit.DATA) if path.exists() else Manifest()

    @property
    def manifest(self) -> Manifest:
        """What the store holds by now."""
        return self._manifest

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases that are whole, ascending."""
        return tuple(sorted(self._manifest.cases))

    def missing(self, digests: Mapping[str, str]) -> list[str]:
        """Which of the cases in `digests` (case → digest of what it is made from) are absent, stale, or have no file.

        No file is opened.
        """
        known = self._manifest.cases
        return [case for case, digest in digests.items()
                if case not in known or known[case].digest != digest or not self.path(case).is_file()]

    def is_complete(self, digests: Mapping[str, str]) -> bool:
        """Whether every case is there, made from just that."""
        return not self.missing(digests)

    def require(self, digests: Mapping[str, str]) -> None:
        """Refuse a store that lacks a case, or holds one that was made from something else.

        Raises:
            SegError: with the names of the cases (exit 3).
        """
        missing = self.missing(digests)
        if missing:
            names = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
            raise SegError(Record(code="SEG-D32", file=str(self.folder), expected=f"{len(digests)} whole cases",
                                  found=f"{len(missing)} cases are missing or stale: {names}",
                                  advice="Run `seg preprocess` again: only these are done."))

    def path(self, case: str) -> Path:
        """The file of a case."""
        return self.folder / f"{case}.h5"

    def begin(self, source: str, cases: Mapping[str, str]) -> list[str]:
        """Start (or go on with) a store of just these cases (case → digest); what else it held is deleted.

        Returns:
            The cases to write.
        """
        missing = self.missing(cases)
        kept = {case: entry for case, entry in self._manifest.cases.items() if case in cases and case not in missing}
        given_up = self._manifest.cases.keys() - kept.keys()
        self._save(Manifest(source=source, cases=kept))
        for file in (*map(self.path, given_up), *self.folder.glob(".*.h5")):  # the hidden ones are of a killed run
            file.unlink(missing_ok=True)
        return missing

    def write(
        self, case: str, prepared: Prepared, locations: Mapping[int, NDArray[np.int32]], patch: Size3, digest: str
    ) -> None:
        """Store a case, and enter it in the manifest with the digest of what it was made from.

        `patch` (z, y, x) decides the size of the chunks.

        Raises:
            SegError: the disk is full or cannot be written (exit 5).
        """
        z, y, x = prepared.image.shape[1:]
        with whole_hdf5(self.path(case)) as file:
            _fill(file, prepared, locations, patch)
        with self._lock:
            cases = {**self._manifest.cases, case: Entry(digest=digest, shape=(z, y, x))}
            self._save(evolve(self._manifest, cases=dict(sorted(cases.items()))))  # whichever was done first

    @contextmanager
    def open(self, case: str) -> Iterator[StoredCase]:
        """A case with its voxels left on the disk.

        Raises:
            SegError: the store does not hold it, or its file is damaged.
        """
        path = self._path_of_whole(case)
        with _faults_of(path):
            file = h5py.File(path, "r")
        with file:
            with _faults_of(path):
                stored = _stored(file)
            yield stored

    def load(self, case: str) -> StoredCase:
        """A case in memory, as tensors; every checksum is looked at.

        Raises:
            SegError: as `open`.
        """
        with self.open(case) as stored, _faults_of(self.path(case)):
            arrays = CaseArrays(image=torch.from_numpy(stored.arrays.image[()]),
                                label=torch.from_numpy(stored.arrays.label[()]))
            return StoredCase(arrays=arrays, properties=stored.properties, index=stored.index)

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def _save(self, manifest: Manifest) -> None:
        write_json(self._manifest_path, manifest)
        self._manifest = manifest

    def _path_of_whole(self, case: str) -> Path:
        path = self.path(case)
        if case in self._manifest.cases and path.is_file():
            return path
        raise SegError(Record(code="SEG-D31", case=case, file=str(path), found="not in the case store",
                              expected=f"one of its {len(self.cases)} cases", advice="Run `seg preprocess` again."))


@contextmanager
def whole_hdf5(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file, which takes its name only when the block ends well.

    Raises:
        SegError: the disk is full or cannot be written (exit 5).
    """
    with whole_file(path) as temporary, _Stream(temporary, "w+") as stream:
        try:
            with h5py.File(stream, "w", libver=("v110", "v110")) as file:
                yield file
        finally:
            stream.raise_fault()


class _Stream(io.FileIO):
    """A file that takes every write and keeps the first fault for later: HDF5 crashes where a write fails."""

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        """All of `data`, or nothing more after a fault."""
        left = memoryview(data).cast("B")
        size = len(left)
        with self._kept():
            while left and self.fault is None:
                left = left[super().write(left):]
        return size

    def truncate(self, size: int | None = None) -> int:
        """The file's end, unless that is a fault."""
        with self._kept():
            return super().truncate(size)
        return size or 0

    def raise_fault(self) -> None:
        """Raise the OSError that was kept."""
        if self.fault is not None:
            raise self.fault

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.fault = self.fault or error


def _fill(file: h5py.File, prepared: Prepared, locations: Mapping[int, NDArray[np.int32]], patch: Size3) -> None:
    image = prepared.image.numpy()
    label = np.zeros(image.shape[1:], np.int16) if prepared.label is None else prepared.label.numpy()
    chunk = chunk_size(image.shape[1:], patch)
    file.create_dataset("image", data=image, dtype=np.float32, chunks=(1, *chunk), fletcher32=True)
    file.create_dataset("label", data=label, dtype=np.int16, chunks=chunk, fletcher32=True)
    group = file.create_group("locations")
    for key, voxels in locations.items():
        checked = {"chunks": (min(len(voxels), 2**16), 3), "fletcher32": True} if len(voxels) else {}
        group.create_dataset(str(key), data=voxels, dtype=np.int32, shape=(len(voxels), 3), **checked)
    file.attrs["properties"] = dump_json(prepared.properties)


def chunk_size(shape: tuple[int, ...], patch: Size3) -> tuple[int, ...]:
    """The chunks of a stored case (z, y, x): the patch, within the case, its longest side halved until small enough."""
    chunk = [min(pair) for pair in zip(shape, patch, strict=True)]
    while np.prod(chunk) > _CHUNK_VOXELS:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)


def _stored(file: h5py.File) -> StoredCase:
    arrays = CaseArrays(image=file["image"], label=file["label"])
    properties = from_data(json.loads(file.attrs["properties"]), CaseProperties, file=file.filename)
    z, y, x = arrays.image.shape[1:]
    locations = {int(key): voxels[()] for key, voxels in file["locations"].items()}
    index = CaseIndex(case=properties.case, shape=(z, y, x), locations=locations)
    return StoredCase(arrays=arrays, properties=properties, index=index)


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Whatever h5py says of a damaged file, as one of our errors."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise damaged(str(path), error) from error
