"""NIfTI voxels, read by ourselves.

SimpleITK's reader turns every NaN and infinity into 0 and fills what is missing of a file with 0, both without a word.
So the voxels are read here, while the geometry stays SimpleITK's.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg._inflate import MAGIC, gunzip, peek

HEADER = 348
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
         128: "u1", 2304: "u1"}  # fmt: skip
Order = Literal["<", ">"]
COLOURS = {128: 3, 2304: 4}


@frozen(kw_only=True)
class Header:
    """What of a NIfTI-1 header is needed to find and scale the voxels."""

    dim: tuple[int, ...]
    pixdim: tuple[float, ...]
    dtype: np.dtype[Any]
    colours: int
    offset: int
    slope: float
    intercept: float

    @property
    def size(self) -> int:
        """Bytes of the file, uncompressed, that the header asks for."""
        return self.offset + self.values * self.dtype.itemsize

    @property
    def values(self) -> int:
        """Numbers that the voxels hold."""
        return math.prod(self.dim) * self.colours


def read_header(raw: bytes) -> Header:
    """The header of the file `raw`, compressed or not.

    Raises:
        ValueError: this is no NIfTI file, or its header makes no sense.
    """
    head = peek(raw[:64 * HEADER], HEADER) if raw.startswith(MAGIC) else raw[:HEADER]
    orders: tuple[Order, Order] = ("<", ">")
    for order in orders:
        kind = int(np.frombuffer(head, f"{order}i4", 1)[0]) if len(head) >= HEADER else 0
        if kind == 540:
            raise ValueError("this is no NIfTI-1 but NIfTI-2, which SimpleITK does not read")
        if kind == HEADER:
            return _parse(head, order)
    raise ValueError("this is no NIfTI file")


def read_voxels(raw: bytes) -> NDArray[Any]:
    """The numbers of the file `raw`, flat or (values, colours), scaled as its header says, NaN and all.

    What is scaled becomes float32, as SimpleITK has it.

    Raises:
        ValueError: the file is cut short or damaged.
    """
    header = read_header(raw)
    data = gunzip(raw, header.size) if raw.startswith(MAGIC) else raw
    if len(data) < header.size:
        raise ValueError(f"the file is cut short: {len(data)} bytes where its header asks for {header.size}")
    voxels: NDArray[Any] = np.frombuffer(data, header.dtype, header.values, header.offset)
    if header.colours > 1:
        return voxels.reshape(-1, header.colours)
    if header.slope == 1 and header.intercept == 0:
        return voxels
    scaled = voxels.astype(np.float64)
    scaled *= header.slope
    scaled += header.intercept
    return scaled if header.dtype.itemsize == 8 and header.dtype.kind == "f" else scaled.astype(np.float32)


def _parse(head: bytes, order: Order) -> Header:
    def numbers(kind: str, count: int, at: int) -> list[Any]:
        found: list[Any] = np.frombuffer(head, f"{order}{kind}", count, at).tolist()
        return found

    dim, (datatype,), pixdim = numbers("i2", 8, 40), numbers("i2", 1, 70), numbers("f4", 8, 76)
    offset, slope, intercept = numbers("f4", 3, 108)
    if head[344:347] != b"n+1":
        raise ValueError("this is no NIfTI file of one part")
    axes = dim[0]
    if not 1 <= axes <= 7 or min(dim[1:axes + 1]) < 1:
        raise ValueError(f"the header's sizes make no sense: {dim}")
    if datatype not in KINDS:
        raise ValueError(f"voxels of NIfTI type {datatype} are not read")
    if not math.isfinite(offset) or offset < 0:
        raise ValueError(f"the header's offset makes no sense: {offset}")
    return Header(
        dim=tuple(dim[1:axes + 1]), pixdim=tuple(pixdim[1:axes + 1]),
        dtype=np.dtype(KINDS[datatype]).newbyteorder(order),
        colours=COLOURS.get(datatype, 1), offset=int(offset) or 352,
        slope=slope if math.isfinite(slope) and slope != 0 else 1.0,
        intercept=intercept if math.isfinite(intercept) else 0.0,
    )  # fmt: skip
