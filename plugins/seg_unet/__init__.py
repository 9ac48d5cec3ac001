"""U-Net, planned from data at any depth in 2D and 3D."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_architectures() -> Iterable[Offer]:
    """Offer the plain U-Net."""
    yield Offer("unet", "seg_unet.unet:UNet", "Encoder-decoder with skips, as nnU-Net builds it (Ronneberger 2015).")
