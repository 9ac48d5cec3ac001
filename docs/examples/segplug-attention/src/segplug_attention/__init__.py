"""A U-Net with attention gates.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_architectures() -> Iterable[Offer]:
    """Offer the attention U-Net."""
    yield Offer("attention", "segplug_attention.architecture:Attention",
                "A U-Net whose skips are weighed by attention gates (Oktay et al. 2018).")
