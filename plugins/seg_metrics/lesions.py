"""Metrics that count lesions: connected components of a class, where how many are found matters more than voxels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@frozen(kw_only=True)
class LesionF1:
    """F1 of the detection of lesions: 2·TP / (2·TP + FP + FN).

    A lesion is a component of voxels that share a face, an edge or a corner (26 neighbours). TP counts the true lesions
    in which any voxel was predicted, FN the other true ones, FP the predicted lesions without a true voxel. So one
    predicted lesion may find several true ones, and the pieces of a true one count once. This is the lesion-wise F1 of
    the challenge ISLES 2022 (Hernandez Petzsche et al. 2022, arXiv 2206.06694).
    """

    larger_is_better: ClassVar[bool] = True

    def measure(self, truth: Mask, predicted: Mask, spacing: tuple[float, float, float]) -> float | None:
        """The F1 of two masks (Z, Y, X); None where both are empty."""
        from scipy.ndimage import label

        del spacing
        neighbours = np.ones((3, 3, 3), bool)
        true, true_count = label(truth, neighbours)
        found, found_count = label(predicted, neighbours)
        hit = len(np.unique(true[truth & predicted]))
        wrong = found_count - len(np.unique(found[truth & predicted]))
        whole = hit + true_count + wrong  # 2·TP + FN + FP
        return 2 * hit / whole if whole else None
