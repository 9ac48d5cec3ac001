"""Where the voxels of a file lie in space, and where two files disagree about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from seg.errors import Record, Severity
from seg.models import Size3, Spacing3

FLAT_SPACING = 999.0  # nnU-Net's spacing across the one slice of a 2-D image, in units of its largest in-plane spacing
SPACING_TOLERANCE = 1e-3  # relative
ORIGIN_TOLERANCE = 1e-2  # of the smallest spacing: what rounding in a header leaves
DIRECTION_TOLERANCE = 1e-3
PIXEL_ENDINGS = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")  # formats whose spacing says nothing


@frozen(kw_only=True)
class Geometry:
    """The grid of a file in SimpleITK's order (x, y[, z]); two or three spatial axes, mm.

    `direction` holds the cosines row by row. `channels` counts what the file holds at each voxel; `ending` is the
    file's format, empty for a DICOM series or an image that never was a file.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    channels: int = field(default=1, eq=False)
    ending: str = field(default="", eq=False)

    @property
    def ndim(self) -> int:
        """Two or three: the spatial axes of the file."""
        return len(self.size)

    @property
    def shape(self) -> Size3:
        """Voxels in (z, y, x); a 2-D image has one slice."""
        z, y, x = (1, *self.size[::-1]) if self.ndim == 2 else self.size[::-1]
        return z, y, x

    @property
    def spacing_zyx(self) -> Spacing3:
        """Spacing in (z, y, x), mm. A 2-D image has 999 times its in-plane spacing across (as nnU-Net reads it)."""
        flat = (FLAT_SPACING * max(self.spacing), *self.spacing[::-1])
        z, y, x = flat if self.ndim == 2 else self.spacing[::-1]
        return z, y, x

    @property
    def label_ending(self) -> str:
        """The format of label maps on this grid: the file's own, where one file can hold them without loss."""
        instead = {"": ".nii.gz", ".mhd": ".mha", ".nhdr": ".nrrd", ".jpg": ".png", ".jpeg": ".png"}
        return instead.get(self.ending, self.ending)


def from_sitk(image: Any, ending: str = "", components: int = 1) -> Geometry:
    """The geometry of a SimpleITK image or of a reader that has read its header; a fourth axis is channels.

    Raises:
        ValueError: fewer than two or more than four axes.
    """
    dims = image.GetDimension()
    if dims not in (2, 3, 4):
        raise ValueError(f"an image of {dims} dimensions")
    spatial = min(dims, 3)
    size, direction = image.GetSize(), image.GetDirection()
    plain = ending in PIXEL_ENDINGS
    identity = tuple(float(row == column) for row in range(spatial) for column in range(spatial))
    turned = tuple(direction[row * dims + column] for row in range(spatial) for column in range(spatial))
    return Geometry(
        size=tuple(size[:spatial]),
        spacing=(1.0,) * spatial if plain else tuple(image.GetSpacing()[:spatial]),
        origin=(0.0,) * spatial if plain else tuple(image.GetOrigin()[:spatial]),
        direction=identity if plain else turned,
        channels=components * math.prod(size[spatial:]),
        ending=ending,
    )


def orientation(geometry: Geometry) -> str:
    """Where the axes x, y, z of the file point to, as "RAS" and the like; "2D" for a 2-D image.

    Letters as in nibabel and SimpleITK: R means that x grows towards the patient's right. Of oblique axes the one
    nearest to a direction of the body is named first (as SimpleITK's DICOMOrient does).
    """
    if geometry.ndim == 2:
        return "2D"
    letters = (("L", "R"), ("P", "A"), ("S", "I"))  # SimpleITK's world is LPS
    cosines = {(row, column): geometry.direction[3 * row + column] for row in range(3) for column in range(3)}
    free, code = {0, 1, 2}, {}
    for row, column in sorted(cosines, key=lambda at: (abs(cosines[at]), at), reverse=True):
        if row in free and column not in code:
            free.remove(row)
            code[column] = letters[row][cosines[row, column] < 0]
    return "".join(code[column] for column in range(3))


def differences(one: Geometry, other: Geometry, *, channels: bool = False) -> list[tuple[str, str, str]]:
    """(code, `other` as found, `one` as expected) for each way in which `other` does not lie where `one` does.

    `channels` says that the two are channels of one image, whose code is SEG-D04 whatever differs.
    """
    if one.shape != other.shape or one.ndim != other.ndim:
        code = "SEG-D04" if channels else "SEG-D01"
        return [(code, f"shape {_sizes(other.size)} (x, y, z)", _sizes(one.size))]
    found: list[tuple[str, str, str]] = []
    if {one.ending, other.ending} & set(PIXEL_ENDINGS):
        return found
    pairs = zip(one.spacing, other.spacing, strict=True)
    if not all(math.isclose(a, b, rel_tol=SPACING_TOLERANCE) for a, b in pairs):
        found.append(("SEG-D02", f"spacing {_numbers(other.spacing)} mm", f"{_numbers(one.spacing)} mm"))
    if not _near(one.origin, other.origin, ORIGIN_TOLERANCE * min(one.spacing)):
        found.append(("SEG-D03", f"origin {_numbers(other.origin)} mm", f"{_numbers(one.origin)} mm"))
    if not _near(one.direction, other.direction, DIRECTION_TOLERANCE):
        found.append(("SEG-D03", f"direction {_numbers(other.direction)}", _numbers(one.direction)))
    return [("SEG-D04" if channels else code, *texts) for code, *texts in found]  # type: ignore[misc]


def spacing_record(geometry: Geometry, file: str, severity: Severity = "error") -> Record | None:
    """The fault of a spacing that is no length (SEG-D16)."""
    if all(math.isfinite(value) and value > 0 for value in geometry.spacing):
        return None
    return Record(code="SEG-D16", found=f"spacing {_numbers(geometry.spacing)} mm", expected="positive numbers",
                  advice="Correct the header of the file.", file=file, severity=severity)


def _near(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _sizes(values: Sequence[int]) -> str:
    return "×".join(str(value) for value in values)


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
