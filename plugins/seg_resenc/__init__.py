"""The residual-encoder U-Net of nnU-Net's ResEnc presets."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_architectures() -> Iterable[Offer]:
    """Offer the residual-encoder U-Net."""
    yield Offer("resenc", "seg_resenc.resenc:ResEncUNet", "U-Net with a residual encoder (Isensee et al. 2024).")
