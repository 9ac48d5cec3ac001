"""Read one image file, or refuse it with a record: integrity first, then voxels, then geometry.

SimpleITK fills what is missing of some files with zeros, ignores checksums, and bends NaN to 0 in NIfTI; each format is
checked here before SimpleITK sees it.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg._geometry import PIXEL_ENDINGS, Geometry, from_sitk, spacing_record
from seg._nifti import read_header, read_voxels
from seg._whole import check_whole
from seg.convert import load_json
from seg.errors import Exit, Record, SegError
from seg.inputs import IMAGE_ENDINGS, case_name, channel_of, image_ending, missing_record

NIFTI = (".nii", ".nii.gz")
ITK = Lock()
"""Held while SimpleITK reads or writes a file: one thread at a time.

ITK 5 keeps the name of the last NIfTI file in one string for all threads (`static std::string prev` in
`NiftiImageIO::ReadImageInformation`), without a lock: of two that read headers at once each may free it, and the heap
is damaged. Its other formats promise nothing either.
"""


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
    try:
        if ending in NIFTI:
            array = read_voxels(raw)
            geometry = read_geometry(path, raw)
            array = (array.T if array.ndim > 1 else array).reshape(-1, *geometry.shape)
        else:
            digest = check_whole(path, raw, ending) or digest
            geometry = read_geometry(path, raw)
            array = from_image(_sitk_read(path))[0]
    except ValueError as error:
        raise SegError(_damaged(path, error)) from None
    array = _colours(array, ending, raw)
    if ending in PIXEL_ENDINGS and geometry.ndim == 3:
        digest = hashlib.sha256(f"{digest} {geometry.spacing}".encode()).hexdigest()
    return Raw(array=array, geometry=evolve(geometry, channels=len(array)), digest=digest)


def save(image: Any, path: Path, *, compression: int = -1) -> None:
    """Write a SimpleITK image, and look whether the file is whole: on a full disk SimpleITK stops without a word.

    Args:
        image: the image.
        path: its ending says the format.
        compression: level, where the format has any; -1 is the format's usual one.

    Raises:
        OSError: the file could not be written, or not all of it.
    """
    try:
        with ITK:
            sitk_quietly().WriteImage(image, str(path), useCompression=True, compressionLevel=compression)
        _check_written(path, image)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from None
    except ValueError as error:
        raise OSError(f"{error}; is the disk full?") from None


def _check_written(path: Path, image: Any) -> None:
    raw, ending = path.read_bytes(), image_ending(path)
    if ending in NIFTI:
        read_voxels(raw)
        return
    check_whole(path, raw, ending)
    first, wanted = (from_image(found)[0][0] for found in (_sitk_read(path), image))
    if not np.array_equal(first, wanted):  # a TIFF may lack its last tags, and look whole
        raise ValueError("the file holds something else")


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
        with ITK:
            reader = _reader(path)
            reader.ReadImageInformation()
        geometry = from_sitk(reader, ending, reader.GetNumberOfComponents())
    except ValueError as error:
        raise SegError(_damaged(path, error)) from None
    except RuntimeError as error:
        raise SegError(_unreadable(path, error)) from None
    if ending in PIXEL_ENDINGS and geometry.ndim == 3:
        geometry = evolve(geometry, spacing=_spacing_beside(path))
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
    components = image.GetNumberOfComponentsPerPixel()
    geometry = from_sitk(image, components=components)
    array = sitk_quietly().GetArrayFromImage(image)
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
    import SimpleITK

    silence: Any = SimpleITK.ProcessObject_SetGlobalWarningDisplay
    silence(False)  # noqa: FBT003 - a function of C++
    return SimpleITK


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
        with ITK:
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


def _spacing_beside(path: Path) -> tuple[float, float, float]:
    """The spacing (x, y, z) of a stack of TIFF pages, 1 mm unless a `<case>.json` beside it says otherwise.

    As in nnU-Net it holds {"spacing": [z, y, x]}.
    """
    file = next((there for name in (case_name(path), channel_of(path)[0])
                 if (there := path.with_name(f"{name}.json")).is_file()), None)
    if file is None:
        return 1.0, 1.0, 1.0
    data = load_json(file, exit_code=Exit.DATA)
    spacing = data.get("spacing") if isinstance(data, dict) else None
    if not isinstance(spacing, list) or len(spacing) != 3 or not all(type(item) in (int, float) for item in spacing):
        raise SegError(Record(code="SEG-D16", found=f"spacing {spacing!r}", expected="three numbers, in mm (z, y, x)",
                              file=str(file)))
    z, y, x = (float(item) for item in spacing)
    return x, y, z


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
