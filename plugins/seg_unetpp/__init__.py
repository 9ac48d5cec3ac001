"""UNet++, planned from data at any depth in 2D and 3D."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_architectures() -> Iterable[Offer]:
    """Offer UNet++."""
    yield Offer("unetpp", "seg_unetpp.unetpp:UNetPlusPlus", "Nested U-Net with dense skips (Zhou et al. 2018).")
