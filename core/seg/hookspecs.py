"""Every hook there is. A plugin is a light module with some of these, named by an entry point in the group `seg`.

Each hook yields `Offer(name, "module:Class", summary)`. The module of the hooks is imported at discovery and must not
import torch; the class is imported when somebody chooses it.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy
from attrs import frozen

GROUP = "seg"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@frozen
class Offer:
    """A component that a plugin brings: its name, where its class is ("module:Class"), one line about it."""

    name: str
    target: str
    summary: str = ""


@hookspec
def seg_layouts() -> Iterable[Offer]:
    """Offer ways to read a folder as a data set (`seg.Layout`)."""
    return ()


@hookspec
def seg_fingerprinters() -> Iterable[Offer]:
    """Offer fingerprinters (`seg.Fingerprinter`): from a data set to what a planner may know."""
    return ()


@hookspec
def seg_planners() -> Iterable[Offer]:
    """Offer planners (`seg.Planner`): from a fingerprint to a plan."""
    return ()


@hookspec
def seg_architectures() -> Iterable[Offer]:
    """Offer networks (`seg.Architecture`): from a topology to a torch module."""
    return ()


@hookspec
def seg_augmenters() -> Iterable[Offer]:
    """Offer augmenters (`seg.Augmenter`): from cases and positions to batches."""
    return ()


@hookspec
def seg_samplers() -> Iterable[Offer]:
    """Offer samplers (`seg.Sampler`): where the next batch is cut from."""
    return ()


@hookspec
def seg_ensemblers() -> Iterable[Offer]:
    """Offer ensemblers (`seg.Ensembler`): which models to combine, and how."""
    return ()


@hookspec
def seg_postprocessors() -> Iterable[Offer]:
    """Offer post-processors (`seg.Postprocessor`): what is done to predicted label maps, as learnt from validation."""
    return ()


KINDS = {
    "fingerprinter": "seg_fingerprinters",
    "planner": "seg_planners",
    "architecture": "seg_architectures",
    "augmenter": "seg_augmenters",
    "sampler": "seg_samplers",
    "ensembler": "seg_ensemblers",
    "postprocessor": "seg_postprocessors",
    "layout": "seg_layouts",
}
"""Each kind of component and the hook that offers it."""
