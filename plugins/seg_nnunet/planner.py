"""nnU-Net's planner and its residual-encoder presets: from a fingerprint to spacing, patch, batch and network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from attrs import frozen

from seg import Architecture, Configuration, Description, Fingerprint, Plan, option
from seg_nnunet._patch import Preset
from seg_nnunet._reductions import reductions
from seg_nnunet._rules import Choices, plan_by_rules

DEFAULT = Preset(values_2d=85e6, values_3d=560e6, gb=8, data_share=0.05, patient=True)
RESENC_M = Preset(values_2d=135e6, values_3d=680e6, gb=8, data_share=1.0, patient=False)
RESENC_L = Preset(values_2d=380e6, values_3d=2.1e9, gb=24, data_share=1.0, patient=False)
RESENC_XL = Preset(values_2d=560e6, values_3d=3.6e9, gb=40, data_share=1.0, patient=False)

VRAM_HELP = "Device memory in GB that training may use; patch and batch grow with it."
SPACING_HELP = "Spacing (z, y, x) in mm to bring all cases to; empty: decided from the fingerprint."
MIRROR_HELP = "Axes to mirror in training and prediction; auto leaves out left-right where classes have a side."
NORMALIZATION_HELP = "Normalisers, one for all channels or one for each; empty: by the names of the channels."
MIRROR_CHOICES = ("auto", "all", "first_two", "none")
BATCH_HELP = "Samples of a batch, whatever the memory; 0: as many as fit."


@frozen(kw_only=True)
class NnUNetPlanner:
    """nnU-Net's default rules (Isensee et al. 2021), as nnU-Net 2.8 has them."""

    default_architecture: ClassVar[str] = "unet"
    vram_gb: float = option(8.0, VRAM_HELP, ge=0.01)
    spacing: tuple[float, ...] = option((), SPACING_HELP)
    mirroring: str = option("auto", MIRROR_HELP, choices=MIRROR_CHOICES)
    normalization: tuple[str, ...] = option((), NORMALIZATION_HELP)
    batch: int = option(0, BATCH_HELP, ge=0)

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan for `architecture`; see `seg_nnunet._rules.plan_by_rules`."""
        return plan_by_rules(fingerprint, description, architecture, _choices(DEFAULT, self))

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Cheaper forms: a smaller batch, then narrower networks."""
        return reductions(configuration)


@frozen(kw_only=True)
class ResEncMPlanner:
    """The residual-encoder preset M of nnU-Net (Isensee et al. 2024)."""

    default_architecture: ClassVar[str] = "resenc"
    vram_gb: float = option(8.0, VRAM_HELP, ge=0.01)
    spacing: tuple[float, ...] = option((), SPACING_HELP)
    mirroring: str = option("auto", MIRROR_HELP, choices=MIRROR_CHOICES)
    normalization: tuple[str, ...] = option((), NORMALIZATION_HELP)
    batch: int = option(0, BATCH_HELP, ge=0)

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan for `architecture`; see `seg_nnunet._rules.plan_by_rules`."""
        return plan_by_rules(fingerprint, description, architecture, _choices(RESENC_M, self))

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Cheaper forms: a smaller batch, then narrower networks."""
        return reductions(configuration)


@frozen(kw_only=True)
class ResEncLPlanner:
    """The residual-encoder preset L of nnU-Net (Isensee et al. 2024)."""

    default_architecture: ClassVar[str] = "resenc"
    vram_gb: float = option(24.0, VRAM_HELP, ge=0.01)
    spacing: tuple[float, ...] = option((), SPACING_HELP)
    mirroring: str = option("auto", MIRROR_HELP, choices=MIRROR_CHOICES)
    normalization: tuple[str, ...] = option((), NORMALIZATION_HELP)
    batch: int = option(0, BATCH_HELP, ge=0)

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan for `architecture`; see `seg_nnunet._rules.plan_by_rules`."""
        return plan_by_rules(fingerprint, description, architecture, _choices(RESENC_L, self))

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Cheaper forms: a smaller batch, then narrower networks."""
        return reductions(configuration)


@frozen(kw_only=True)
class ResEncXLPlanner:
    """The residual-encoder preset XL of nnU-Net (Isensee et al. 2024)."""

    default_architecture: ClassVar[str] = "resenc"
    vram_gb: float = option(40.0, VRAM_HELP, ge=0.01)
    spacing: tuple[float, ...] = option((), SPACING_HELP)
    mirroring: str = option("auto", MIRROR_HELP, choices=MIRROR_CHOICES)
    normalization: tuple[str, ...] = option((), NORMALIZATION_HELP)
    batch: int = option(0, BATCH_HELP, ge=0)

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan for `architecture`; see `seg_nnunet._rules.plan_by_rules`."""
        return plan_by_rules(fingerprint, description, architecture, _choices(RESENC_XL, self))

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Cheaper forms: a smaller batch, then narrower networks."""
        return reductions(configuration)


def _choices(preset: Preset, planner: NnUNetPlanner | ResEncMPlanner | ResEncLPlanner | ResEncXLPlanner) -> Choices:
    """The preset scaled to the memory that was asked for, and the other options."""
    return Choices(limits=preset.scaled(planner.vram_gb), spacing=planner.spacing, mirroring=planner.mirroring,
                   normalization=planner.normalization, batch=planner.batch)
