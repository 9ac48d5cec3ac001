"""A plan as nnU-Net 2.8 writes it, and back. nnU-Net can train with what is written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, evolve

from seg.convert import from_data, to_data
from seg.errors import usage_error
from seg.models import Configuration, Description, Intensities, Plan, Topology

PLANS = {
    "nnunet": ("nnUNetPlans", "ExperimentPlanner"),
    "resenc_m": ("nnUNetResEncUNetMPlans", "nnUNetPlannerResEncM"),
    "resenc_l": ("nnUNetResEncUNetLPlans", "nnUNetPlannerResEncL"),
    "resenc_xl": ("nnUNetResEncUNetXLPlans", "nnUNetPlannerResEncXL"),
}
"""Our planner → the name of nnU-Net's plans, and of its planner."""
NETWORKS = {"unet": "PlainConvUNet", "resenc": "ResidualEncoderUNet"}
NETWORK_MODULE = "dynamic_network_architectures.architectures.unet"
BLOCKS = {"resenc": "n_blocks_per_stage"}
"""What nnU-Net calls `Topology.blocks`; else `n_conv_per_stage`."""
SCHEMES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "none": "NoNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}
PREPROCESSOR = "DefaultPreprocessor"
RESAMPLING = "resample_data_or_seg_to_shape"
READERS = {".png": "NaturalImage2DIO", ".bmp": "NaturalImage2DIO", ".tif": "Tiff3DIO", ".tiff": "Tiff3DIO",
           ".nii": "NibabelIO"}
IMPORTED = "Read from nnU-Net's plan."


def plan_to_nnunet(plan: Plan) -> dict[str, Any]:
    """nnU-Net's form of `plan`. A planner or an architecture that nnU-Net does not know keeps our name for it."""
    plans_name, planner = PLANS.get(plan.planner, (plan.planner, plan.planner))
    configurations = {name: _configuration_to_nnunet(plan, each, plans_name)
                      for name, each in plan.configurations.items()}
    return {
        "dataset_name": plan.description.name,
        "plans_name": plans_name,
        "original_median_spacing_after_transp": list(plan.original_median_spacing),
        "original_median_shape_after_transp": [int(length) for length in plan.original_median_shape],
        "image_reader_writer": READERS.get(plan.description.file_ending, "SimpleITKIO"),
        "transpose_forward": list(plan.transpose_forward),
        "transpose_backward": list(plan.transpose_backward),
        "configurations": configurations,
        "experiment_planner_used": planner,
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): asdict(values) for channel, values in enumerate(plan.intensities)
        },
    }


def plan_from_nnunet(
    data: Any, description: Description, file: str = "plans.json", *, only: str | None = None
) -> Plan:
    """Our form of nnU-Net's plan for the data set `description`, inheritance among its configurations resolved.

    Plans from before 2024, without `architecture`, are read too. With `only` other configurations are not looked at.

    Raises:
        SegError: a missing key, a value of the wrong type, a plan for another number of channels, a network or a
            resampling that we do not have (exit 2); the record names the configuration.
    """
    given = data.get("configurations") if isinstance(data, dict) else None
    if not isinstance(given, dict):
        raise usage_error("no plan of nnU-Net: it has no configurations", file=file)
    intensities = intensities_from_nnunet(data, file)
    channels = len(description.channel_names)
    if len(intensities) != channels:
        raise usage_error(f"a plan for {len(intensities)} channels", expected=f"{channels}", file=file)
    configurations, architectures = {}, set()
    for name in given if only is None else (only,):
        try:
            resolved = _inherited(given, name)
            first = data["original_median_spacing_after_transp"][0]
            architecture, fields = _configuration_from_nnunet(name, resolved, first, description)
        except KeyError as error:
            raise usage_error(f"configurations.{name}: the key {error.args[0]!r} is missing", file=file) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise usage_error(f"configurations.{name}: {error}", file=file) from None
        configurations[name] = from_data(fields, Configuration, file=f"{file}: configurations.{name}")
        architectures.add(architecture)
    if len(architectures) != 1:
        raise usage_error(f"configurations of {len(architectures)} architectures", expected="one", file=file)
    planners = {name: ours for ours, (_, name) in PLANS.items()}
    planner = data.get("experiment_planner_used", "unknown")
    fields = {
        "description": to_data(description), "planner": planners.get(planner, planner),
        "architecture": architectures.pop(), "transpose_forward": data.get("transpose_forward"),
        "original_median_spacing": data.get("original_median_spacing_after_transp"),
        "original_median_shape": data.get("original_median_shape_after_transp"), "intensities": [],
        "configurations": {}, "reasons": {"configurations": IMPORTED},
    }
    plan = from_data(fields, Plan, file=file)
    if sorted(plan.transpose_forward) != [0, 1, 2]:
        found = f"transpose_forward is {list(plan.transpose_forward)}"
        raise usage_error(found, expected="an order of 0, 1, 2", file=file)
    return evolve(plan, intensities=intensities, configurations=configurations)


def _inherited(given: Mapping[str, Any], name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with what it inherits; its own keys win."""
    if name in seen:
        raise ValueError(f"inherits from itself, by {' → '.join((*seen, name))}")
    own = dict(given[name])
    parent = own.pop("inherits_from", None)
    return own if parent is None else {**_inherited(given, parent, (*seen, name)), **own}


def _configuration_from_nnunet(
    name: str, given: Mapping[str, Any], first_spacing: float, description: Description
) -> tuple[str, dict[str, Any]]:
    """Architecture and plain fields of one configuration; a 2-D one does not use `first_spacing`, but has it."""
    patch, labels, previous = given["patch_size"], description.labels, given.get("previous_stage")
    architecture, topology = _network_from_nnunet(given, len(patch))
    further = len(set(labels.ids) - {0, labels.ignore}) if previous else 0
    schemes = {theirs: ours for ours, theirs in SCHEMES.items()}
    unknown = [scheme for scheme in given["normalization_schemes"] if scheme not in schemes]
    if unknown:
        raise ValueError(f"the normalisation {unknown[0]} is not known here")
    if given.get("preprocessor_name", PREPROCESSOR) != PREPROCESSOR:
        raise ValueError(f"the preprocessor {given['preprocessor_name']} is not known here")
    return architecture, {
        "name": name, "spacing": [first_spacing, *given["spacing"]][-3:],
        "median_shape": given["median_image_size_in_voxels"], "patch": patch, "batch": given["batch_size"],
        "topology": {**topology, "in_channels": len(description.channel_names) + further, "outputs": labels.outputs},
        "normalization": [schemes[scheme] for scheme in given["normalization_schemes"]],
        "use_mask_for_norm": given["use_mask_for_norm"], "mirror_axes": list(range(len(patch))),
        "batch_dice": given["batch_dice"], "order_image": _order(given, "data"), "order_label": _order(given, "seg"),
        "order_logits": _order(given, "probabilities"), "previous_stage": previous,
        "next_stage": given.get("next_stage"), "reasons": {"mirror_axes": "All axes, as nnU-Net does by default."},
    }


def _order(given: Mapping[str, Any], what: str) -> int:
    """The spline order of a resampling, if it is done as we do it."""
    function, options = given[f"resampling_fn_{what}"], given[f"resampling_fn_{what}_kwargs"]
    if function != RESAMPLING or options.get("order_z", 0) != 0 or options.get("force_separate_z") is not None:
        raise ValueError(f"resampling_fn_{what}: {function} with {dict(options)} is not known here, {RESAMPLING} alone")
    order: int = options["order"]
    return order


def _network_from_nnunet(given: Mapping[str, Any], dims: int) -> tuple[str, dict[str, Any]]:
    """Our name of an architecture, and the plain fields of its topology without channels and outputs."""
    if "architecture" not in given:
        return _old_network(given)
    options = given["architecture"]["arch_kwargs"]
    network = given["architecture"]["network_class_name"].rsplit(".", 1)[-1]
    architecture = {theirs: ours for ours, theirs in NETWORKS.items()}.get(network, network)
    details = {"norm_op": f"InstanceNorm{dims}d", "nonlin": "LeakyReLU", "dropout_op": "None", "conv_bias": "True"}
    for key, expected in details.items():
        if str(options.get(key)).rsplit(".", 1)[-1] != expected:
            raise ValueError(f"{key} is {options.get(key)}, only {expected} is known here")
    for key, name, number in (("nonlin_kwargs", "negative_slope", 0.01), ("norm_op_kwargs", "eps", 1e-05)):
        if (found := (options.get(key) or {}).get(name, number)) != number:
            raise ValueError(f"{key}: {name} is {found}, only {number} is known here")
    if options.get("nonlin_first"):
        raise ValueError("nonlin_first is not known here")
    stages = options["n_stages"]
    return architecture, {
        "features": _each(options["features_per_stage"], stages),
        "kernels": [_each(kernel, dims) for kernel in _each(options["kernel_sizes"], stages)],
        "strides": [_each(stride, dims) for stride in _each(options["strides"], stages)],
        "blocks": _each(options[BLOCKS.get(architecture, "n_conv_per_stage")], stages),
        "decoder_blocks": _each(options["n_conv_per_stage_decoder"], stages - 1),
    }


def _old_network(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The same from a plan of before 2024."""
    network, blocks = given["UNet_class_name"], given["n_conv_per_stage_encoder"]
    base, most = given["UNet_base_num_features"], given["unet_max_num_features"]
    return {theirs: ours for ours, theirs in NETWORKS.items()}.get(network, network), {
        "features": [min(base * 2**stage, most) for stage in range(len(blocks))],
        "kernels": given["conv_kernel_sizes"], "strides": given["pool_op_kernel_sizes"], "blocks": blocks,
        "decoder_blocks": given["n_conv_per_stage_decoder"],
    }


def _each(value: Any, count: int) -> list[Any]:
    """One entry for each of `count`; nnU-Net allows a single number for all."""
    entries = [value] * count if isinstance(value, int) else list(value)
    if len(entries) != count:
        raise ValueError(f"{entries} has {len(entries)} entries, expected {count}")
    return entries


def intensities_from_nnunet(data: Mapping[str, Any], file: str) -> tuple[Intensities, ...]:
    """Statistics of the foreground of each channel, in order of the channels; what we do not know is left out.

    Raises:
        SegError: they are missing, or of the wrong type (exit 2).
    """
    given = data.get("foreground_intensity_properties_per_channel")
    if not isinstance(given, dict) or sorted(given) != sorted(str(number) for number in range(len(given))):
        raise usage_error("foreground_intensity_properties_per_channel is missing or not numbered from 0", file=file)
    known = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")
    rows = [given[str(number)] for number in range(len(given))]
    rows = [{key: row[key] for key in known if key in row} if isinstance(row, dict) else row for row in rows]
    return from_data(rows, tuple[Intensities, ...], file=f"{file}: foreground_intensity_properties_per_channel")


def _configuration_to_nnunet(plan: Plan, configuration: Configuration, plans_name: str) -> dict[str, Any]:
    parent = plan.configurations.get("3d_fullres")
    if configuration.previous_stage and parent is not None:
        return {"inherits_from": parent.name, "previous_stage": configuration.previous_stage}
    shared = configuration.name in ("2d", "3d_fullres") and plan.planner in PLANS
    found: dict[str, Any] = {
        "data_identifier": f"{'nnUNetPlans' if shared else plans_name}_{configuration.name}",
        "preprocessor_name": PREPROCESSOR,
        "batch_size": configuration.batch,
        "patch_size": list(configuration.patch),
        "median_image_size_in_voxels": list(configuration.median_shape),
        "spacing": list(configuration.spacing[-configuration.dims :]),
        "normalization_schemes": [SCHEMES.get(scheme, scheme) for scheme in configuration.normalization],
        "use_mask_for_norm": list(configuration.use_mask_for_norm),
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_data_kwargs": _resampling(configuration.order_image, label=False),
        "resampling_fn_seg_kwargs": _resampling(configuration.order_label, label=True),
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_probabilities_kwargs": _resampling(configuration.order_logits, label=False),
        "architecture": _network_to_nnunet(plan.architecture, configuration.topology),
        "batch_dice": configuration.batch_dice,
    }
    if configuration.next_stage:
        found["next_stage"] = configuration.next_stage
    return found


def _resampling(order: int, *, label: bool) -> dict[str, Any]:
    return {"is_seg": label, "order": order, "order_z": 0, "force_separate_z": None}


def _network_to_nnunet(architecture: str, topology: Topology) -> dict[str, Any]:
    network = NETWORKS.get(architecture)
    return {
        "network_class_name": f"{NETWORK_MODULE}.{network}" if network else architecture,
        "arch_kwargs": {
            "n_stages": topology.stages,
            "features_per_stage": list(topology.features),
            "conv_op": f"torch.nn.modules.conv.Conv{topology.dims}d",
            "kernel_sizes": [list(kernel) for kernel in topology.kernels],
            "strides": [list(stride) for stride in topology.strides],
            BLOCKS.get(architecture, "n_conv_per_stage"): list(topology.blocks),
            "n_conv_per_stage_decoder": list(topology.decoder_blocks),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{topology.dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
