"""Trying every component once, without data: what `seg list-plugins --verify` does."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from seg.contracts import blamed, build_network, expect, loss_weights, try_network
from seg.errors import Record, SegError
from seg.kinds import Architecture
from seg.models import ComponentUse, Configuration, Topology
from seg.registry import UNUSABLE, Component, Registry

KERNELS = {2: ((3, 3),) * 3, 3: ((3, 3, 3),) * 3}
STRIDES = {2: ((1, 1), (2, 2), (2, 2)), 3: ((1, 1, 1), (2, 2, 2), (2, 2, 2))}
KIT = "seg.testing"


def verify(registry: Registry) -> list[Record]:
    """What is wrong with plugins and components: those that cannot be used, built with their defaults, or that fail.

    Imports every component, and torch.
    """
    records = [Record(code="SEG-P01", found=f"the plugin {plugin.name} ({plugin.distribution} {plugin.version}) is "
                      f"{plugin.status}: {plugin.reason}", advice=plugin.advice)
               for plugin in registry.plugins if plugin.status in UNUSABLE]
    for component in registry.components:
        try:
            _try(registry, component)
        except SegError as error:
            records += error.records
    return records + _kit(registry)


def _try(registry: Registry, component: Component) -> None:
    found, use = registry.build(component.kind, component.qualified)
    if component.kind == "architecture":
        for dims in (2, 3):
            _try_architecture(found, use, dims)


def _try_architecture(architecture: Architecture, use: ComponentUse, dims: int) -> None:
    """Three stages on the smallest patch."""
    with blamed(use, "topology"):
        asked: Any = architecture.topology(KERNELS[dims], STRIDES[dims], 1, 2)
    topology = expect(asked, Topology, use, "topology")
    configuration = Configuration(
        name=f"{dims}d", spacing=(1.0, 1.0, 1.0), median_shape=(16.0,) * dims, patch=(16,) * dims, batch=2,
        topology=topology, normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=())
    weights = loss_weights(architecture, topology, use)
    try_network(build_network(architecture, topology, use), configuration, weights, use)


def _kit(registry: Registry) -> list[Record]:
    """What the checks of the test kit find, each failure as a record or a text."""
    kit = import_module(KIT) if find_spec(KIT) else None
    check = getattr(kit, "verify", None)
    found = check(registry) if check else ()
    return [item if isinstance(item, Record) else Record(code="SEG-P10", found=str(item)) for item in found]
