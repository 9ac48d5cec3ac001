"""Metrics that count voxels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]


@frozen(kw_only=True)
class Recall:
    """The part of the true voxels that was predicted, TP / (TP + FN); also called sensitivity."""

    larger_is_better: ClassVar[bool] = True

    def measure(self, truth: Mask, predicted: Mask, spacing: Spacing) -> float | None:
        """Recall of two masks (Z, Y, X); None where nothing is true."""
        del spacing
        return _part(truth & predicted, truth)


@frozen(kw_only=True)
class Precision:
    """The part of the predicted voxels that is true, TP / (TP + FP)."""

    larger_is_better: ClassVar[bool] = True

    def measure(self, truth: Mask, predicted: Mask, spacing: Spacing) -> float | None:
        """Precision of two masks (Z, Y, X); None where nothing is predicted."""
        del spacing
        return _part(truth & predicted, predicted)


@frozen(kw_only=True)
class VolumeError:
    """How far the predicted volume is from the true one, in parts of that: |P - T| / T, so without a sign.

    With a sign, cases that are too large would make up in the mean for cases that are too small.
    """

    larger_is_better: ClassVar[bool] = False

    def measure(self, truth: Mask, predicted: Mask, spacing: Spacing) -> float | None:
        """The relative error of the volume of two masks (Z, Y, X); None where nothing is true."""
        del spacing
        true, found = int(np.count_nonzero(truth)), int(np.count_nonzero(predicted))
        return abs(found - true) / true if true else None


def _part(inner: Mask, outer: Mask) -> float | None:
    whole = int(np.count_nonzero(outer))
    return int(np.count_nonzero(inner)) / whole if whole else None
