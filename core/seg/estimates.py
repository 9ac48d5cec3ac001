"""What a run will take, said before it is taken: time, disk, memory."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from attrs import frozen

from seg.cascades import trainings
from seg.device import choose_devices, describe_device, named_devices
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

    def lines(self) -> list[str]:
        """The estimate in words."""
        total = f", {format_seconds(self.train_s * self.trainings)} of training in all" if self.train_s else ""
        return [
            f"device {self.device}; run folder {self.folder}",
            f"{self.trainings} training{'s' if self.trainings != 1 else ''} of {self.length} each{total}",
            f"disk about {format_bytes(self.disk_bytes)}, memory about {format_bytes(self.memory_bytes)}",
        ]

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
    step = max(_step_bytes(components, plan, item, settings, on_cpu=device.type == "cpu") for item in chosen)
    disk = sum(sum(size) for size in sizes) + kept + WEIGHT_COPIES * 2 * weights * count
    return Estimate(
        length=length,
        trainings=count,
        train_s=settings.budget_s or None,
        disk_bytes=disk,
        memory_bytes=PROGRAM_BYTES + step + max(sum(size) for size in sizes) + WEIGHT_COPIES * weights,
        device=f"{elsewhere}, where the executor {settings.executor} has trainings run" if elsewhere
        else describe_device(device),
        folder=str(folder.path),
    )


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
    components: Components, plan: Plan, configuration: Configuration, settings: Settings, *, on_cpu: bool
) -> int:
    """Bytes of the feature maps that are kept at a time in one step."""
    labels, forms = plan.description.labels, [configuration]
    parted = on_cpu and isinstance(components.loss.build(labels, configuration), PartedCriterion)
    if settings.budget_s:
        forms += [form for form, _ in components.planner.reductions(configuration)]
    sizes = []
    for form in forms:
        values = components.architecture.feature_map_size(form.topology, form.patch, len(labels.values))
        at_once = -(-form.batch // batch_parts(form.batch, values)) if parted else form.batch
        sizes.append(at_once * values * BYTES_A_VALUE)
    return min(sizes)
