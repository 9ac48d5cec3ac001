"""Mirrored and brighter or darker patches.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_augmenters() -> Iterable[Offer]:
    """Offer torchio."""
    yield Offer("torchio", "segplug_torchio.augmenter:Torchio",
                "Mirrored and brighter or darker patches.")
