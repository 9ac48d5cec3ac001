"""What a program needs that runs the networks without seg: numbers, names, and the steps in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict

from seg import Configuration, Model

STEPS = (
    "Read the image as (C, Z, Y, X), one channel for each of `channels`, turned to `orientation` if that is not empty; "
    "x, y, z grow to the sides that its letters name, and Z is the slowest axis of the array.",
    "Transpose the three spatial axes by `transpose_forward`; spacings, patches and axes below are in that order.",
    "Crop to the bounding box of what is not zero in any channel, holes filled.",
    "Normalise each channel as `normalization` says, at the image's own spacing; `inside_only` has mean and deviation "
    "of the non-zero region, and leaves the rest at zero.",
    "Resample to `spacing` (mm), rounding sizes: splines of `order_image` in each axis; where one axis is more than 3 "
    "times coarser than the others, the nearest slice along it. A 2-D configuration keeps its first axis.",
    "Pad with zeros to the patch at least; slide it by at most `step` of its size; weigh the logits of each tile by a "
    "Gaussian of an eighth of the patch, add them up, divide by the sum of the weights.",
    "Average each tile over its mirror images along every subset of `mirror_axes` (axes of the patch), and over all "
    "networks of the configuration (the folds), as logits.",
    "Resample the logits to the cropped image's size (linear); apply `activation`; with several `chosen` configurations "
    "average their probabilities as the ensembler says. Undo crop (outside is background) and transposition.",
    "With softmax take the largest of the `outputs`; with sigmoid set, in their order, the voxels of each output above "
    "0.5 to its `writes`. Then write `file_values`, and do `postprocessing`.",
)


def describe(model: Model, networks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """All of it, as plain data; `networks` has the files of each configuration."""
    told = model.description
    plan, labels = told.plan, told.plan.description.labels
    return {
        "format": 1,
        "made_by": told.made_by,
        "model_digest": model.digest,
        "steps": STEPS,
        "channels": plan.description.channel_names,
        "orientation": plan.description.orientation,
        "transpose_forward": plan.transpose_forward,
        "labels": labels.values,
        "outputs": _outputs(model),
        "activation": "sigmoid" if labels.has_regions else "softmax",
        "file_values": {str(each): labels.file_value(each) for each in labels.ids},
        "chosen": told.chosen,
        "ensembler": asdict(told.ensembler),
        "postprocessing": told.postprocessing,
        "postprocessor": asdict(told.postprocessor) if told.postprocessor and told.postprocessing else None,
        "configurations": {name: _configuration(model, told.configurations[name]) | {"networks": list(files)}
                           for name, files in networks.items()},
    }


def _outputs(model: Model) -> list[dict[str, Any]]:
    """What each output of the network stands for, and what is written where it wins."""
    labels = model.description.plan.description.labels
    found = [{"name": name, "ids": ids, "writes": ids[0]} for name, ids in labels.foreground.items()]
    if not labels.has_regions:
        return [{"name": "background", "ids": (0,), "writes": 0}, *sorted(found, key=lambda each: each["writes"])]
    return [{**each, "writes": written} for each, written in zip(found, labels.regions_class_order, strict=True)]


def _configuration(model: Model, configuration: Configuration) -> dict[str, Any]:
    intensities = model.description.plan.intensities
    channels = []
    for number, name in enumerate(configuration.normalization):
        use = model.normalisers.uses[name]
        statistics = asdict(intensities[number]) if model.normalisers.built[name].uses_intensities else None
        channels.append({"name": name, "of": f"{use.distribution} {use.version}", "options": use.options,
                         "inside_only": configuration.use_mask_for_norm[number], "intensities": statistics})
    return {
        "dims": configuration.dims, "spacing": configuration.spacing, "patch": configuration.patch,
        "step": model.options.step, "order_image": configuration.order_image,
        "order_logits": configuration.order_logits,
        "mirror_axes": configuration.mirror_axes if model.options.mirroring else (),
        "normalization": channels,
        "previous_stage": configuration.previous_stage,  # its labels are further channels, one for each but background
    }
