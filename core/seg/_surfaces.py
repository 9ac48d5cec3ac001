"""Areas of the surface elements of a mask, and distances between two surfaces.

A surface passes between the voxels: a cell is the cube between 2×2×2 neighbouring voxel centres (the square between
2×2 in two dimensions), its code says which of its corners are inside, and the cells with corners on both sides are the
surface elements. This is the definition of the package surface-distance (Nikolov et al. 2018, arXiv 1809.04430), whose
areas are those of marching cubes (Lorensen and Cline 1987); the table is made here from that rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from math import sqrt

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Point = tuple[int, int, int]  # twice the coordinates in the unit cell, so that midpoints of edges are whole numbers
Triangle = tuple[Point, Point, Point]
CORNERS: tuple[Point, ...] = tuple((2 * z, 2 * y, 2 * x) for z, y, x in product((0, 1), repeat=3))
NEAR_CELLS = 8
FEW = 500  # far queries that a tree answers faster than a map of a large box
CROWDED = 30  # voxels of the box for each query, below which a map is faster


@frozen(eq=False)
class Surface:
    """The surface elements of a mask: cells, int (N, axes), and the area of each, mm² (mm in two dimensions)."""

    cells: NDArray[np.int64]
    areas: NDArray[np.float64]


def surface(mask: NDArray[np.bool_], spacing: Sequence[float]) -> Surface:
    """The surface elements of `mask` (Z, Y, X) or (Y, X). Cell 0 lies before the first voxel."""
    codes = cell_codes(mask)
    border = (codes != 0) & (codes != 2 ** (2**mask.ndim) - 1)
    table = contour_lengths(spacing) if mask.ndim == 2 else surface_areas(spacing)
    return Surface(np.argwhere(border), table[codes[border]])


def cell_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The code of every cell, one more than voxels along each axis: bit i is corner i, in the order of the array."""
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([size + 1 for size in mask.shape], np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        window = tuple(slice(start, start + size + 1) for start, size in zip(corner, mask.shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    return codes


def distances(from_: Surface, to: Surface, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance in mm from each element of one surface to the nearest of the other, which has at least one."""
    scale = np.asarray(spacing, np.float64)
    # from whole steps, so that a distance of exactly the tolerance is not lost to rounding
    steps = (from_.cells - _nearest(from_.cells, to.cells, scale)) * scale
    return np.sqrt((steps**2).sum(axis=1))  # type: ignore[no-any-return]


def _nearest(cells: NDArray[np.int64], others: NDArray[np.int64], scale: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each cell the nearest of the other cells, (N, axes).

    A tree finds near neighbours at once but is slow where thousands are equally far; a map of the whole box costs the
    same for all. So the tree answers for what is near, unless the box is crowded, and the map for the rest.
    """
    from scipy.spatial import cKDTree

    box = np.maximum(cells.max(axis=0), others.max(axis=0)) + 1
    if len(cells) * CROWDED > box.prod():
        return _nearest_by_map(cells, others, scale, box)
    tree = cKDTree(others * scale)
    _, index = tree.query(cells * scale, distance_upper_bound=NEAR_CELLS * scale.max())
    far = np.flatnonzero(index == len(others))  # how the tree says: nothing within the bound
    index[far] = 0
    nearest: NDArray[np.int64] = others[index]
    if len(far) > FEW:
        nearest[far] = _nearest_by_map(cells[far], others, scale, box)
    elif len(far):
        nearest[far] = others[tree.query(cells[far] * scale)[1]]
    return nearest


def _nearest_by_map(
    cells: NDArray[np.int64], others: NDArray[np.int64], scale: NDArray[np.float64], box: NDArray[np.int64],
) -> NDArray[np.int64]:
    from scipy.ndimage import distance_transform_edt

    empty = np.ones(box, bool)
    empty[tuple(others.T)] = False
    lookup = distance_transform_edt(empty, sampling=scale, return_distances=False, return_indices=True)
    return lookup[(slice(None), *cells.T)].T  # type: ignore[no-any-return]


def contour_lengths(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Length in mm of the contour in a cell, for each of 16 codes; `spacing` is (y, x)."""
    vertical, horizontal = spacing
    slanted = sqrt(vertical**2 + horizontal**2) / 2  # cuts one corner off
    by_inside = np.array([0, slanted, 0, slanted, 0])
    lengths = by_inside[[code.bit_count() for code in range(16)]]
    lengths[[0b0011, 0b1100]] = horizontal  # one row inside
    lengths[[0b0101, 0b1010]] = vertical
    lengths[[0b0110, 0b1001]] = 2 * slanted
    return lengths


def surface_areas(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Area in mm² of the surface in a cell, for each of 256 codes; `spacing` is (z, y, x)."""
    z, y, x = spacing
    normals = _normals() * np.array([y * x, z * x, z * y])
    return np.linalg.norm(normals, axis=2).sum(axis=1)  # type: ignore[no-any-return]


@cache
def _normals() -> NDArray[np.float64]:
    """Half the cross product of each triangle of each code at unit spacing, (256, 4, 3), zero where there are fewer."""
    table = np.zeros((256, 4, 3))
    for code in range(256):
        for row, triangle in enumerate(_triangles(code)):
            table[code, row] = _normal(triangle)
    return table


def _triangles(code: int) -> list[Triangle]:
    return [triangle for polygon in _polygons(code) for triangle in _best_cut(polygon)]


def _polygons(code: int) -> list[list[Point]]:
    """The closed lines in which the surface meets the faces of the cell, through the midpoints of its edges.

    Where a face has its two inside corners across a diagonal, the side with fewer corners in the whole cell is kept
    apart, so that a mask and its complement have the same surface.
    """
    inside = {corner for bit, corner in enumerate(CORNERS) if code >> bit & 1}
    apart = inside if len(inside) <= 4 else set(CORNERS) - inside
    neighbours: dict[Point, list[Point]] = {}
    for axis, side in product(range(3), (0, 2)):
        for start, end in _face_lines(axis, side, apart):
            neighbours.setdefault(start, []).append(end)
            neighbours.setdefault(end, []).append(start)
    polygons = []
    while neighbours:
        polygon = [next(iter(neighbours))]
        while step := [point for point in neighbours.pop(polygon[-1]) if point in neighbours]:
            polygon.append(step[0])
        polygons.append(polygon)
    return polygons


def _face_lines(axis: int, side: int, apart: set[Point]) -> list[tuple[Point, Point]]:
    """The lines on one face: each run of neighbouring corners in `apart` is cut off from the others."""
    around = [(0, 0), (0, 2), (2, 2), (2, 0), (0, 0)]
    corners = [(*pair[:axis], side, *pair[axis:]) for pair in around]
    crossings = [_middle(a, b) for a, b in pairwise(corners) if (a in apart) != (b in apart)]
    if len(crossings) == 4 and corners[0] in apart:  # each line goes round a corner that is in `apart`
        crossings = [crossings[3], *crossings[:3]]
    return list(zip(crossings[::2], crossings[1::2], strict=True))


def _middle(a: Sequence[int], b: Sequence[int]) -> Point:
    z, y, x = ((one + other) // 2 for one, other in zip(a, b, strict=True))
    return z, y, x


def _best_cut(polygon: list[Point]) -> list[Triangle]:
    """The triangles a polygon is cut into: those of the largest area, then with the largest triangle.

    This matters for the bent pentagons and hexagons alone, and is what the table of surface-distance amounts to.
    """
    def key(cut: list[Triangle]) -> tuple[float, float]:
        areas = [sqrt(sum(part**2 for part in _normal(triangle))) for triangle in cut]
        return round(sum(areas), 9), round(max(areas), 9)

    return max(_cuts(polygon), key=key)


def _cuts(polygon: list[Point]) -> list[list[Triangle]]:
    """All ways to cut a polygon into triangles between its corners."""
    if len(polygon) < 3:
        return [[]]
    first, last = polygon[0], polygon[-1]
    return [
        [(first, polygon[split], last), *left, *right]
        for split in range(1, len(polygon) - 1)
        for left in _cuts(polygon[: split + 1])
        for right in _cuts(polygon[split:])
    ]


def _normal(triangle: Triangle) -> Point | tuple[float, float, float]:
    a, b, c = triangle
    u, v = [q - p for p, q in zip(a, b, strict=True)], [q - p for p, q in zip(a, c, strict=True)]
    parts = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    z, y, x = (part / 8 for part in parts)  # the coordinates are doubled: 1/4, and half a parallelogram
    return z, y, x
