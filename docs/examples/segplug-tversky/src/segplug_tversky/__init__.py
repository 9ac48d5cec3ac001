"""Tversky losses, for small structures.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_losses() -> Iterable[Offer]:
    """Offer both losses."""
    yield Offer("tversky", "segplug_tversky.loss:Tversky",
                "1 minus the Tversky index: what is missed weighs more than what is too much (Salehi et al. 2017).")
    yield Offer("focal_tversky", "segplug_tversky.loss:FocalTversky",
                "The Tversky loss to a power: classes that are still bad weigh more (Abraham and Khan 2019).")
