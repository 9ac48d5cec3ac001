"""What a program needs that runs the networks without seg: numbers, names, and the steps in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict

from seg import Configuration

if TYPE_CHECKING:
    from seg import Model

STEPS = """
Read the image as (C, Z, Y, X), one channel for each of `channels`; x, y and z grow to the sides that the letters of
`orientation` name, or lie as in the file where it is empty.

Transpose the spatial axes by `transpose_forward`. Spacings, patches and axes below are in that order.

Crop to the bounding box of what is not zero in any channel, holes filled.

Normalise each channel as its entry in `normalization` says, by its name and `intensities`. With `inside_only`, mean and
deviation are of the non-zero region, and what is outside of it stays as it is.

Resample from the image's own spacing to `spacing` (mm) by splines of `order_image`; where the spacings of one grid
differ more than threefold, take the nearest slice along the thickest axis. With 2 `dims` the slices stay as they are.

Pad with zeros to the `patch` at least. Run the networks on tiles of the patch, at most `step` of it apart, and take the
mean of the logits, weighted by a Gaussian around the middle of each tile (its deviation is an eighth of the patch).

Each tile is the mean over its mirror images along every subset of `mirror_axes` (axes of the patch), and over all
`networks`, which are the folds.

Resample the logits to the size of the cropped image (`order_logits`). Of several `chosen` configurations, combine the
probabilities (`activation`) as the ensembler does.

With softmax, a voxel gets what the largest of the `outputs` writes. With sigmoid, each output in its order writes where
it is over 0.5. Outside of the crop is background. Undo the transposition.

Do the `postprocessing`, then put `file_values` in place of the ids.
"""


def describe(model: Model, networks: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """All of it, as plain data; `networks` has the files of each configuration."""
    told = model.description
    plan, labels = told.plan, told.plan.description.labels
    return {
        "format": 1,
        "made_by": told.made_by,
        "model_digest": model.digest,
        "steps": [" ".join(step.split()) for step in STEPS.strip().split("\n\n")],
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
    if labels.has_regions:
        return [{"name": name, "writes": written}
                for name, written in zip(labels.foreground, labels.regions_class_order, strict=True)]
    names = {ids[0]: name for name, ids in labels.foreground.items()}
    return [{"name": names.get(each, "background"), "writes": each} for each in labels.ids if each != labels.ignore]


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
