"""The stage that plans: from a fingerprint and a description to a plan that fits together."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from seg.contracts import blamed, check_plan, check_topology, unnamed
from seg.errors import Exit, Record, SegError
from seg.kinds import Architecture, Planner
from seg.models import ComponentUse, Configuration, Description, Fingerprint, Plan


def make_plan(  # noqa: PLR0913, PLR0917 - two components with the names they were chosen by
    fingerprint: Fingerprint,
    description: Description,
    planner: Planner,
    planner_name: str,
    architecture: Architecture,
    architecture_name: str,
    source: str = "",
    uses: Mapping[str, ComponentUse] | None = None,
) -> Plan:
    """The planner's plan, with the names of its components and `source`, the digest of what it was made from.

    `uses` are the records of both, which say whose fault is told.

    Raises:
        SegError: whatever the planner refuses; a fingerprint that is not of this data set (exit 3); a plan that does
            not fit together (SEG-P05, exit 6), with everything that is wrong with it, or is none (SEG-P10).
    """
    channels = len(description.channel_names)
    if len(fingerprint.intensities) != channels:
        raise SegError(Record(code="SEG-D22", found=f"a fingerprint of {len(fingerprint.intensities)} channels",
                              expected=f"{channels}, as the data set has: {', '.join(description.channel_names)}"))
    turned, lying = description.orientation, ", ".join(fingerprint.orientations)
    if turned and set(fingerprint.orientations) - {turned, "2D"}:
        raise SegError(Record(code="SEG-D22", found=f"a fingerprint of images that lie as {lying}", expected=turned,
                              advice="Make it with data.reorient too."))
    uses = uses or {"planner": unnamed("planner", planner), "architecture": unnamed("architecture", architecture)}
    check_topology(architecture, uses["architecture"])
    with blamed(uses["planner"], "plan"):
        plan = planner.plan(fingerprint, description, architecture)
    plan = evolve(check_plan(plan, uses), planner=planner_name, architecture=architecture_name, source=source)
    faults = plan_faults(plan)
    if faults:
        who = f"the planner {planner_name!r} made a plan that does not fit together"
        raise SegError([Record(code="SEG-P05", found=f"{who}: {fault}") for fault in faults], Exit.PLUGIN)
    return plan


def plan_faults(plan: Plan) -> list[str]:
    """What does not fit together in `plan`, one sentence each; empty for a plan that can be trained."""
    faults = [] if plan.configurations else ["it has no configuration"]
    if sorted(plan.transpose_forward) != [0, 1, 2]:
        faults.append(f"transpose_forward is {plan.transpose_forward}, expected an order of 0, 1, 2")
    for name, configuration in plan.configurations.items():
        found = [] if name == configuration.name else [f"it is called {configuration.name!r} inside"]
        found += _shape_faults(configuration) or _size_faults(configuration)
        found += _data_faults(configuration, plan.description)
        for what, other in (("previous", configuration.previous_stage), ("next", configuration.next_stage)):
            if other is not None and other not in plan.configurations:
                found.append(f"its {what} stage {other!r} is not in the plan")
        if _comes_back(plan, name):
            found.append("it is its own previous stage, by way of others or at once")
        faults += [f"{name}: {fault}" for fault in found]
    return faults


def _comes_back(plan: Plan, name: str) -> bool:
    """Whether a configuration's previous stages lead back to itself."""
    stage, seen = plan.configurations[name].previous_stage, set[str]()
    while stage in plan.configurations and stage not in seen:
        seen.add(stage)
        stage = plan.configurations[stage].previous_stage
    return name in seen


def _shape_faults(configuration: Configuration) -> list[str]:
    """Entries a stage, and entries an axis."""
    topology, dims = configuration.topology, configuration.dims
    counts = {
        "kernels": (len(topology.kernels), topology.stages),
        "strides": (len(topology.strides), topology.stages),
        "blocks": (len(topology.blocks), topology.stages),
        "decoder_blocks": (len(topology.decoder_blocks), topology.stages - 1),
        "median_shape": (len(configuration.median_shape), dims),
        **{f"kernels[{stage}]": (len(kernel), dims) for stage, kernel in enumerate(topology.kernels)},
        **{f"strides[{stage}]": (len(stride), dims) for stage, stride in enumerate(topology.strides)},
    }
    faults = [] if dims in {2, 3} else [f"a patch of {dims} axes, expected 2 or 3"]
    return faults + [f"{name} has {found} entries, expected {expected}"
                     for name, (found, expected) in counts.items() if found != expected]


def _size_faults(configuration: Configuration) -> list[str]:
    """Each axis of the patch must come out even at every stride."""
    faults = []
    for axis, length in enumerate(configuration.patch):
        divisor = 1
        for stride in configuration.topology.strides:
            divisor *= stride[axis]
        if divisor < 1 or length < 1 or length % divisor:
            faults.append(f"axis {axis} of the patch has {length} voxels, which its strides divide by {divisor}")
    if any(axis not in range(configuration.dims) for axis in configuration.mirror_axes):
        faults.append(f"mirror_axes {configuration.mirror_axes} are no axes of the patch")
    if min(configuration.spacing) <= 0:
        faults.append(f"the spacing {configuration.spacing} is not positive")
    return faults


def _data_faults(configuration: Configuration, description: Description) -> list[str]:
    """The network's ends must be the data set's channels and classes."""
    labels, channels = description.labels, len(description.channel_names)
    further = len(set(labels.ids) - {0, labels.ignore}) if configuration.previous_stage else 0
    counts = {
        "in_channels": (configuration.topology.in_channels, channels + further),
        "outputs": (configuration.topology.outputs, labels.outputs),
        "entries of normalization": (len(configuration.normalization), channels),
        "entries of use_mask_for_norm": (len(configuration.use_mask_for_norm), channels),
    }
    return [f"{found} {name}, expected {expected}" for name, (found, expected) in counts.items() if found != expected]
