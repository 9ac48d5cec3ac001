"""A model of one random network, for exporters to be tried on. It needs a built-in architecture and ensembler."""

from __future__ import annotations

from pathlib import Path

from seg.discovery import discover
from seg.model import Model, load
from seg.model_files import Member, ModelDescription, write_model
from seg.models import Configuration, Description, Plan
from seg.testing._samples import PLAIN, STATISTICS

SHAPE = (((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)), (8, 12, 12))
WEIGHTS = "weights/3d_fullres_fold_0.safetensors"


def small_model(folder: Path) -> Model:
    """A model in `folder` with a U-Net of two stages, loaded on the CPU."""
    registry = discover()
    architecture, use = registry.build("architecture", "segplug:unet", {"features": 2})
    _, ensembler = registry.build("ensembler", "segplug:mean")
    kernels, strides, patch = SHAPE
    topology = architecture.topology(kernels, strides, 1, PLAIN.outputs)
    one = Configuration(name="3d_fullres", spacing=(1.0, 1.0, 1.0), median_shape=(8.0, 12.0, 12.0), patch=patch,
                        batch=2, topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                        mirror_axes=(0, 1, 2))
    plan = Plan(description=Description(name="sample", channel_names=("MR",), labels=PLAIN, training_cases=4),
                planner="sample", architecture="unet", transpose_forward=(0, 1, 2),
                original_median_spacing=(1.0, 1.0, 1.0), original_median_shape=(8.0, 12.0, 12.0),
                intensities=(STATISTICS,), configurations={one.name: one})
    description = ModelDescription(plan=plan, configurations={one.name: one}, chosen=(one.name,), architecture=use,
                                   members=(Member(configuration=one.name, fold="0", weights=WEIGHTS),),
                                   ensembler=ensembler)
    write_model(folder, description, {WEIGHTS: architecture.build(topology).state_dict()})
    return load(folder, device="cpu")
