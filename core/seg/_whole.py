"""Whether an image file is whole: checks for each format that SimpleITK leaves out.

A file that is cut short is refused, and so is one whose checksums are wrong, where its format has some.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seg._inflate import gunzip, inflate


def check_whole(path: Path, raw: bytes, ending: str) -> str | None:
    """Whether the file `raw` of the format `ending` holds all that its header speaks of.

    Returns:
        The SHA-256 of `raw` and of the second file that belongs to it, if there is one.

    Raises:
        ValueError: it is cut short or damaged, or no file of this format.
    """
    checks: dict[str, Callable[[bytes], None]] = {
        ".png": _check_png, ".jpg": _check_jpeg, ".jpeg": _check_jpeg, ".bmp": _check_bmp,
        ".tif": _check_tiff, ".tiff": _check_tiff,
    }  # fmt: skip
    if ending in checks:
        try:
            checks[ending](raw)
        except (struct.error, IndexError, KeyError):
            raise ValueError("the file is cut short") from None
        return None
    try:
        return _check_meta(path, raw) if ending in (".mha", ".mhd") else _check_nrrd(path, raw)
    except KeyError as error:
        raise ValueError(f"the header says nothing of {error.args[0]}, or is cut short") from None


def _check_png(raw: bytes) -> None:
    """Each chunk carries a CRC (PNG, section 5)."""
    if not raw.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("this is no PNG file")
    at = 8
    while raw[at + 4: at + 8] != b"IEND":
        (length,) = struct.unpack_from(">I", raw, at)
        (crc,) = struct.unpack_from(">I", raw, at + 8 + length)
        if zlib.crc32(raw[at + 4: at + 8 + length]) != crc:
            raise ValueError("a checksum of the file is wrong")
        at += 12 + length
    if len(raw) < at + 12:
        raise ValueError("the file is cut short")


def _check_jpeg(raw: bytes) -> None:
    if not raw.startswith(b"\xff\xd8"):
        raise ValueError("this is no JPEG file")
    if b"\xff\xd9" not in raw[-4096:]:
        raise ValueError("the file is cut short: its end mark is missing")


def _check_bmp(raw: bytes) -> None:
    if not raw.startswith(b"BM"):
        raise ValueError("this is no BMP file")
    offset, _, width, height, _, bits = struct.unpack_from("<IIiiHH", raw, 10)
    if len(raw) < offset + (width * bits + 31) // 32 * 4 * abs(height):
        raise ValueError("the file is cut short")


def _check_tiff(raw: bytes) -> None:
    """Every strip and tile of every page lies inside the file (TIFF 6.0, section 2; BigTIFF)."""
    order = {b"II": "<", b"MM": ">"}.get(raw[:2])
    if order is None:
        raise ValueError("this is no TIFF file")
    big = struct.unpack_from(order + "H", raw, 2)[0] == 43
    word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (page,) = struct.unpack_from(order + word, raw, 8 if big else 4)
    seen: set[int] = set()
    while page and page not in seen:
        seen.add(page)
        (entries,) = struct.unpack_from(order + count, raw, page)
        start = page + struct.calcsize(count)
        tags = dict(_tag(raw, order, start + entry * number, big) for number in range(entries))
        for offsets, sizes in ((273, 279), (324, 325)):
            for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
                if offset + size > len(raw):
                    raise ValueError("the file is cut short")
        (page,) = struct.unpack_from(order + word, raw, start + entry * entries)


def _tag(raw: bytes, order: str, at: int, big: bool) -> tuple[int, tuple[int, ...]]:
    """One entry of a page; the values of other than offsets and sizes are left out."""
    tag, kind = struct.unpack_from(order + "HH", raw, at)
    if tag not in (273, 279, 324, 325):
        return tag, ()
    word = "Q" if big else "I"
    (count,) = struct.unpack_from(order + word, raw, at + 4)
    letter = {3: "H", 4: "I", 16: "Q"}[kind]
    place = at + 4 + struct.calcsize(word)
    if count * struct.calcsize(letter) > struct.calcsize(word):
        (place,) = struct.unpack_from(order + word, raw, place)
    if place + count * struct.calcsize(letter) > len(raw):
        raise ValueError("the file is cut short")
    return tag, struct.unpack_from(f"{order}{count}{letter}", raw, place)


META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8,
              "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip


def _check_meta(path: Path, raw: bytes) -> str | None:
    """Compressed voxels are inflated and counted; SimpleITK lets a damaged stream pass."""
    end = raw.find(b"ElementDataFile")
    stop = raw.find(b"\n", end) + 1
    if end < 0 or stop == 0:
        raise ValueError("this is no MetaImage, or it is cut short in its header")
    fields = _fields(raw[:stop], "=")
    sizes = [int(number) for number in fields["DimSize"].split()]
    item = META_BYTES.get(fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY"), 0)
    size = int(np.prod(sizes, dtype=object)) * item * int(fields.get("ElementNumberOfChannels", "1"))
    data, digest = _data(path, raw, stop, "LOCAL", fields["ElementDataFile"])
    _check_data(data, size, "zlib" if fields.get("CompressedData", "False").lower() == "true" else "raw")
    return digest


def _check_nrrd(path: Path, raw: bytes) -> str | None:
    """Compressed voxels are unpacked and counted, and their CRC is looked at, which SimpleITK leaves out."""
    if not raw.startswith(b"NRRD"):
        raise ValueError("this is no NRRD file")
    stop = re.search(rb"\r?\n\r?\n", raw)
    end = stop.end() if stop else len(raw)
    fields = _fields(raw[:end], ":")
    item = {"float": 4, "double": 8}.get(fields["type"]) or _integer_bytes(fields["type"])
    size = int(np.prod([int(number) for number in fields["sizes"].split()], dtype=object)) * item
    data, digest = _data(path, raw, end, "", fields.get("data file", fields.get("datafile", "")))
    _check_data(data, size, {"gz": "gzip"}.get(fields["encoding"], fields["encoding"]))
    return digest


def _integer_bytes(kind: str) -> int:
    """Bytes of one of NRRD's many names for whole numbers (`unsigned short int`, `uint16_t`, …)."""
    bits = re.search(r"int(8|16|32|64)", kind)
    if bits:
        return int(bits[1]) // 8
    sizes = (("char", 1), ("short", 2), ("longlong", 8), ("long", 8), ("int", 4))
    return next((size for name, size in sizes if name in kind), 0)


def _fields(header: bytes, sign: str) -> dict[str, str]:
    lines = header.decode("latin-1").splitlines()
    cut = (line.partition(sign) for line in lines if sign in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in cut}


def _data(path: Path, raw: bytes, start: int, local: str, name: str) -> tuple[bytes | None, str | None]:
    """The packed voxels: the rest of the file, or a second one beside it, with the digest of both."""
    if name == local:
        return raw[start:], None
    if name.upper().startswith("LIST") or "%" in name:
        return None, None  # one file a slice: SimpleITK refuses what is missing
    other = path.parent / name
    if not other.is_file():
        raise ValueError(f"its voxels are missing: there is no file {name}")
    data = other.read_bytes()
    return data, hashlib.sha256(raw + data).hexdigest()


def _check_data(data: bytes | None, size: int, encoding: str) -> None:
    if data is None or encoding not in ("raw", "gzip", "zlib"):
        return
    unpacked = gunzip(data, size) if encoding == "gzip" else inflate(data, size) if encoding == "zlib" else data
    found = len(unpacked)
    if found < size:
        raise ValueError(f"the file is cut short: {found} bytes of voxels where its header asks for {size}")
