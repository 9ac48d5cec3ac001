"""The Tversky index on the device. B batch, K outputs, then the axes of the patch; the host never waits for it."""

from __future__ import annotations

from seg import Labels, one_hot, region_maps
from torch import Tensor


def tversky_index(
    logits: Tensor, ids: Tensor, labels: Labels, weights: tuple[float, float, float], over_batch: bool
) -> Tensor:
    """TP / (TP + α FP + β FN) of soft maps (Tversky 1977), background left out, 0 to 1.

    Args:
        logits: float32 (B, K, *size).
        ids: int64 (B, *size); the ignore label counts nowhere.
        labels: classes (softmax), or regions (sigmoid).
        weights: α of false positives, β of false negatives, and what is added above and below.
        over_batch: whether voxels of all samples count as those of one.

    Returns:
        float32 (B, foreground), or (foreground,) over the batch.
    """
    valid = (ids != labels.ignore).unsqueeze(1) if labels.ignore is not None else None
    if valid is not None:
        ids = ids * valid.squeeze(1)
    if labels.has_regions:
        found, truth = logits.sigmoid(), region_maps(ids, labels)
    else:
        found, truth = logits.softmax(1)[:, 1:], one_hot(ids, logits.shape[1])[:, 1:]
    if valid is not None:
        found, truth = found * valid, truth * valid
    axes = (*((0,) if over_batch else ()), *range(2, logits.dim()))
    alpha, beta, smooth = weights
    both, ours, theirs = (found * truth).sum(axes), found.sum(axes), truth.sum(axes)
    return (both + smooth) / (both + alpha * (ours - both) + beta * (theirs - both) + smooth)
