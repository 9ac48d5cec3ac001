"""What a run will take, said before it is taken: time, disk, memory."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from attrs import frozen

from seg.cascades import trainings
from seg.device import choose_devices, describe_device, is_16_bit, named_devices, total_memory
from seg.device_faults import less_memory
from seg.errors import Exit, Record, SegError
from seg.models import Configuration, Fingerprint, Plan
from seg.runfolder import Components, RunFolder
from seg.settings import Settings
from seg.stages.preprocess import store_name
from seg.training_kinds import PartedCriterion

BYTES_IMAGE, BYTES_LABEL, BYTES_LOGIT, BYTES_WEIGHT = 4, 2, 2, 4
PROGRAM_BYTES = 400_000_000  # Python, torch and SimpleITK before any work
BYTES_A_VALUE = 8  # each feature map is kept for the way back before and after its norm, in single precision
PART_BYTES = 2 << 30  # of feature maps that a part of a batch may take on a CPU
LEAST_A_VALUE = 2  # bytes: kept once, in 16 bits
LOSS_BYTES = 16  # of each logit of the finest output: logits, logarithms, probabilities, targets, in single precision
WEIGHT_COPIES = 5  # weights, gradient, two moments, running mean


@frozen(kw_only=True)
class Estimate:
    """Time of training, disk for cases, states and predictions, memory of one training step; rough on purpose."""

    length: str
    trainings: int
    train_s: float | None
    disk_bytes: int
    memory_bytes: int
    device: str
    folder: str
    device_bytes: int = 0  # of memory that the device has; 0: it shares the machine's, or is not known
    too_large: tuple[Record, ...] = ()  # the configurations that cannot fit the device

    def lines(self) -> list[str]:
        """The estimate in words."""
        total = f", {format_seconds(self.train_s * self.trainings)} of training in all" if self.train_s else ""
        return [
            f"device {self.device}; run folder {self.folder}",
            f"{self.trainings} training{'s' if self.trainings != 1 else ''} of {self.length} each{total}",
            f"disk about {format_bytes(self.disk_bytes)}, {self._memory()}",
        ]

    def _memory(self) -> str:
        about = f"about {format_bytes(self.memory_bytes)}"
        return f"memory of the device {about} of its {format_bytes(self.device_bytes)}" if self.device_bytes else (
            f"memory {about}")

    def refuse_without_memory(self) -> None:
        """Raise SegError (exit 5) where a configuration is to be trained that cannot fit the memory of the device."""
        if self.too_large:
            raise SegError(list(self.too_large), Exit.RESOURCES)

    def refuse_without_space(self, folder: Path) -> None:
        """Raise SegError (exit 5) where the disk of `folder` has less room than the run needs."""
        free = shutil.disk_usage(folder).free
        if free < self.disk_bytes:
            raise SegError(Record(code="SEG-R01", found=f"{format_bytes(free)} free", file=str(folder),
                                  expected=f"about {format_bytes(self.disk_bytes)}",
                                  advice="Free some space, or choose another folder with -o."), Exit.RESOURCES)


def estimate(folder: RunFolder, settings: Settings, components: Components, elsewhere: str = "") -> Estimate:
    """What the chosen configurations and folds will take; `elsewhere`: their device, where the executor says it."""
    plan, fingerprint = folder.plan(), folder.fingerprint()
    folds = trainings(settings.configurations, settings.folds, plan.configurations, len(folder.splits()))
    count = sum(map(len, folds.values()))
    chosen = [plan.configurations[name] for name in folds]
    stores = {store_name(plan, name): plan.configurations[name] for name in folds}
    sizes = [_case_bytes(fingerprint, plan, configuration) for configuration in stores.values()]
    kept = sum(_logit_bytes(plan, size) for size in sizes) if len(folds) > 1 else 0
    length = (f"{settings.epochs} epochs of {settings.train.steps_per_epoch} steps" if settings.epochs
              else format_seconds(settings.budget_s))
    weights = max(_weight_bytes(configuration) for configuration in chosen)
    device = (named_devices(elsewhere) if elsewhere else choose_devices(settings.device))[0]
    step = max(_step_bytes(components, plan, item, settings, device) for item in chosen)
    # how large another machine's device is nobody can ask from here
    held, total = max(sum(size) for size in sizes), 0 if elsewhere else total_memory(device)
    waiting = [plan.configurations[name] for name, wanted in folds.items() if total and any(
        not (folder.training(name, fold) / "done.json").exists() for fold in wanted)]
    disk = sum(sum(size) for size in sizes) + kept + WEIGHT_COPIES * 2 * weights * count
    return Estimate(
        length=length,
        trainings=count,
        train_s=settings.budget_s or None,
        disk_bytes=disk,
        memory_bytes=PROGRAM_BYTES + step + (min(held, total // 2) if total else held) + WEIGHT_COPIES * weights,
        device=f"{elsewhere}, where the executor {settings.executor} has trainings run" if elsewhere
        else describe_device(device),
        folder=str(folder.path),
        device_bytes=total,
        too_large=tuple(filter(None, (too_large(components, plan, item, settings) for item in waiting))),
    )


def too_large(components: Components, plan: Plan, configuration: Configuration, settings: Settings) -> Record | None:
    """The fault of a configuration that cannot be trained on the chosen device, which is CUDA; None where it may be.

    Only what can never fit is refused: its feature maps, each kept once in 16 bits, and the weights are more than the
    whole memory of the device. What fits only if nobody else uses the device is tried.
    """
    devices = choose_devices(settings.device)
    total = total_memory(devices[0])
    if not total:
        return None
    forms, classes = _forms(components, configuration, settings), len(plan.description.labels.values)
    least = min(-(-form.batch // len(devices)) * LEAST_A_VALUE * components.architecture.feature_map_size(
        form.topology, form.patch, classes) + _weight_bytes(form) for form in forms)
    if least <= total:
        return None
    planned = float(getattr(components.planner, "vram_gb", 0.0))
    likely = _step_bytes(components, plan, configuration, settings, devices[0])
    target = f"{math.floor(9 * planned * total / likely) / 10:g}" if planned else "…"
    return Record(code="SEG-R09", found=f"{describe_device(devices[0])} has {format_bytes(total)} of memory",
                  expected=f"more than {format_bytes(least)} for a step of {configuration.name} (patch "
                  f"{'×'.join(map(str, configuration.patch))}, batch {configuration.batch})",
                  advice=less_memory(str(devices[0]), target))


def batch_parts(batch: int, values: int) -> int:
    """In how many parts a CPU works on a batch whose samples have `values` feature map values each."""
    return min(batch, -(-batch * values * BYTES_A_VALUE // PART_BYTES))


def format_bytes(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def format_seconds(seconds: float) -> str:
    """A time as a person reads it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _case_bytes(fingerprint: Fingerprint, plan: Plan, configuration: Configuration) -> list[int]:
    """Bytes of each case at the configuration's spacing."""
    sizes = []
    for shape, spacing in zip(fingerprint.shapes, fingerprint.spacings, strict=True):
        turned = [(shape[axis], spacing[axis]) for axis in plan.transpose_forward]
        new = [n if configuration.dims == 2 and axis == 0 else max(1, round(s / wanted * n))
               for axis, ((n, s), wanted) in enumerate(zip(turned, configuration.spacing, strict=True))]
        channels = len(plan.description.channel_names)
        sizes.append(math.prod(new) * (BYTES_IMAGE * channels + BYTES_LABEL))
    return sizes


def _logit_bytes(plan: Plan, sizes: list[int]) -> int:
    """Bytes of the logits that validation keeps where configurations may be combined, from those of the cases."""
    voxel = BYTES_IMAGE * len(plan.description.channel_names) + BYTES_LABEL
    return sum(sizes) // voxel * BYTES_LOGIT * plan.description.labels.outputs


def _weight_bytes(configuration: Configuration) -> int:
    """Bytes of the weights, counting two convolutions a stage on both sides."""
    topology = configuration.topology
    total = 0
    for features, kernel, blocks in zip(topology.features, topology.kernels, topology.blocks, strict=True):
        total += 2 * blocks * features * features * math.prod(kernel)
    return total * BYTES_WEIGHT


def _step_bytes(
    components: Components, plan: Plan, configuration: Configuration, settings: Settings, device: torch.device
) -> int:
    """Bytes of the feature maps that are kept at a time in one step."""
    labels = plan.description.labels
    parted = device.type == "cpu" and isinstance(components.loss.build(labels, configuration), PartedCriterion)
    sizes = []
    for form in _forms(components, configuration, settings):
        values = components.architecture.feature_map_size(form.topology, form.patch, len(labels.values))
        at_once = -(-form.batch // batch_parts(form.batch, values)) if parted else form.batch
        sizes.append(at_once * _sample_bytes(form, values, settings, device))
    return min(sizes)


def _sample_bytes(form: Configuration, values: int, settings: Settings, device: torch.device) -> int:
    """Bytes that are kept of one sample with so many feature map values."""
    if device.type == "cpu":
        return values * BYTES_A_VALUE
    kept = BYTES_A_VALUE // 2 if is_16_bit(device, settings.train.autocast) else BYTES_A_VALUE
    return values * kept + LOSS_BYTES * form.topology.outputs * math.prod(form.patch)


def _forms(components: Components, configuration: Configuration, settings: Settings) -> Sequence[Configuration]:
    """The configuration, and what a budget of time may make of it."""
    further = components.planner.reductions(configuration) if settings.budget_s else ()
    return [configuration, *(form for form, _ in further)]
