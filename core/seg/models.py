"""What a run knows, as data: frozen attrs classes that are stored as readable JSON.

Axes are (z, y, x) unless a name says otherwise; a two-dimensional image has one slice (z = 1) of spacing 999.
Sizes are in voxels, spacings in mm. From `Plan.transpose_forward` on, axes are in the plan's transposed order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import ge, gt

from seg.errors import Record

Size3 = tuple[int, int, int]
Spacing3 = tuple[float, float, float]


@frozen(kw_only=True)
class Case:
    """One case on disk: one image file for each channel (or one with all channels), and its label map."""

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    group: str | None = None  # the patient, where several cases are of one
    stratum: str | None = None  # what every fold shall have its share of: the hospital, the disease


@frozen(kw_only=True)
class Labels:
    """The classes: their names, their ids in training, their values in the files.

    `values` maps a name to its id, or to a list of ids for a region (nnU-Net 2.8); `background` is 0. `file_values`
    maps ids to what stands in the files where the two differ; every other file value is then background, and
    predictions are written with the file's own values.
    """

    values: dict[str, int | tuple[int, ...]]
    file_values: dict[int, int] = field(factory=dict)
    regions_class_order: tuple[int, ...] = ()

    @property
    def has_regions(self) -> bool:
        """Whether a class is made of several ids, so that the network learns overlapping maps (sigmoid)."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.values.values())

    @property
    def ignore(self) -> int | None:
        """The id of voxels nobody labelled, or None."""
        value = self.values.get("ignore")
        return value if isinstance(value, int) else None

    @property
    def foreground(self) -> dict[str, tuple[int, ...]]:
        """Name to ids of every class that is learnt: neither background nor ignore, in declared order."""
        as_tuples = {name: value if isinstance(value, tuple) else (value,) for name, value in self.values.items()}
        return {name: ids for name, ids in as_tuples.items() if name != "ignore" and ids != (0,)}

    @property
    def outputs(self) -> int:
        """How many maps the network gives: classes with background (softmax), or regions (sigmoid)."""
        return len(self.foreground) + (0 if self.has_regions else 1)

    @property
    def ids(self) -> tuple[int, ...]:
        """Every id that a label map may hold, ascending."""
        found = {0}
        for value in self.values.values():
            found.update(value if isinstance(value, tuple) else (value,))
        return tuple(sorted(found))

    def file_value(self, label_id: int) -> int:
        """What the files write for `label_id`."""
        return self.file_values.get(label_id, label_id)


def orientation_code(_: Any, attribute: Attribute[str], value: str) -> None:
    """Validator: empty, or where x, y and z point to, as "RAS" and the like."""
    if value and not (len(value) == 3 and all(len(set(value) & set(pair)) == 1 for pair in ("LR", "AP", "SI"))):
        raise ValueError(f"{attribute.name} {value!r}, expected one each of L or R, A or P, S or I, in the order of "
                         "x, y, z; for example RAS")


@frozen(kw_only=True)
class Description:
    """What a data set says of itself, without its images; all a planner may ask.

    To `orientation` (letters as in `seg.orientation`) every image is turned when it is read; empty: as it lies.
    """

    name: str
    channel_names: tuple[str, ...]
    labels: Labels
    training_cases: int
    file_ending: str = ".nii.gz"
    orientation: str = field(default="", validator=orientation_code)


@frozen(kw_only=True)
class Dataset:
    """A data set as a layout found it. `faults` holds what the layout itself could not make sense of."""

    description: Description
    root: Path
    layout: str
    cases: tuple[Case, ...]
    faults: tuple[Record, ...] = ()

    @property
    def labels(self) -> Labels:
        """The classes of the data set."""
        return self.description.labels


@frozen(kw_only=True)
class Intensities:
    """Statistics of one channel over the foreground of all cases, each case with equal weight (nnU-Net 2.8)."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


@frozen(kw_only=True)
class Fingerprint:
    """What a planner may know of the images: sizes, spacings, intensities, how often each class occurs."""

    schema: int = 1
    cases: tuple[str, ...]
    shapes: tuple[Size3, ...]  # after cropping to the non-zero region
    spacings: tuple[Spacing3, ...]
    relative_size_after_cropping: float  # median over the cases of voxels after / before
    intensities: tuple[Intensities, ...]  # one for each channel
    class_voxels: dict[str, int] = field(factory=dict)  # voxels of each foreground class, all cases together
    class_cases: dict[str, int] = field(factory=dict)  # cases in which it occurs
    orientations: dict[str, int] = field(factory=dict)  # "RAS" and the like → cases; letters in order x, y, z
    source: str = ""  # digest of what it was made from


@frozen(kw_only=True)
class Topology:
    """The shape of an encoder-decoder: what an architecture is built from.

    One entry a stage, finest first. `strides[0]` is 1; `blocks` counts the convolutions (or residual blocks) of each
    encoder stage, `decoder_blocks` those of each decoder stage. `outputs` are the maps of the head.
    """

    in_channels: int = field(validator=ge(1))
    outputs: int = field(validator=ge(1))
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    deep_supervision: bool = True

    @property
    def dims(self) -> int:
        """Two or three spatial axes."""
        return len(self.kernels[0])

    @property
    def stages(self) -> int:
        """Encoder stages, the bottleneck included."""
        return len(self.features)


@frozen(kw_only=True)
class Configuration:
    """One way to train on a data set: at which spacing, on which patches, with which network.

    `patch` has the network's axes, two or three. `spacing` always has three: for a 2-D configuration its first entry
    is not used, slices are never resampled across. `mirror_axes` count the axes of the patch. `reasons` says of a
    field why it has its value, of one of the topology under `topology.<field>`.
    """

    name: str
    spacing: Spacing3
    median_shape: tuple[float, ...]  # of the data set at this spacing; the axes of the patch
    patch: tuple[int, ...]
    batch: int = field(validator=ge(1))
    topology: Topology
    normalization: tuple[str, ...]  # the names of normalisers, one for each channel
    use_mask_for_norm: tuple[bool, ...]
    mirror_axes: tuple[int, ...]
    batch_dice: bool = False
    order_image: int = 3  # spline orders of resampling
    order_label: int = 1
    order_logits: int = 1
    previous_stage: str | None = None
    next_stage: str | None = None
    reasons: dict[str, str] = field(factory=dict)

    @property
    def dims(self) -> int:
        """Two or three spatial axes of the network."""
        return len(self.patch)

    @property
    def patch3(self) -> Size3:
        """The patch in three axes: one slice for a 2-D configuration."""
        full = (1, *self.patch) if self.dims == 2 else self.patch
        return full[0], full[1], full[2]


@frozen(kw_only=True)
class ComponentUse:
    """A component that was chosen: what it is, where it comes from, how its options stand."""

    kind: str
    name: str
    distribution: str
    version: str
    options: dict[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Plan:
    """All that a planner decided for a data set."""

    schema: int = 1
    description: Description
    planner: str
    architecture: str
    transpose_forward: Size3
    original_median_spacing: Spacing3  # of the fingerprint, transposed
    original_median_shape: tuple[float, float, float]  # of the fingerprint, transposed and rounded
    intensities: tuple[Intensities, ...]
    configurations: dict[str, Configuration]
    reasons: dict[str, str] = field(factory=dict)
    source: str = ""  # digest of the fingerprint and of the options it was made from

    @property
    def transpose_backward(self) -> Size3:
        """The inverse of `transpose_forward`."""
        a, b, c = (self.transpose_forward.index(axis) for axis in range(3))
        return a, b, c


@frozen(kw_only=True)
class CaseProperties:
    """How a preprocessed case came from its image, enough to go back.

    `spacing` and `shape` are the image's own, in the reader's axes (z, y, x), untransposed. `crop` is the half-open
    box [start, stop) of the non-zero region in transposed axes, `cropped_shape` its size.
    """

    case: str
    spacing: Spacing3
    shape: Size3
    crop_start: Size3
    crop_stop: Size3

    @property
    def cropped_shape(self) -> Size3:
        """Size of the cropped image, transposed axes, at the image's own spacing."""
        a, b, c = (stop - start for start, stop in zip(self.crop_start, self.crop_stop, strict=True))
        return a, b, c


@frozen(kw_only=True)
class ClassMetrics:
    """Metrics of one class in one case; None where a metric is not defined (see `seg.metrics`).

    `others` has the further metrics that were asked for (`metrics.also`), by their names.
    """

    dice: float | None
    hd95_mm: float | None
    nsd: float | None
    truth_voxels: int
    predicted_voxels: int
    others: dict[str, float | None] = field(factory=dict)

    def value(self, metric: str) -> float | None:
        """The value of a metric by its name; None where it is not defined, or was not asked for."""
        own = {"dice": self.dice, "hd95_mm": self.hd95_mm, "nsd": self.nsd}
        return own[metric] if metric in own else self.others.get(metric)


@frozen(kw_only=True)
class CaseMetrics:
    """Metrics of one case, for each foreground class by name; `failed` tells which could not be made, and why."""

    case: str
    classes: dict[str, ClassMetrics]
    failed: tuple[str, ...] = ()


@frozen(kw_only=True)
class Evaluation:
    """Metrics of a set of cases.

    Means are over classes of the mean over cases in which the class is present in truth or prediction; `absent` names
    the classes that are present nowhere, which count nowhere. `larger_is_better` has the further metrics.
    """

    cases: tuple[CaseMetrics, ...]
    class_means: dict[str, dict[str, float | None]]  # class → metric → mean over cases
    mean: dict[str, float | None]  # metric → mean over classes
    absent: tuple[str, ...] = ()
    tolerance_mm: float = field(default=1.0, validator=gt(0))
    larger_is_better: dict[str, bool] = field(factory=dict)

    @property
    def failed(self) -> tuple[str, ...]:
        """Which further metrics could not be made of which cases, and why; one sentence each."""
        return tuple(f"case {case.case}: {told}" for case in self.cases for told in case.failed)
