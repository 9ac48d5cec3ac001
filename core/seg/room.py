"""Where the maps of a prediction are gathered: on the device, in the machine's memory, or in a temporary file.

118 classes of a case of 340×340×200 voxels are 11 GB. What does not fit lies in a file without a name (in `TMPDIR`),
mapped into memory; the pages that were worked on are given back as the work goes on, so that little of it is in memory
at a time.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from attrs import frozen
from torch import Tensor

from seg.device import free_memory
from seg.errors import Exit, Record, SegError
from seg.files import disk_error

SHARE = 0.5  # of what is free may be taken by the maps of one network


Part = slice | tuple[slice, ...]


class Maps(Protocol):
    """Maps (K, Z, Y, X), a tensor or not, of which any may be read."""

    @property
    def shape(self) -> Sequence[int]:
        """K, Z, Y, X."""

    def __getitem__(self, chosen: Part, /) -> Tensor:
        """Some of the maps, or of their slices."""


@frozen(eq=False)
class FileMaps:
    """Maps whose values lie in a temporary file, float32 or float16."""

    tensor: Tensor  # on the mapped file: what is touched of it comes into memory
    _mapping: mmap.mmap

    @classmethod
    def zeros(cls, shape: Sequence[int], kind: torch.dtype) -> FileMaps:
        """Maps of zeros, with their room on the disk taken.

        Raises:
            SegError: the disk is too small (exit 5).
        """
        size = math.prod(shape) * kind.itemsize
        try:
            with tempfile.TemporaryFile() as file:
                if hasattr(os, "posix_fallocate"):  # a file with holes would end the program where the disk ends
                    os.posix_fallocate(file.fileno(), 0, size)
                file.truncate(size)
                mapping = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise disk_error(error, Path(tempfile.gettempdir())) from error
        return cls(torch.frombuffer(mapping, dtype=kind).view(tuple(shape)), mapping)

    @property
    def shape(self) -> torch.Size:
        """K, Z, Y, X."""
        return self.tensor.shape

    def __getitem__(self, chosen: Part, /) -> Tensor:
        """A copy of some of the maps, or of their slices."""
        some = self.tensor[chosen]
        found = some.clone()
        self.rest(some)
        return found

    def rest(self, some: Tensor | None = None) -> None:
        """Give the pages back to the system, which keeps what was written: all of them, or those of a part."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        if some is None:
            self._mapping.madvise(mmap.MADV_DONTNEED)
        elif some.numel():
            last = sum((size - 1) * step for size, step in zip(some.shape, some.stride(), strict=True))
            first, size = int(some.storage_offset()) * some.element_size(), (last + 1) * some.element_size()
            start = first - first % mmap.PAGESIZE
            self._mapping.madvise(mmap.MADV_DONTNEED, start, first + size - start)


@frozen(kw_only=True)
class Room:
    """Where maps are gathered: `device`, or a file if there is none that has the room."""

    device: torch.device | None

    def zeros(self, shape: Sequence[int], kind: torch.dtype = torch.float32) -> Tensor | FileMaps:
        """Maps of zeros."""
        if self.device is None:
            return FileMaps.zeros(shape, kind)
        return torch.zeros(tuple(shape), dtype=kind, device=self.device)


def parts(shape: Sequence[int], *, whole_voxels: bool) -> Iterator[Part]:
    """Maps of `shape` (K, Z, Y, X) in parts about as large as one map: each map, or some slices of all maps."""
    if not whole_voxels:
        yield from (slice(index, index + 1) for index in range(shape[0]))
        return
    slices = math.ceil(shape[1] / shape[0])
    yield from ((slice(None), slice(first, first + slices)) for first in range(0, shape[1], slices))


def find_room(size: int, device: torch.device, limit: float = 0.0) -> Room:
    """Where maps of `size` bytes are gathered: on `device`, else in the machine's memory, else in a file.

    Args:
        size: in bytes.
        device: of the network.
        limit: bytes of the machine's memory that they may take; 0: half of what is free.

    Raises:
        SegError: there is no room for a file either (exit 5).
    """
    machine = torch.device("cpu")
    if device.type != "cpu" and size <= SHARE * free_memory(device):
        return Room(device=device)
    if size <= (limit or SHARE * free_memory(machine)):
        return Room(device=machine)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise SegError(Record(code="SEG-R07", file=tempfile.gettempdir(), found=f"the maps of this case take "
                              f"{size / 1e9:.1f} GB, more than memory, and {free / 1e9:.1f} GB of disk, have free",
                              advice="Set TMPDIR to a folder with more room, or allow more with --max-memory."),
                       Exit.RESOURCES)
    return Room(device=None)
