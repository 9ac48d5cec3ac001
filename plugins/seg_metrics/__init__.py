"""Metrics beside those that are always made: of voxels, of volumes, of lesions, of surfaces."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_metrics() -> Iterable[Offer]:
    """Offer recall, precision, volume error, lesion-wise F1."""
    yield Offer("recall", "seg_metrics.overlap:Recall", "The part of the true voxels that was found.")
    yield Offer("precision", "seg_metrics.overlap:Precision", "The part of the predicted voxels that is true.")
    yield Offer("volume_error", "seg_metrics.overlap:VolumeError", "Difference of the volumes, over the true one.")
    yield Offer("lesion_f1", "seg_metrics.lesions:LesionF1", "F1 over connected components, found by any overlap.")
