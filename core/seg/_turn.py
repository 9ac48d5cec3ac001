"""Between a file's array and the same voxels in another orientation: axes swapped and flipped, nothing resampled.

An oblique grid keeps its angles: each axis counts as the direction of the body that it is nearest to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg._geometry import Geometry, orientation
from seg.models import Size3

OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


@frozen(kw_only=True)
class Turn:
    """How an array is turned. By default it is not.

    Axis i (of z, y, x) of the turned array is axis `order[i]` of the array as it lies, backwards where `flipped[i]`.
    """

    order: Size3 = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def forth(self, array: NDArray[Any]) -> NDArray[Any]:
        """The turned form of an array (…, Z, Y, X), as a view of it."""
        turned: NDArray[Any] = _swapped(array, self.order)[self._steps]
        return turned

    def back(self, array: NDArray[Any]) -> NDArray[Any]:
        """What `forth` turned into `array` (…, Z, Y, X), in the usual order of memory."""
        return np.ascontiguousarray(_swapped(array[self._steps], self._inverse))

    def grid(self, geometry: Geometry) -> Geometry:
        """The grid of the turned array: each voxel stays at its place in space."""
        if self == AS_IT_LIES or geometry.ndim == 2:
            return geometry
        axes = [2 - axis for axis in self.order[::-1]]  # of x, y, z
        signs = [-1.0 if back else 1.0 for back in self.flipped[::-1]]
        direction = np.array(geometry.direction).reshape(3, 3)
        steps = direction * geometry.spacing  # mm from voxel to voxel, a column an axis
        ends = [geometry.size[axis] - 1 if sign < 0 else 0 for axis, sign in zip(axes, signs, strict=True)]
        return evolve(
            geometry,
            size=tuple(geometry.size[axis] for axis in axes),
            spacing=tuple(geometry.spacing[axis] for axis in axes),
            origin=tuple((geometry.origin + steps[:, axes] @ ends).tolist()),
            direction=tuple((direction[:, axes] * signs).ravel().tolist()),
        )

    def letters(self, code: str) -> str:
        """The orientation of the turned array, from that of the array as it lies (see `seg.orientation`)."""
        own = code[::-1]
        turned = (OPPOSITE[own[axis]] if back else own[axis]
                  for axis, back in zip(self.order, self.flipped, strict=True))
        return "".join(turned)[::-1]

    @property
    def _steps(self) -> tuple[Any, ...]:
        return (..., *(slice(None, None, -1 if back else 1) for back in self.flipped))

    @property
    def _inverse(self) -> Size3:
        z, y, x = (self.order.index(axis) for axis in range(3))
        return z, y, x


AS_IT_LIES = Turn()


def turn_to(geometry: Geometry, wanted: str) -> Turn:
    """The turn of an array on the grid `geometry` to the orientation `wanted` ("RAS" and the like).

    None where nothing is wanted, and for a 2-D image, which has no orientation.
    """
    if not wanted or geometry.ndim == 2:
        return AS_IT_LIES
    own, letters = orientation(geometry)[::-1], wanted[::-1]  # of z, y, x
    a, b, c = (next(axis for axis, one in enumerate(own) if one in (letter, OPPOSITE[letter])) for letter in letters)
    z, y, x = (own[axis] != letter for axis, letter in zip((a, b, c), letters, strict=True))
    return Turn(order=(a, b, c), flipped=(z, y, x))


def _swapped(array: NDArray[Any], order: Size3) -> NDArray[Any]:
    """`array` (…, Z, Y, X) with its last three axes in another order."""
    first = array.ndim - 3
    return array.transpose(*range(first), *(first + axis for axis in order))
