"""Read one image file, or refuse it with a record: integrity first, then voxels, then geometry.

SimpleITK fills what is missing of some files with zeros, ignores checksums, and bends NaN to 0 in NIfTI; each format is
checked here before SimpleITK sees it.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg._geometry import PIXEL_ENDINGS, Geometry, from_sitk, spacing_record
from seg._inflate import gunzip, inflate
from seg._nifti import read_header, read_voxels
from seg.errors import Record, SegError
from seg.inputs import IMAGE_ENDINGS, image_ending, missing_record

NIFTI = (".nii", ".nii.gz")


@frozen(kw_only=True, eq=False)
class Raw:
    """What a file holds: numbers of the file's own dtype (C, Z, Y, X), its grid, the SHA-256 of its bytes."""

    array: NDArray[Any]
    geometry: Geometry
    digest: str
    notes: tuple[Record, ...] = ()


def load(path: Path) -> Raw:
    """Read a file, or a folder with one DICOM series.

    Raises:
        SegError: one record (or more for DICOM): the file is missing (D09), unreadable (D08), cut short or damaged
            (D07), of a dimension that is no image (D15), of senseless spacing (D16), a faulty DICOM series (D17).
    """
    if path.is_dir() and not image_ending(path):
        from seg._dicom import read_series

        return read_series(path)
    raw = _bytes(path)
    ending = image_ending(path)
    digest = hashlib.sha256(raw).hexdigest()
    geometry = read_geometry(path, raw)
    try:
        if ending in NIFTI:
            array = read_voxels(raw)
            array = array.T.reshape(-1, *geometry.shape) if array.ndim > 1 else array.reshape(-1, *geometry.shape)
        else:
            digest = _check_whole(path, raw, ending) or digest
            array = from_image(_sitk_read(path))[0]
    except ValueError as error:
        raise SegError(_damaged(path, error)) from None
    array = _colours(array, ending, raw)
    return Raw(array=array, geometry=evolve(geometry, channels=len(array)), digest=digest)


def read_geometry(path: Path, raw: bytes | None = None) -> Geometry:
    """The grid of a file, from its header.

    Raises:
        SegError: as `load`, as far as a header tells.
    """
    ending = image_ending(path)
    raw = raw if raw is not None else _bytes(path, 1 << 16)
    try:
        if ending in NIFTI:
            _check_pixdim(path, raw)
        reader = _reader(path)
        reader.ReadImageInformation()
        geometry = from_sitk(reader, ending, reader.GetNumberOfComponents())
    except ValueError as error:
        raise SegError(_damaged(path, error)) from None
    except RuntimeError as error:
        raise SegError(_unreadable(path, error)) from None
    wrong = spacing_record(geometry, str(path))
    if wrong:
        raise SegError(wrong)
    if ending == ".bmp" and _is_indexed(raw):
        return evolve(geometry, channels=1)
    return evolve(geometry, channels=geometry.channels - 1) if _has_alpha(geometry.channels, ending) else geometry


def from_image(image: Any) -> tuple[NDArray[Any], Geometry]:
    """The numbers (C, Z, Y, X) and the grid of a SimpleITK image; this is where (x, y, z) is turned.

    Raises:
        ValueError: an image of other than 2, 3 or 4 axes, complex numbers, or a fourth axis besides several
            components.
    """
    import SimpleITK as sitk

    components = image.GetNumberOfComponentsPerPixel()
    geometry = from_sitk(image, components=components)
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "c":
        raise ValueError("complex numbers")
    if components > 1:
        if image.GetDimension() == 4:
            raise ValueError("four axes of several components each")
        array = np.moveaxis(array, -1, 0)
    return array.reshape(-1, *geometry.shape), geometry


@cache
def sitk_quietly() -> Any:
    """SimpleITK, whose warnings on stderr are switched off: what they would say stands in our records."""
    import SimpleITK as sitk

    sitk.ProcessObject_SetGlobalWarningDisplay(False)
    return sitk


def last_line(error: Exception) -> str:
    """What SimpleITK says at the end of its long messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^ITK ERROR: \w+\(\w+\): |^sitk::ERROR: ", "", lines[-1]) if lines else type(error).__name__


def _bytes(path: Path, limit: int = -1) -> bytes:
    if not path.exists():
        raise SegError(missing_record(path))
    if path.is_dir():
        raise SegError(_refused(path, "this is a folder", "an image file"))
    if not image_ending(path):
        raise SegError(_refused(path, "this is no image format that is read", ", ".join(IMAGE_ENDINGS)))
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit)
    except OSError as error:
        raise SegError(_refused(path, f"cannot be read: {error.strerror}")) from None
    if not raw:
        raise SegError(_refused(path, "the file is empty", "an image"))
    return raw


def _reader(path: Path) -> Any:
    sitk = sitk_quietly()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    if image_ending(path) in NIFTI:
        reader.SetImageIO("NiftiImageIO")
    return reader


def _sitk_read(path: Path) -> Any:
    try:
        return _reader(path).Execute()
    except RuntimeError as error:
        raise ValueError(last_line(error)) from None


def _check_pixdim(path: Path, raw: bytes) -> None:
    """SimpleITK replaces a spacing of 0 by 1 in silence."""
    header = read_header(raw)
    spacing = header.pixdim[: min(len(header.dim), 3)]
    if not all(np.isfinite(value) and value > 0 for value in spacing):
        found = "spacing (" + ", ".join(f"{value:g}" for value in spacing) + ") mm"
        raise SegError(Record(code="SEG-D16", found=found, expected="positive numbers", file=str(path),
                              advice="Correct the header of the file."))


def _colours(array: NDArray[Any], ending: str, raw: bytes) -> NDArray[Any]:
    """Grey or red, green and blue alone; a grey bitmap of 8 bits, which SimpleITK reads as colours, is grey."""
    if ending == ".bmp" and _is_indexed(raw) and (array == array[:1]).all():
        return array[:1]
    return array[:-1] if _has_alpha(len(array), ending) else array


def _has_alpha(channels: int, ending: str) -> bool:
    return ending in PIXEL_ENDINGS and channels in (2, 4)


def _is_indexed(raw: bytes) -> bool:
    """Whether a bitmap has a palette (its bits for each pixel stand at byte 28)."""
    return len(raw) > 28 and raw[28] <= 8


def _damaged(path: Path, error: Exception) -> Record:
    text = str(error)
    code = "SEG-D15" if text.startswith(("complex", "four axes", "an image of")) else "SEG-D07"
    if text.startswith(("this is no", "voxels of")):
        code = "SEG-D08"
    advice = "Copy the file again from where it came from." if code == "SEG-D07" else ""
    return Record(code=code, found=text, expected="a whole file" if code == "SEG-D07" else "", advice=advice,
                  file=str(path))


def _unreadable(path: Path, error: Exception) -> Record:
    text = last_line(error)
    advice = ""
    if "orthonormal" in text:
        text = "the axes of the header's transformation are not at right angles"
        advice = "Write the image again with an orthogonal affine (resample it where it is sheared)."
    return evolve(_refused(path, f"cannot be read: {text}"), advice=advice)


def _refused(path: Path, found: str, expected: str = "") -> Record:
    return Record(code="SEG-D08", found=found, expected=expected, file=str(path))


# -- whole or not, format by format: each check raises ValueError, or gives the digest where a second file belongs to it


def _check_whole(path: Path, raw: bytes, ending: str) -> str | None:
    checks: dict[str, Callable[[bytes], None]] = {
        ".png": _check_png, ".jpg": _check_jpeg, ".jpeg": _check_jpeg, ".bmp": _check_bmp,
        ".tif": _check_tiff, ".tiff": _check_tiff,
    }  # fmt: skip
    if ending in checks:
        try:
            checks[ending](raw)
        except (struct.error, IndexError):
            raise ValueError("the file is cut short") from None
        return None
    return _check_meta(path, raw) if ending in (".mha", ".mhd") else _check_nrrd(path, raw)


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
        tags = {tag: values for tag, values in (_tag(raw, order, start + entry * i, big) for i in range(entries))}
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
    pairs = (line.split(sign, 1) for line in header.decode("latin-1").splitlines() if sign in line)
    return {name.strip(): value.strip() for name, value in pairs}


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
    found = len({"raw": lambda: data, "gzip": lambda: gunzip(data, size), "zlib": lambda: inflate(data, size)}[encoding]())
    if found < size:
        raise ValueError(f"the file is cut short: {found} bytes of voxels where its header asks for {size}")
