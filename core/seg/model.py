"""A trained model as a folder of plain data, and how it is used in a program.

model = seg.load("runs/hippocampus/model")
labels = model.predict(image)                       # SimpleITK image in, SimpleITK image out
labels = model.predict(array, spacing=(1, 1, 1))    # array (Z, Y, X) or (C, Z, Y, X) in, array (Z, Y, X) out
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from attrs import define
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from seg._suitable import refuse_unsuitable
from seg.blocks import channels_last, norms_fused
from seg.contracts import check_labels, check_map, expect, labelled
from seg.device import autocast, choose_device, is_16_bit, return_freed_memory
from seg.discovery import discover
from seg.errors import Exit, Record, SegError, usage_error
from seg.files import digest_bytes
from seg.kinds import Architecture, Ensembler, LabelledEnsembler, Postprocessor
from seg.levels import at_level
from seg.model_files import MANIFEST, ModelDescription, read_model
from seg.models import ComponentUse, Configuration, Spacing3, Topology
from seg.normalisation import Normalisers, names_of
from seg.onednn import direct_convolutions
from seg.patches import with_previous
from seg.peaks import Demand, refuse_too_large
from seg.preprocessing import Given, Preparation, Prepared, prepare
from seg.provenance import build_component, version_records
from seg.registry import Registry
from seg.restoring import (
    labels_for_next_stage,
    labels_from_probabilities,
    restore_labels,
    restore_probabilities,
)
from seg.room import FileMaps, Room, find_room, parts
from seg.settings import PredictOptions
from seg.sliding_window import Window, sliding_window

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - the name its documentation uses

TILE_BATCH_2D = 4


@define
class Model:
    """A model that is loaded: networks on a device, ready to predict. `records` are warnings that came with it."""

    description: ModelDescription
    digest: str
    device: torch.device
    options: PredictOptions
    ensembler: Ensembler
    networks: dict[str, list[nn.Module]]  # configuration → one for each fold
    postprocessor: Postprocessor | None = None  # None: label maps stay as they are
    records: tuple[Record, ...] = ()
    normalisers: Normalisers = attrs.field(factory=Normalisers)  # none where only prepared images are predicted

    def predict(self, image: NDArray[Any] | sitk.Image, spacing: Sequence[float] | None = None) -> Any:
        """The label map of one image, in the files' own values.

        Args:
            image: a SimpleITK image, which is turned as the training's were (`data.reorient`); or an array (Z, Y, X) or
                (C, Z, Y, X), for a 2-D model also (Y, X), which is taken as it lies.
            spacing: mm of the array's spatial axes, in their order; not with a SimpleITK image.

        Returns:
            A SimpleITK image on the same grid, or an array uint8/uint16/uint32 of the image's spatial shape.

        Raises:
            SegError: the number of channels or of axes does not fit (exit 3), no spacing was given (exit 2).
        """
        from seg.images import label_to_sitk, volume_from_sitk

        if not isinstance(image, np.ndarray):
            volume = volume_from_sitk(image, self.description.plan.description.orientation)
            labels, _ = self.predict_volume(volume.array, volume.spacing)
            return label_to_sitk(self.to_file_values(volume.turn.back(labels)), volume.geometry)
        if spacing is None:
            raise usage_error("an array without its spacing", expected="spacing=(z, y, x) in mm")
        array, full = _as_volume(image, spacing, len(self.description.plan.description.channel_names))
        labels, _ = self.predict_volume(array, full)
        found: NDArray[Any] = self.to_file_values(labels).reshape(labels.shape[-len(spacing):])
        return found

    def predict_volume(
        self, array: NDArray[np.float32] | Given, spacing: Spacing3, *, probabilities: bool = False, case: str = ""
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Ids (Z, Y, X) of an image float32 (C, Z, Y, X) with `spacing` (z, y, x) in mm, in the training's orientation.

        On request also the probabilities float32 (K, Z, Y, X), which are those before post-processing. An image that is
        `Given` is used up, which takes less memory.

        Raises:
            SegError: the image does not suit the model (exit 3), or takes more memory than is free (SEG-R04, exit 5).
        """
        labels, (first, *others) = self.description.plan.description.labels, self.description.chosen
        prepared = self._prepared(array, spacing, case, probabilities=probabilities or bool(others))
        return_freed_memory()
        if not others and not probabilities:
            return self._postprocessed(self._labels(first, prepared)), None
        outputs = self.description.configurations[first].topology.outputs
        combined = check_map(self._labelled().combine_configurations(self._probabilities(prepared)),
                             (outputs, *prepared[first].properties.shape), self.description.ensembler,
                             "combine_configurations")
        found = combined.cpu().numpy()
        return self._postprocessed(labels_from_probabilities(found, labels)), found

    def logits(self, name: str, image: Tensor) -> Tensor | FileMaps:
        """Logits float32 (K, Z, Y, X) of a prepared image (C, Z, Y, X): the folds of configuration `name` combined.

        They are float16 where the model adds up its tiles in that (`half_sums`).

        Where they do not fit into the memory they lie in a file, and the folds are combined part by part: class by
        class, or a few slices after the other where the ensembler must see all classes.
        """
        configuration, networks = self.description.configurations[name], self.networks[name]
        room = self.room(configuration, image.shape[1:])
        folds = (self._one(network, configuration, image, room) for network in networks)
        if len(networks) == 1:
            return next(folds)
        shape = (configuration.topology.outputs, *image.shape[1:])
        kind = torch.float16 if self.description.half_sums else torch.float32
        if room.device is not None:
            return self._combined((fold[:].float() for fold in folds), shape).to(kind)
        kept, result = list(folds), FileMaps.zeros(shape, kind)
        for part in parts(shape, whole_voxels=isinstance(self.ensembler, LabelledEnsembler)):
            target = result.tensor[part]
            target.copy_(self._combined((fold[part].float() for fold in kept), target.shape))
            result.rest()
        return result

    def _combined(self, folds: Iterable[Tensor], shape: Sequence[int]) -> Tensor:
        return check_map(self._labelled().combine_folds(folds), shape, self.description.ensembler, "combine_folds")

    def _labelled(self) -> Ensembler:
        return labelled(self.ensembler, self.description.plan.description.labels, self.description.ensembler)

    def room(self, configuration: Configuration, size: Sequence[int]) -> Room:
        """Where the maps of a prepared image of `size` (Z, Y, X) are gathered.

        Raises:
            SegError: nowhere is room for them (exit 5).
        """
        voxels = math.prod(max(n, p) for n, p in zip(size, configuration.patch3, strict=True))
        limit = self.options.max_memory_gb * 1e9
        return find_room(4 * configuration.topology.outputs * voxels, self.device, limit)

    def to_file_values(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Ids as the values that the data set's own files use for them."""
        declared = self.description.plan.description.labels
        values = np.array([declared.file_value(index) for index in range(max(declared.ids) + 1)])
        kind = np.uint8 if values.max() < 1 << 8 else np.uint16 if values.max() < 1 << 16 else np.uint32
        return np.asarray(values.astype(kind)[labels])

    def _postprocessed(self, labels: NDArray[Any]) -> NDArray[Any]:
        steps, declared = self.description.postprocessing, self.description.plan.description.labels
        use = self.description.postprocessor
        if self.postprocessor is None or use is None:
            return labels
        return check_labels(self.postprocessor.apply(labels, declared, steps), labels, use)

    def _prepared(
        self, given: NDArray[np.float32] | Given, spacing: Spacing3, case: str, *, probabilities: bool
    ) -> dict[str, Prepared]:
        """The image as each configuration that is needed wants it, if there is memory for all that follows."""
        owned, plan, needed = isinstance(given, Given), self.description.plan, self.description.needed
        array = given.take() if isinstance(given, Given) else given
        for name in needed:
            refuse_unsuitable(array.shape, spacing, plan, self.description.configurations[name], self.device)
        return_freed_memory()
        for name in needed:
            demand = self._demand(name, goes=owned and len(needed) == 1, probabilities=probabilities)
            refuse_too_large(array, spacing, demand, case)
        hows = {name: Preparation(plan=plan, configuration=self.description.configurations[name],
                                  normalisers=self.normalisers) for name in needed}
        return {name: prepare(array, spacing, how, case=case, overwrite=owned and name == needed[-1])
                for name, how in hows.items()}

    def _demand(self, name: str, *, goes: bool, probabilities: bool) -> Demand:
        configuration = self.description.configurations[name]
        short = 2 if is_16_bit(self.device, self.options.autocast) else 4
        return Demand(plan=self.description.plan, configuration=configuration, room=partial(self.room, configuration),
                      at_once=make_window(configuration, self.options).batch,
                      value_bytes=short if self.device.type == "cpu" else 0, folds=len(self.networks[name]),
                      half_sums=self.description.half_sums, goes=goes, probabilities=probabilities)

    def _labels(self, name: str, prepared: Mapping[str, Prepared]) -> NDArray[Any]:
        logits = self._predicted(name, prepared)
        return_freed_memory()
        configuration = self.description.configurations[name]
        return restore_labels(logits, prepared[name].properties, self.description.plan, configuration)

    def _probabilities(self, prepared: Mapping[str, Prepared]) -> Iterator[Tensor]:
        for name in self.description.chosen:
            logits = self._predicted(name, prepared)
            return_freed_memory()
            configuration = self.description.configurations[name]
            yield torch.as_tensor(
                restore_probabilities(logits, prepared[name].properties, self.description.plan, configuration)
            )

    def _predicted(self, name: str, prepared: Mapping[str, Prepared]) -> Tensor | FileMaps:
        plan, configurations = self.description.plan, self.description.configurations
        image = torch.as_tensor(prepared[name].image).to(self.device)
        if stage := configurations[name].previous_stage:
            given = self._predicted(stage, prepared)
            labels = labels_for_next_stage(given, prepared[stage].properties, plan, configurations[stage],
                                           configurations[name])
            del given
            image = with_previous(image, labels, configurations[name].topology.in_channels)
        logits = self.logits(name, image)
        if not all(bool(logits[index : index + 1].isfinite().all()) for index in range(logits.shape[0])):
            raise SegError(Record(code="SEG-M04", found="the network gave values that are no numbers",
                                  case=prepared[name].properties.case, advice="Look at the intensities of this image."))
        return logits

    def _one(
        self, network: nn.Module, configuration: Configuration, image: Tensor, room: Room
    ) -> Tensor | FileMaps:
        window = attrs.evolve(make_window(configuration, self.options), half_sums=self.description.half_sums)
        direct = direct_convolutions(self.device, single=not is_16_bit(self.device, self.options.autocast))
        with torch.inference_mode(), autocast(self.device, self.options.autocast), direct:
            return sliding_window(network, image, window, configuration.topology.outputs, room)


def ready(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` on `device`, laid out for prediction."""
    network = network.to(device).eval()
    return channels_last(network) if device.type == "cpu" or norms_fused(network, device) else network


def make_window(configuration: Configuration, options: PredictOptions) -> Window:
    """The sliding window of a configuration as the options want it."""
    axes = configuration.mirror_axes if options.mirroring else ()
    batch = TILE_BATCH_2D if configuration.dims == 2 else 1
    return Window(patch=configuration.patch, step=options.step, mirror_axes=axes, batch=batch)


def load(
    path: str | Path,
    *,
    device: str = "auto",
    options: PredictOptions | None = None,
    registry: Registry | None = None,
) -> Model:
    """Load the model in the folder `path` onto a device; `options.prune` takes a smaller level of its networks.

    Raises:
        SegError: no model there, or not that level in it (exit 2); content and digests differ, or weights do not fit
            (exit 7); a plugin that it needs is absent, with the `pip install` that brings it (exit 6); weights that are
            no numbers (exit 3).
    """
    folder = Path(path)
    description, content = read_model(folder)
    registry = registry or discover()
    architecture = build_component(registry, description.architecture)
    ensembler = build_component(registry, description.ensembler)
    normalisers = _normalisers(description, registry)
    where = choose_device(device)
    chosen = (options or PredictOptions()).settled
    networks: dict[str, list[nn.Module]] = {}
    for member in description.members:
        if member.configuration in description.needed:
            topology = description.configurations[member.configuration].topology
            held = description.levels.get(member.configuration, "")
            network = _network(description.architecture, architecture, topology, content.pop(member.weights),
                               folder / member.weights, held)
            network = at_level(architecture, network, topology, chosen.prune, held)
            networks.setdefault(member.configuration, []).append(ready(network, where))
    chosen = attrs.evolve(chosen, autocast=arithmetic(chosen.autocast, description.autocast, where))
    uses = [*description.needed_components, *normalisers.uses.values()]
    return Model(description=description, digest=digest_bytes(content[MANIFEST]), device=where, options=chosen,
                 ensembler=ensembler, networks=networks, postprocessor=_postprocessor(description, registry),
                 normalisers=normalisers, records=version_records(uses, registry))


def arithmetic(asked: str, recorded: str, device: torch.device) -> str:
    """What `seg.device.autocast` is given: what was asked for; if nothing was, on a CPU what the model says of itself.

    Models of nnU-Net say single precision, in which it predicts on a CPU; on a GPU it predicts in 16 bits.
    """
    return recorded if asked == "auto" and device.type == "cpu" else asked


def _normalisers(description: ModelDescription, registry: Registry) -> Normalisers:
    """What the model's plan names, as recorded; models from before they were recorded take what is installed."""
    needed = [description.configurations[name] for name in description.needed]
    recorded = {name: use for use in description.components if use.kind == "normaliser"
                for name in (use.name, f"{use.distribution}:{use.name}")}
    known = {name: recorded[name] for name in names_of(needed) if name in recorded}
    rest = [attrs.evolve(one, normalization=tuple(name for name in one.normalization if name not in known))
            for one in needed]
    found = Normalisers.resolve(rest, registry)
    return Normalisers(built={**found.built, **{name: build_component(registry, use) for name, use in known.items()}},
                       uses={**found.uses, **known})


def _postprocessor(description: ModelDescription, registry: Registry) -> Postprocessor | None:
    """What does the model's steps to a label map; None where there are none, so that none is needed for nothing."""
    if not description.postprocessing:
        return None
    if description.postprocessor is None:
        raise SegError(Record(code="SEG-M06", found="steps of post-processing, and no post-processor that does them"),
                       Exit.UNSAFE)
    found: Postprocessor = build_component(registry, description.postprocessor)
    nothing = np.zeros((1, 1, 1), np.uint8)  # steps it does not know are refused now, not after the first prediction
    found.apply(nothing, description.plan.description.labels, description.postprocessing)
    return found


def _network(
    use: ComponentUse, architecture: Architecture, topology: Topology, data: bytes, file: Path, level: str
) -> nn.Module:
    try:
        whole = expect(architecture.build(topology), nn.Module, use, "build")
        network, weights = at_level(architecture, whole, topology, level), load_tensors(data)
    except Exception as error:
        if isinstance(error, SegError) and error.exit_code == Exit.PLUGIN:  # what `build` gave is no network
            raise
        raise SegError(Record(code="SEG-M02", found=f"no network can be made of it: {type(error).__name__}: {error}",
                              file=str(file)), Exit.UNSAFE) from error
    return fitted(network, weights, file)


def fitted(network: nn.Module, weights: dict[str, Tensor], file: Path) -> nn.Module:
    """`network` with `weights`, if they are exactly its own and all numbers.

    Raises:
        SegError: names or shapes differ (exit 7), or a weight is no number (exit 3).
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if wrong:
        first = wrong[0]
        raise SegError(Record(code="SEG-M02", found=f"weights that do not fit their plan: {len(wrong)} differ, the "
                              f"first is {first}: {given.get(first)}", expected=str(own.get(first)), file=str(file)),
                       Exit.UNSAFE)
    bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise SegError(Record(code="SEG-M03", found=f"weights that are no numbers: {', '.join(bad[:3])}",
                              file=str(file)), Exit.DATA)
    network.load_state_dict(weights)
    return network


def _as_volume(
    image: NDArray[Any], spacing: Sequence[float], channels: int
) -> tuple[NDArray[np.float32], Spacing3]:
    """An array of two or three spatial axes, with or without channels, as (C, Z, Y, X) and its spacing."""
    axes = len(spacing)
    if axes not in (2, 3) or image.ndim not in (axes, axes + 1):
        raise SegError(Record(code="SEG-D15", found=f"an array of shape {image.shape} with {axes} spacings",
                              expected="(Z, Y, X) or (C, Z, Y, X) with three spacings, (Y, X) with two"))
    array = image if image.ndim == axes + 1 else image[None]
    if array.shape[0] != channels:
        raise SegError(Record(code="SEG-D15", found=f"{array.shape[0]} channels", expected=f"{channels}"))
    if axes == 2:
        array = array[:, None]
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        raise usage_error(f"a spacing of {tuple(spacing)}", expected="mm, more than 0")
    full = (999.0, *spacing) if axes == 2 else tuple(spacing)
    return np.ascontiguousarray(array, dtype=np.float32), (float(full[0]), float(full[1]), float(full[2]))
