"""nnU-Net's rules put together: which configurations a data set gets, and each of them whole."""

from __future__ import annotations

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from seg import Architecture, Configuration, Description, Fingerprint, Plan, Topology
from seg_nnunet._channels import Mirroring, ends_reasons, intensities_reason, masked, mirroring, normalization
from seg_nnunet._patch import Preset, fit
from seg_nnunet._spacing import axis_order, median_shape, order_reason, original_medians, target_spacing
from seg_nnunet._topology import Pooling
from seg_nnunet._words import by, counted, percent

LOWRES_BELOW = 0.25  # a patch that shows less than this share of the median image calls for a coarser configuration
LOWRES_STEP = 1.03  # by which its spacing grows, until the patch shows enough
LOWRES_WORTH = 2  # it must have this many times fewer voxels, else it is not worth training
FULLRES, LOWRES, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"

SAME_FOR_ALL = {
    "order_image": "Cubic splines keep the detail of images, linear ones (order 1) would blur it. Along an axis "
                   "that is 3 times coarser than another, the nearest slice is taken whatever the order.",
    "order_label": "Each class is resampled linearly and the largest share wins. Order 0 would leave steps, cubic "
                   "splines (order 3) overshoot at edges.",
    "order_logits": "Linear, back to the grid of the image: logits are smooth. Cubic splines (order 3) would take more "
                    "time for little.",
    "previous_stage": f"None, for it starts from the image alone; only {CASCADE} starts from another's prediction.",
    "next_stage": f"None, for no configuration starts from its prediction; only that of {LOWRES} is taken further.",
}
"""Reasons that no number of the data set changes."""


@frozen(kw_only=True)
class Choices:
    """What a planner was told: its limits of memory and batch, and its options."""

    limits: Preset
    spacing: tuple[float, ...]
    mirroring: str
    normalization: tuple[str, ...] = ()
    batch: int = 0


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
    batch: int
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
        SegError: a bad override of the spacing or of the normalisers (exit 2), or nothing fits the memory (exit 5).
    """
    spacing, why = target_spacing(fingerprint, choices.spacing)
    order = axis_order(spacing)
    schemes, normalization_reason = normalization(description.channel_names, choices.normalization)
    masks, mask_reason = masked(schemes, fingerprint)
    mirror = mirroring(choices.mirroring, fingerprint, description, order)
    original_spacing, original_shape = original_medians(fingerprint, order)
    shape_reason = (f"The median over {counted(len(fingerprint.cases), 'case')} of round(spacing / new spacing · "
                    f"size), cropped; as the cases are it would be {by(original_shape)}.")
    facts = Facts(
        architecture=architecture, description=description, limits=choices.limits, spacing=spacing[list(order)],
        median=median_shape(fingerprint, spacing)[list(order)], normalization=schemes, use_mask_for_norm=masks,
        mirroring=mirror, batch=choices.batch,
        reasons={"spacing": why, "median_shape": shape_reason, "normalization": normalization_reason,
                 "use_mask_for_norm": mask_reason, "mirror_axes": mirror.reason, **ends_reasons(description),
                 **SAME_FOR_ALL},
    )
    configurations, configurations_reason = _configurations(facts)
    finest = FULLRES if len(configurations) > 1 else "2d"
    original = f"The median of the cases as they are, axes transposed; {finest} takes {{}}."
    return Plan(
        description=description, planner="", architecture="", transpose_forward=order,
        original_median_spacing=original_spacing, original_median_shape=original_shape,
        intensities=fingerprint.intensities, configurations={each.name: each for each in configurations},
        reasons={"transpose_forward": order_reason(order, spacing),
                 "original_median_spacing": original.format(f"{by(facts.spacing)} mm"),
                 "original_median_shape": original.format(f"{by(facts.median)} voxels"),
                 "intensities": intensities_reason(schemes, description, fingerprint),
                 "configurations": configurations_reason},
    )


def _configurations(facts: Facts) -> tuple[list[Configuration], str]:
    """All configurations of the data set, and why these."""
    flat = _flat(facts)
    if facts.median[0] == 1:
        return [flat], "2d alone, for the median image is a single slice; with more of them there would be 3d_fullres."
    full = _configuration(FULLRES, facts, facts.spacing, facts.median, facts.voxels)
    low, why = _lowres(facts, full)
    shown = _shown(full, facts.median)
    if low is None:
        return [flat, _because(full, batch_dice=f"Off without {LOWRES}: {shown}, enough for a Dice loss of each patch. "
                                                f"With {LOWRES} it would be over the batch.")], why
    reason = (f"On with {LOWRES}: {shown}, too little for a Dice loss of each patch, so it is over the batch. "
              f"Without {LOWRES} it would be off.")
    full = _because(evolve(full, batch_dice=True), batch_dice=reason)
    return [flat, low, full, _cascade(full, facts.description)], why


def _flat(facts: Facts) -> Configuration:
    """Slices across the first axis, at full resolution."""
    flat = _configuration("2d", facts, facts.spacing[1:], facts.median[1:], facts.voxels)
    return _because(
        evolve(flat, spacing=_three(facts.spacing), batch_dice=True),
        spacing=f"{flat.reasons['spacing']} Slices are never resampled across, so the first entry is not used.",
        batch_dice=f"On in 2d: a slice shows too little for a Dice loss of its own, so it is over all {flat.batch} of "
                   "a batch. Off, a slice without a class would count as much as one with it.",
    )


def _configuration(
    name: str, facts: Facts, spacing: NDArray[np.float64], median: NDArray[np.float64], voxels: float
) -> Configuration:
    """One configuration at `spacing` (two or three axes), where the median image has `median` voxels."""
    found = fit(spacing.tolist(), median.tolist(), voxels, facts.memory, facts.limits)
    dims, reasons = len(spacing), {**facts.reasons, **found.reasons}
    if facts.batch:
        reasons["batch"] = f"Set by planner.batch={facts.batch}. With 0: {reasons['batch']}"
    return Configuration(
        name=name, spacing=_three(spacing if dims == 3 else facts.spacing), median_shape=tuple(median.tolist()),
        patch=found.patch, batch=facts.batch or found.batch, topology=found.topology, normalization=facts.normalization,
        use_mask_for_norm=facts.use_mask_for_norm, mirror_axes=facts.mirroring.of(dims),
        reasons=reasons,
    )


def _because(configuration: Configuration, **reasons: str) -> Configuration:
    """`configuration` with other reasons for some of its fields."""
    return evolve(configuration, reasons={**configuration.reasons, **reasons})


def _shown(configuration: Configuration, median: NDArray[np.float64]) -> str:
    share = float(np.prod(configuration.patch) / np.prod(median))
    return f"a patch of {by(configuration.patch)} voxels shows {percent(share)} of the median image of {by(median)}"


def _lowres(facts: Facts, full: Configuration) -> tuple[Configuration | None, str]:
    """A coarser configuration whose patch shows a quarter of the median image, where 3d_fullres shows less."""
    spacing, median, low, steps = facts.spacing.copy(), facts.median, full, 0
    while np.prod(low.patch) / np.prod(median) < LOWRES_BELOW:
        ratio = spacing.max() / spacing
        spacing[ratio > 2 if (ratio > 2).any() else slice(None)] *= LOWRES_STEP
        median = facts.spacing / spacing * facts.median
        voxels = float(np.prod(median) * facts.description.training_cases)
        low, steps = _configuration(LOWRES, facts, spacing, np.rint(median), voxels), steps + 1
    shown = f"{_shown(full, facts.median)} at {FULLRES}"
    if low is full:
        return None, f"No {LOWRES}: {shown}, not under {percent(LOWRES_BELOW)}, where a coarser one would be added."
    fewer = float(np.prod(facts.median) / np.prod(median))
    if fewer < LOWRES_WORTH:
        return None, (f"No {LOWRES}: {shown}, under {percent(LOWRES_BELOW)}, but at a spacing that shows enough it "
                      f"would have only {fewer:.2g} times fewer voxels; from {LOWRES_WORTH} on there would be one.")
    why = (f"{shown}, under {percent(LOWRES_BELOW)}, so there is {LOWRES}, with {fewer:.3g} times fewer voxels, and "
           f"the cascade. Not under {percent(LOWRES_BELOW)}, 2d and {FULLRES} would do.")
    return _because(
        evolve(low, next_stage=CASCADE),
        spacing=f"That of {FULLRES}, {by(facts.spacing)} mm, coarsened {steps} times by {percent(LOWRES_STEP - 1)} "
                f"(while an axis is less than half as coarse as the coarsest, such axes alone), until "
                f"{_shown(low, median)}; one step less would show under {percent(LOWRES_BELOW)}.",
        median_shape=f"That of {FULLRES}, {by(facts.median)}, times the ratio of the spacings, rounded.",
        batch_dice=f"Off: {_shown(low, median)}, enough for a Dice loss of each patch. On, it would be over the batch.",
        next_stage=f"{CASCADE} takes its prediction as a further input. Without {LOWRES} there would be no cascade.",
    ), why[0].upper() + why[1:]


def _cascade(full: Configuration, description: Description) -> Configuration:
    """3d_fullres with the prediction of 3d_lowres as further channels, one for each foreground label."""
    labels, channels = description.labels, full.topology.in_channels
    further = len(set(labels.ids) - {0, labels.ignore})
    topology = evolve(full.topology, in_channels=channels + further)
    cascade = evolve(full, name=CASCADE, topology=topology, previous_stage=LOWRES)
    return _because(cascade, **{
        "previous_stage": f"It refines the prediction of {LOWRES}, which shows more of the image at once. All else is "
                          f"that of {FULLRES}, which starts from the image alone.",
        "topology.in_channels": f"{counted(channels, 'channel')} of the image, and one for each label that {LOWRES} "
                                f"predicts ({further}); {FULLRES} has the image alone.",
    })


def _three(spacing: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = spacing.tolist()
    return z, y, x
