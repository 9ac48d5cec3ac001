"""A generated data set in nnU-Net's layout, to try a pipeline on: small, and hard where pipelines go wrong.

Each case has an organ with a lobed outline, and in it bright balls of two sizes. A ball is a tumour if its radius is
6 to 7 mm; others look the same and belong to the organ. Images of fine voxels have smaller others, images of coarse
voxels larger ones, chosen so that in voxels both kinds of image look alike with the roles of the two sizes exchanged;
all else, blur and field of view too, scales with the voxels. So a pipeline that loses the spacing cannot tell tumours
from other balls. Grids are oblique, there are two scanners of different intensities, noise and a bias field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg._guard import save
from seg.convert import write_json
from seg.errors import usage_error
from seg.files import whole_file
from seg.models import Size3, Spacing3
from seg.progress import Progress, Silent

LABELS = {"background": 0, "organ": 1, "tumour": 2}
BACKGROUND, ORGAN, BALL = 0.25, 0.55, 0.85  # intensities, before the scanner
TUMOUR_MM = (6.2, 7.0)  # radii
SMALL_MM, LARGE_MM = (3.3, 3.8), (11.6, 13.2)  # of the other balls, where voxels are fine and where they are coarse
NODE_VOXELS = (3.5, 5.0)  # radii of bodies outside that look like organ
ORGAN_FRACTION = (0.32, 0.38)  # radii of the organ, of the field of view
FINE_MM, COARSE_MM = (0.8, 0.88), (1.5, 1.65)  # in plane
THROUGH_PLANE = (1.5, 1.9)  # times as much
IN_PLANE_VOXELS = (44, 52)
THROUGH_PLANE_VOXELS = (26, 34)
FLAT_PIXELS = (96, 128)  # a 2-D image
EDGE_VOXELS = 0.9  # over which one intensity becomes the other
NOISE = 0.05
SCANNERS = ((1000.0, 100.0, 1.0), (400.0, 20.0, 1.4))  # scale, offset, gamma
GREY_SCANNERS = ((200.0, 20.0, 1.0), (150.0, 60.0, 1.4))


@frozen(eq=False)
class _Body:
    """An ellipsoid with lobes: its surface lies at 1 + Σ amplitude · cos(wave · direction + phase) radii."""

    centre: NDArray[np.float32]  # mm (z, y, x)
    radii: NDArray[np.float32]
    intensity: float
    label: int
    waves: NDArray[np.float32]  # (waves, 3)
    phases: NDArray[np.float32]
    amplitude: float = 0.0

    def depth(self, points: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """How far inside each point lies, of the radius: 1 at the centre, 0 on the surface, below outside.

        `points` are the coordinates in mm along z, y and x, which broadcast against each other.
        """
        along = [(points[axis] - self.centre[axis]) / self.radii[axis] for axis in range(3)]
        distance = np.sqrt(sum(part**2 for part in along)) + np.float32(1e-6)
        surface = np.float32(1.0)
        if self.amplitude:
            for wave, phase in zip(self.waves, self.phases, strict=True):
                turn = sum(part * size for part, size in zip(along, wave, strict=True)) / distance
                surface = surface + np.float32(self.amplitude) * np.cos(turn + phase)
        depth: NDArray[np.float32] = surface - distance
        return depth


@frozen(kw_only=True)
class _Grid:
    """The voxels of one case, (z, y, x); `grow` scales all lengths of the balls."""

    shape: Size3
    spacing: Spacing3
    grow: float = 1.0

    @property
    def extent(self) -> NDArray[np.float32]:
        """The field of view in mm; none across a 2-D image."""
        full = np.array(self.shape, np.float32) * np.array(self.spacing, np.float32)
        return np.where(np.array(self.shape) == 1, 0, full)

    def axis(self, number: int) -> NDArray[np.float32]:
        """Coordinates in mm along one axis, 0 in the middle."""
        size = self.shape[number]
        return ((np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) * np.float32(self.spacing[number]))


def write_phantom(
    folder: Path,
    *,
    cases: int = 24,
    dims: int = 3,
    seed: int = 0,
    shape: tuple[int, ...] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a generated data set in nnU-Net's layout: NIfTI volumes, or 8-bit PNG images for two dimensions.

    The same arguments give the same voxels; case n does not depend on how many there are.

    Args:
        folder: where to; made if it is not there.
        cases: how many.
        dims: two or three spatial axes.
        seed: root of all random numbers.
        shape: voxels of every case, (z, y, x) or (y, x); the balls grow with it. None: small sizes that differ.
        progress: is told of each case.

    Raises:
        SegError: `shape` does not fit `dims`, or the folder holds images of something else (exit 2); the folder cannot
            be written (exit 5).
    """
    progress = progress or Silent()
    if dims not in (2, 3) or (shape is not None and (len(shape) != dims or min(shape) < 8)):
        raise usage_error(f"shape {shape} in {dims} dimensions", expected="two or three dimensions of 8 voxels or more")
    names = [f"phantom_{index:03d}" for index in range(cases)]
    ending = ".png" if dims == 2 else ".nii.gz"
    _refuse_strangers(folder, {f"{name}{part}{ending}" for name in names for part in ("", "_0000")})
    progress.start("phantom", cases)
    for index, name in enumerate(names):
        rng = np.random.default_rng([seed, index])
        grid = _draw_grid(rng, shape, dims)
        image, label = _render(rng, grid, flat=dims == 2)
        direction = _rotation(rng) if dims == 3 else np.eye(2)
        _write(folder / "imagesTr" / f"{name}_0000{ending}", image, grid, direction)
        _write(folder / "labelsTr" / f"{name}{ending}", label, grid, direction)
        progress.advance()
    write_json(folder / "dataset.json", {
        "name": "Phantom",
        "description": f"generated: seed {seed}, {cases} cases",
        "channel_names": {"0": "grey" if dims == 2 else "MR"},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ending,
    })


def _refuse_strangers(folder: Path, expected: set[str]) -> None:
    found = [path.name for part in ("imagesTr", "labelsTr") for path in (folder / part).glob("[!.]*")]
    strange = sorted(set(found) - expected)
    if strange:
        raise usage_error(f"the folder holds {len(strange)} other files, {strange[0]} the first", file=str(folder),
                          advice="Choose an empty folder.")


def _draw_grid(rng: np.random.Generator, shape: tuple[int, ...] | None, dims: int) -> _Grid:
    """Size and spacing, drawn independently: the number of voxels says nothing about their size."""
    if dims == 2:
        y, x = shape or rng.integers(*FLAT_PIXELS, 2, endpoint=True).tolist()
        return _Grid(shape=(1, y, x), spacing=(1.0, 1.0, 1.0), grow=min(shape or FLAT_PIXELS) / 70)
    in_plane = round(float(rng.uniform(*(FINE_MM, COARSE_MM)[rng.integers(2)])), 3)
    spacing = (round(in_plane * float(rng.uniform(*THROUGH_PLANE)), 3), in_plane, in_plane)
    if shape is not None:
        z, y, x = shape
        return _Grid(shape=(z, y, x), spacing=spacing, grow=min(shape) / 48)
    z = int(rng.integers(*THROUGH_PLANE_VOXELS, endpoint=True))
    y, x = rng.integers(*IN_PLANE_VOXELS, 2, endpoint=True).tolist()
    return _Grid(shape=(z, y, x), spacing=spacing)


def _draw_bodies(rng: np.random.Generator, grid: _Grid) -> list[_Body]:
    """The organ, then everything that lies in or beside it, none touching another."""
    flat = grid.shape[0] == 1
    radii = np.where(grid.extent > 0, grid.extent * rng.uniform(*ORGAN_FRACTION, 3), 1e6)
    organ = _body(rng, np.zeros(3), radii, ORGAN, "organ", lobes=5)
    in_plane = grid.spacing[2]
    others = SMALL_MM if in_plane <= FINE_MM[1] or flat else LARGE_MM
    node = (NODE_VOXELS[0] * in_plane, NODE_VOXELS[1] * in_plane)
    kinds = [("tumour", TUMOUR_MM, BALL, True), ("organ", others, BALL, True)] * 2
    if others is LARGE_MM:
        kinds.sort(key=lambda kind: -kind[1][0])  # the larger first, for which there is less room
    kinds += [("background", node, ORGAN, False)] * 2
    bodies = [organ]
    for label, sizes, intensity, inside in kinds:
        radius = float(rng.uniform(*sizes)) * grid.grow
        centre = _place(rng, grid, bodies, radius, inside=inside)
        if centre is not None:
            bodies.append(_body(rng, centre, np.full(3, radius), intensity, label, lobes=0 if flat else 2))
    return bodies


def _body(
    rng: np.random.Generator, centre: NDArray[np.floating], radii: NDArray[np.floating], intensity: float, label: str,
    *, lobes: int,
) -> _Body:
    waves = rng.normal(size=(lobes, 3)) * 3
    return _Body(centre.astype(np.float32), radii.astype(np.float32), intensity, LABELS[label],
                 waves.astype(np.float32), rng.uniform(0, 2 * math.pi, lobes).astype(np.float32),
                 0.04 if lobes > 2 else 0.02)


def _place(
    rng: np.random.Generator, grid: _Grid, bodies: list[_Body], radius: float, *, inside: bool,
) -> NDArray[np.float32] | None:
    """A centre where a ball lies in the organ (it may bulge out a little) or clear of it; None if none is found."""
    organ, others = bodies[0], bodies[1:]
    room = np.maximum(grid.extent / 2 - radius * 1.1, 0)
    for _ in range(300):
        centre = (rng.uniform(-1, 1, 3) * room).astype(np.float32)
        margin = float(organ.depth([np.atleast_1d(part) for part in centre])[0]) * float(organ.radii.min())
        fits = margin > 0.6 * radius if inside else margin < -1.3 * radius
        gaps = [np.linalg.norm(centre - other.centre) - other.radii[0] - radius for other in others]
        if fits and all(gap > 1.5 * grid.spacing[2] for gap in gaps):
            return centre
    return None


def _render(
    rng: np.random.Generator, grid: _Grid, *, flat: bool,
) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    """Image and label map (Z, Y, X), one slice after another, so that large volumes need little memory."""
    bodies = _draw_bodies(rng, grid)
    scale, offset, gamma = (GREY_SCANNERS if flat else SCANNERS)[rng.integers(2)]
    bias, phase = rng.uniform(-2, 2, 3) / np.maximum(grid.extent, 1), rng.uniform(0, 2 * math.pi)
    kind, top = (np.uint8, 255) if flat else (np.int16, 32767)
    image, label = np.empty(grid.shape, kind), np.zeros(grid.shape, np.uint8)
    y, x = grid.axis(1)[:, None], grid.axis(2)[None, :]
    for index, z in enumerate(grid.axis(0)):
        value = _paint(bodies, (z, y, x), label[index], EDGE_VOXELS * grid.spacing[2])
        value *= 1 + 0.15 * np.cos(bias[0] * z + bias[1] * y + bias[2] * x + phase, dtype=np.float32)
        value = np.maximum(value, 0) ** np.float32(gamma)
        value += np.float32(NOISE) * rng.standard_normal(value.shape, np.float32)
        image[index] = np.clip(np.rint(value * np.float32(scale) + np.float32(offset)), 0, top)
    return image, label


def _paint(
    bodies: list[_Body], points: tuple[np.float32, NDArray[np.float32], NDArray[np.float32]], label: NDArray[np.uint8],
    edge: float,
) -> NDArray[np.float32]:
    """The intensities (Y, X) of one slice; its labels are written into `label`. Later bodies cover earlier ones.

    `edge` is over how many mm one intensity becomes the other.
    """
    z, y, x = points
    value = np.full(label.shape, BACKGROUND, np.float32)
    for body in bodies:
        reach = body.radii * 1.3 + edge
        if abs(z - body.centre[0]) > reach[0]:
            continue
        rows = np.flatnonzero(np.abs(y[:, 0] - body.centre[1]) <= reach[1])
        columns = np.flatnonzero(np.abs(x[0] - body.centre[2]) <= reach[2])
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        depth = body.depth([np.asarray(z), y[window[0]], x[:, window[1]]])
        weight = np.clip(0.5 + depth * body.radii[1:].mean() / edge, 0, 1)
        value[window] += weight * (body.intensity - value[window])
        label[window][depth > 0] = body.label
    return value


def _rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Direction cosines of an oblique grid: up to 30° about an axis of any direction (Rodrigues' formula)."""
    z, y, x = axis = rng.normal(size=3)
    z, y, x = axis / np.linalg.norm(axis)
    angle = math.radians(rng.uniform(-30, 30))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross  # type: ignore[no-any-return]


def _write(path: Path, array: NDArray[np.integer], grid: _Grid, direction: NDArray[np.float64]) -> None:
    import SimpleITK

    image: Any = SimpleITK.GetImageFromArray(array if len(direction) == 3 else array[0])
    image.SetSpacing(grid.spacing[::-1][: len(direction)])
    image.SetDirection(direction.ravel().tolist())
    with whole_file(path) as temporary:
        save(image, temporary, compression=1)
