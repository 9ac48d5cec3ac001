"""nnU-Net's rules put together: which configurations a data set gets, and each of them whole."""

from __future__ import annotations

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg import Architecture, Configuration, Description, Fingerprint, Plan, Topology
from seg_nnunet._channels import Mirroring, masked, mirroring, normalization
from seg_nnunet._patch import Preset, fit
from seg_nnunet._spacing import axis_order, median_shape, original_medians, target_spacing
from seg_nnunet._topology import Pooling

LOWRES_BELOW = 0.25  # a patch that shows less than this share of the median image calls for a coarser configuration
LOWRES_STEP = 1.03  # by which its spacing grows, until the patch shows enough
LOWRES_WORTH = 2  # it must have this many times fewer voxels, else it is not worth training
FULLRES, LOWRES, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"


@frozen(kw_only=True)
class Choices:
    """What a planner was told: its limits of memory and batch, and its options."""

    limits: Preset
    spacing: tuple[float, ...]
    mirroring: str


@frozen(kw_only=True)
class Facts:
    """What all configurations of a plan share. `spacing` and `median` are those of full resolution, transposed."""

    architecture: Architecture
    description: Description
    limits: Preset
    spacing: NDArray[np.float64]
    median: NDArray[np.float64]
    normalization: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    mirroring: Mirroring
    reasons: dict[str, str]

    @property
    def voxels(self) -> float:
        """Voxels of the whole data set at full resolution, as the data set itself counts its cases."""
        return float(np.prod(self.median) * self.description.training_cases)

    def memory(self, found: Pooling) -> tuple[Topology, int]:
        """The architecture's network for a pooling, and how many values its feature maps hold.

        Every name in the data set's labels counts as a class: background, regions and ignore too (nnU-Net 2.8).
        """
        channels, labels = len(self.description.channel_names), self.description.labels
        topology = self.architecture.topology(found.kernels, found.strides, channels, labels.outputs)
        names = len(labels.values) + (0 not in labels.values.values())
        return topology, self.architecture.feature_map_size(topology, found.patch, names)


def plan_by_rules(
    fingerprint: Fingerprint, description: Description, architecture: Architecture, choices: Choices
) -> Plan:
    """The plan of a data set by nnU-Net's rules; from `transpose_forward` on, axes are transposed.

    Raises:
        SegError: a bad override of the spacing (exit 2), or nothing fits the memory (exit 5).
    """
    spacing, why = target_spacing(fingerprint, choices.spacing)
    order = axis_order(spacing)
    first = "zyx"[order[0]]
    schemes, normalization_reason = normalization(description.channel_names)
    masks, mask_reason = masked(schemes, fingerprint)
    mirror = mirroring(choices.mirroring, fingerprint, description, order)
    facts = Facts(
        architecture=architecture, description=description, limits=choices.limits, spacing=spacing[list(order)],
        median=median_shape(fingerprint, spacing)[list(order)], normalization=schemes, use_mask_for_norm=masks,
        mirroring=mirror,
        reasons={"spacing": why, "normalization": normalization_reason, "use_mask_for_norm": mask_reason,
                 "mirror_axes": mirror.reason},
    )
    configurations, configurations_reason = _configurations(facts)
    original_spacing, original_shape = original_medians(fingerprint, order)
    return Plan(
        description=description, planner="", architecture="", transpose_forward=order,
        original_median_spacing=original_spacing, original_median_shape=original_shape,
        intensities=fingerprint.intensities, configurations={each.name: each for each in configurations},
        reasons={"transpose_forward": f"The axis of the largest target spacing comes first: {first} of the files, "
                                      f"{spacing[order[0]]:g} mm.",
                 "configurations": configurations_reason},
    )


def _configurations(facts: Facts) -> tuple[list[Configuration], str]:
    """All configurations of the data set, and why these."""
    flat = _flat(facts)
    if facts.median[0] == 1:
        return [flat], "2d alone: the median image is a single slice."
    full = _configuration(FULLRES, facts, facts.spacing, facts.median, facts.voxels)
    low, why = _lowres(facts, full)
    if low is None:
        reason = "Without 3d_lowres: one loss over the batch is not needed where a patch shows most of the image."
        full = evolve(full, reasons={**full.reasons, "batch_dice": reason})
        return [flat, full], why
    reason = "With 3d_lowres: a patch shows little of the image, so the Dice loss is taken over the batch as a whole."
    full = evolve(full, batch_dice=True, reasons={**full.reasons, "batch_dice": reason})
    return [flat, low, full, _cascade(full, facts.description)], why


def _flat(facts: Facts) -> Configuration:
    """Slices across the first axis, at full resolution."""
    flat = _configuration("2d", facts, facts.spacing[1:], facts.median[1:], facts.voxels)
    spacing = _three(facts.spacing)
    why = "A slice shows too little for a Dice loss of its own, so it is taken over the batch."
    return evolve(flat, spacing=spacing, batch_dice=True, reasons={**flat.reasons, "batch_dice": why})


def _configuration(
    name: str, facts: Facts, spacing: NDArray[np.float64], median: NDArray[np.float64], voxels: float
) -> Configuration:
    """One configuration at `spacing` (two or three axes), where the median image has `median` voxels."""
    found = fit(spacing.tolist(), median.tolist(), voxels, facts.memory, facts.limits)
    dims = len(spacing)
    return Configuration(
        name=name, spacing=_three(spacing if dims == 3 else facts.spacing), median_shape=tuple(median.tolist()),
        patch=found.patch, batch=found.batch, topology=found.topology, normalization=facts.normalization,
        use_mask_for_norm=facts.use_mask_for_norm, mirror_axes=facts.mirroring.of(dims),
        reasons={**facts.reasons, "median_shape": "The median over the cases of their shape at this spacing, cropped.",
                 "order_image": "Cubic splines keep the detail of images; labels and logits are resampled linearly.",
                 **found.reasons},
    )


def _lowres(facts: Facts, full: Configuration) -> tuple[Configuration | None, str]:
    """A coarser configuration whose patch shows a quarter of the median image, where 3d_fullres shows less."""
    spacing, median, low = facts.spacing.copy(), facts.median, full
    shown = np.prod(full.patch) / np.prod(median)
    while np.prod(low.patch) / np.prod(median) < LOWRES_BELOW:
        ratio = spacing.max() / spacing
        spacing[ratio > 2 if (ratio > 2).any() else slice(None)] *= LOWRES_STEP
        median = facts.spacing / spacing * facts.median
        voxels = float(np.prod(median) * facts.description.training_cases)
        low = _configuration(LOWRES, facts, spacing, np.rint(median), voxels)
    share = f"a patch of 3d_fullres shows {shown:.0%} of the median image"
    if low is full:
        return None, f"No 3d_lowres: {share}, not under {LOWRES_BELOW:.0%}."
    fewer = np.prod(facts.median) / np.prod(median)
    if fewer < LOWRES_WORTH:
        return None, f"No 3d_lowres: {share}, but it would have only {fewer:.1f} times fewer voxels."
    why = f"Coarsened in steps of 3 % until a patch showed {LOWRES_BELOW:.0%} of the median image."
    dice = "The Dice loss of each patch alone: a patch shows a large part of the image."
    stage = "3d_cascade_fullres takes its prediction as a further input."
    reasons = {**low.reasons, "spacing": why, "batch_dice": dice, "next_stage": stage}
    low = evolve(low, next_stage=CASCADE, reasons=reasons)
    return low, f"3d_lowres and the cascade: {share}, under {LOWRES_BELOW:.0%}."


def _cascade(full: Configuration, description: Description) -> Configuration:
    """3d_fullres with the prediction of 3d_lowres as further channels, one for each foreground label."""
    labels = description.labels
    further = len(set(labels.ids) - {0, labels.ignore})
    topology = evolve(full.topology, in_channels=full.topology.in_channels + further)
    why = f"Refines the prediction of 3d_lowres, given as {further} further channels."
    return evolve(full, name=CASCADE, topology=topology, previous_stage=LOWRES,
                  reasons={**full.reasons, "previous_stage": why})


def _three(spacing: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = spacing.tolist()
    return z, y, x
