"""One array in an HDF5 file of its own: what validation keeps of a case for a later stage.

`previous` int16 (Z, Y, X) is what a stage of a cascade predicts for the next one, on that one's preprocessed grid;
`logits` float16 (K, Z, Y, X) are kept where configurations may be combined. Plain h5py reads both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from seg.models import Size3
from seg.patches import damaged
from seg.room import Maps
from seg.store import chunk_size, whole_hdf5

NAME = "array"


def write_array(path: Path, array: Tensor, patch: Size3) -> None:
    """Write `array` (…, Z, Y, X), checked by fletcher32; `patch` (z, y, x) decides the size of the chunks.

    Raises:
        SegError: the disk is full or cannot be written (exit 5).
    """
    leading, size = array.shape[:-3], tuple(array.shape[-3:])
    chunks = (*(1,) * len(leading), *chunk_size(size, patch))
    with whole_hdf5(path) as file:
        file.create_dataset(NAME, data=array.cpu().numpy(), chunks=chunks, fletcher32=True)


def write_maps(path: Path, maps: Maps, patch: Size3) -> None:
    """Write `maps` (K, Z, Y, X) as float16, one after the other; else as `write_array`."""
    count, *size = maps.shape
    with whole_hdf5(path) as file:
        dataset = file.create_dataset(NAME, (count, *size), "float16", chunks=(1, *chunk_size(tuple(size), patch)),
                                      fletcher32=True)
        for index in range(count):
            dataset[index] = maps[index : index + 1][0].half().cpu().numpy()


@contextmanager
def open_array(path: Path) -> Iterator[Any]:
    """The array left on the disk, as a dataset that is sliced like an array.

    Raises:
        SegError: the file is damaged (exit 3).
    """
    try:
        file = h5py.File(path, "r")
        dataset = file[NAME]
    except (OSError, KeyError) as error:
        raise damaged(str(path), error) from error
    with file:
        yield dataset


def load_array(path: Path) -> Tensor:
    """The array in memory; raises as `open_array`."""
    with open_array(path) as dataset:
        try:
            return torch.from_numpy(dataset[()])
        except OSError as error:
            raise damaged(str(path), error) from error
