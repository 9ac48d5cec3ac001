"""seg: from a folder of labelled medical images to a trained, validated segmentation model; every rule a plugin.

What stands here is the public interface, for programs and for plugins alike. Names that need torch or SimpleITK are
imported when they are first used, so that `import seg` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seg.errors import Exit, Record, SegError, usage_error
from seg.hookspecs import Offer, Section, hookimpl
from seg.kinds import (
    Architecture,
    Augmenter,
    Batch,
    Candidate,
    CaseArrays,
    CaseIndex,
    Ensembler,
    Exporter,
    Fingerprinter,
    LabelledEnsembler,
    Layout,
    Metric,
    Normaliser,
    Planner,
    Position,
    Postprocessor,
    Prunable,
    Sampler,
)
from seg.models import (
    Case,
    CaseMetrics,
    CaseProperties,
    ClassMetrics,
    Configuration,
    Dataset,
    Description,
    Evaluation,
    Fingerprint,
    Intensities,
    Labels,
    Plan,
    Topology,
)
from seg.options import option
from seg.progress import Progress, Silent
from seg.sides import Direction, opposite_pairs
from seg.training_kinds import Executor, Loss, PartedCriterion, Recipe, RemoteExecutor, TrainingJob

if TYPE_CHECKING:
    from seg.aside import in_threads
    from seg.blocks import BlockStyle, ConvBlock, UpBlock, channels_last, encoder_stage, initialise, output_head
    from seg.cropping import bounding_box, nonzero_mask
    from seg.ensembling import best_candidate, running_mean
    from seg.executing import lifeline, supervise
    from seg.images import Geometry, Volume, geometry_of, orientation, read_image, read_label, write_label
    from seg.inputs import (
        case_name,
        group_channels,
        image_ending,
        is_dicom_folder,
        list_images,
        missing_record,
        name_records,
    )
    from seg.losses import masked_mean, one_hot, region_maps
    from seg.model import Model, load
    from seg.nnunet_names import rename_nnunet
    from seg.patches import cut_patch, cut_previous, previous_channels, to_device
    from seg.stages.run import run
    from seg.topology import doubling_features, halving_weights, stage_voxels

_LAZY = {
    "BlockStyle": "seg.blocks",
    "ConvBlock": "seg.blocks",
    "Geometry": "seg.images",
    "Model": "seg.model",
    "UpBlock": "seg.blocks",
    "Volume": "seg.images",
    "best_candidate": "seg.ensembling",
    "bounding_box": "seg.cropping",
    "case_name": "seg.inputs",
    "channels_last": "seg.blocks",
    "cut_patch": "seg.patches",
    "cut_previous": "seg.patches",
    "doubling_features": "seg.topology",
    "encoder_stage": "seg.blocks",
    "geometry_of": "seg.images",
    "group_channels": "seg.inputs",
    "halving_weights": "seg.topology",
    "image_ending": "seg.inputs",
    "in_threads": "seg.aside",
    "initialise": "seg.blocks",
    "is_dicom_folder": "seg.inputs",
    "lifeline": "seg.executing",
    "list_images": "seg.inputs",
    "load": "seg.model",
    "masked_mean": "seg.losses",
    "missing_record": "seg.inputs",
    "name_records": "seg.inputs",
    "nonzero_mask": "seg.cropping",
    "one_hot": "seg.losses",
    "orientation": "seg.images",
    "output_head": "seg.blocks",
    "previous_channels": "seg.patches",
    "read_image": "seg.images",
    "read_label": "seg.images",
    "region_maps": "seg.losses",
    "rename_nnunet": "seg.nnunet_names",
    "run": "seg.stages.run",
    "running_mean": "seg.ensembling",
    "stage_voxels": "seg.topology",
    "supervise": "seg.executing",
    "to_device": "seg.patches",
    "write_label": "seg.images",
}

__all__ = [
    "Architecture", "Augmenter", "Batch", "BlockStyle", "Candidate", "Case", "CaseArrays", "CaseIndex", "CaseMetrics",
    "CaseProperties", "ClassMetrics", "Configuration", "ConvBlock", "Dataset", "Description", "Direction",
    "Ensembler", "Evaluation", "Executor", "Exit", "Exporter", "Fingerprint", "Fingerprinter", "Geometry",
    "Intensities", "LabelledEnsembler", "Labels", "Layout", "Loss", "Metric", "Model", "Normaliser", "Offer",
    "PartedCriterion", "Plan", "Planner", "Position", "Postprocessor", "Progress", "Prunable", "Recipe", "Record",
    "RemoteExecutor", "Sampler", "Section", "SegError", "Silent", "Topology", "TrainingJob", "UpBlock", "Volume",
    "best_candidate", "bounding_box", "case_name", "channels_last", "cut_patch", "cut_previous", "doubling_features",
    "encoder_stage", "geometry_of", "group_channels", "halving_weights", "hookimpl", "image_ending", "in_threads",
    "initialise", "is_dicom_folder", "lifeline", "list_images", "load", "masked_mean", "missing_record",
    "name_records", "nonzero_mask", "one_hot", "opposite_pairs", "option", "orientation", "output_head",
    "previous_channels", "read_image", "read_label", "region_maps", "rename_nnunet", "run", "running_mean",
    "stage_voxels", "supervise", "to_device", "usage_error", "write_label",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'seg' has no attribute {name!r}")
