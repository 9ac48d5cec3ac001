"""nnU-Net's rules (Isensee et al. 2021).

Fingerprint, planner and its presets, normalisers, sampler, augmenter, loss, recipe, ensembler, post-processor.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_fingerprinters() -> Iterable[Offer]:
    """Offer nnU-Net's fingerprint."""
    yield Offer("nnunet", "seg_nnunet.fingerprint:NnUNetFingerprinter", "Shapes, spacings, foreground intensities.")


@hookimpl
def seg_planners() -> Iterable[Offer]:
    """Offer nnU-Net's planner and its residual-encoder presets."""
    yield Offer("nnunet", "seg_nnunet.planner:NnUNetPlanner", "nnU-Net's default rules, for 8 GB.")
    yield Offer("resenc_m", "seg_nnunet.planner:ResEncMPlanner", "nnU-Net's ResEnc M preset, for 8 GB.")
    yield Offer("resenc_l", "seg_nnunet.planner:ResEncLPlanner", "nnU-Net's ResEnc L preset, for 24 GB.")
    yield Offer("resenc_xl", "seg_nnunet.planner:ResEncXLPlanner", "nnU-Net's ResEnc XL preset, for 40 GB.")


@hookimpl
def seg_normalisers() -> Iterable[Offer]:
    """Offer nnU-Net's normalisers."""
    where = "seg_nnunet.normalisers"
    yield Offer("ct", f"{where}:CTNormaliser", "Clipped and scaled by the foreground of the whole data set.")
    yield Offer("zscore", f"{where}:ZScoreNormaliser", "Mean 0 and spread 1 of each image.")
    yield Offer("none", f"{where}:NoNormaliser", "As it is.")
    yield Offer("rescale_to_0_1", f"{where}:RescaleNormaliser", "From the least and the largest value to 0 and 1.")
    yield Offer("rgb_to_0_1", f"{where}:RGBNormaliser", "From 0 and 255 to 0 and 1.")


@hookimpl
def seg_samplers() -> Iterable[Offer]:
    """Offer nnU-Net's sampler."""
    yield Offer("nnunet", "seg_nnunet.sampler:NnUNetSampler", "A third of each batch centred on foreground.")


@hookimpl
def seg_augmenters() -> Iterable[Offer]:
    """Offer nnU-Net's augmentation."""
    yield Offer("nnunet", "seg_nnunet.augmenter:NnUNetAugmenter", "Rotation, scaling, noise, blur, gamma, mirroring.")


@hookimpl
def seg_ensemblers() -> Iterable[Offer]:
    """Offer nnU-Net's choice of configurations."""
    yield Offer("nnunet", "seg_nnunet.ensembler:NnUNetEnsembler", "The best configuration, or the best pair.")


@hookimpl
def seg_postprocessors() -> Iterable[Offer]:
    """Offer nnU-Net's post-processing."""
    yield Offer("nnunet", "seg_nnunet.postprocessor:NnUNetPostprocessor",
                "Only the largest component, of all foreground and of each class, where that raises the Dice.")


@hookimpl
def seg_losses() -> Iterable[Offer]:
    """Offer nnU-Net's loss."""
    yield Offer("dice_ce", "seg_nnunet.loss:DiceCrossEntropy", "Dice plus cross-entropy, their weights, top-k.")


@hookimpl
def seg_recipes() -> Iterable[Offer]:
    """Offer nnU-Net's recipe."""
    yield Offer("nnunet", "seg_nnunet.recipe:NnUNetRecipe", "SGD with a falling rate, for long trainings; Adam too.")
