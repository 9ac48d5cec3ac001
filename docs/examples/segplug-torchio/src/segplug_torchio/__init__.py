"""Augmentation by TorchIO.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_augmenters() -> Iterable[Offer]:
    """Offer TorchIO's transforms."""
    yield Offer("torchio", "segplug_torchio.augmenter:TorchIO",
                "TorchIO's transforms: affine, flips, noise, blur, gamma, bias field.")
