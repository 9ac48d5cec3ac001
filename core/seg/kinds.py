"""The kinds of component, as interfaces: what each is asked and what it gives.

A component is a frozen attrs class whose fields are its options (declare them with `seg.option`). Its module imports no
torch at top; the methods that need it import it. No base class is needed: whatever has the methods is one.

Axes: B batch, C channels, K outputs, Z Y X voxels. A 2-D configuration has patches (Y, X) and batches (B, C, Y, X);
cases always lie in memory as (C, Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from attrs import frozen

from seg.models import (
    Configuration,
    Dataset,
    Description,
    Evaluation,
    Fingerprint,
    Intensities,
    Labels,
    Plan,
    Size3,
    Topology,
)
from seg.training_kinds import Executor, Loss, Recipe

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from seg.model import Model
    from seg.progress import Progress


@runtime_checkable
class Layout(Protocol):
    """How a folder (or a list of files) is read as a data set."""

    def recognises(self, path: Path) -> bool:
        """Whether `path` looks like this layout. Cheap: no image is opened, no exception raised."""

    def read(self, path: Path, labels: dict[str, int] | None) -> Dataset:
        """The data set at `path`. `labels` (name → file value) takes the place of what the layout knows of classes.

        Whatever is wrong with single cases goes into `Dataset.faults`.

        Raises:
            SegError: the data set as a whole cannot be read, with all the reasons.
        """


@runtime_checkable
class Fingerprinter(Protocol):
    """Looks at every case once, and says what a planner may know."""

    def fingerprint(self, dataset: Dataset, progress: Progress) -> Fingerprint:
        """The fingerprint of `dataset`, whose files have passed the check; `progress.advance()` after each case.

        Images are read by `seg.read_image(case.images, dataset.description.orientation)`, label maps with the turn of
        their image, so that sizes and spacings are those of what is trained on.
        """


@runtime_checkable
class Planner(Protocol):
    """Decides everything that training needs, from the fingerprint alone."""

    default_architecture: ClassVar[str]

    def plan(self, fingerprint: Fingerprint, description: Description, architecture: Architecture) -> Plan:
        """The plan, with a reason for each value. Reads no image.

        `Plan.planner`, `Plan.architecture` and `Plan.source` are filled in by the caller.
        """

    def reductions(self, configuration: Configuration) -> Iterator[tuple[Configuration, str]]:
        """Cheaper and cheaper forms of `configuration`, each with its reason.

        Asked for where a time budget would leave the planned network too few steps.
        """


@runtime_checkable
class Architecture(Protocol):
    """A network that is built from a topology.

    It may also have `from_nnunet(weights)`, a state of one of nnU-Net's networks under the names of its own, so that
    `seg import-nnunet` takes models of that network (see `seg.rename_nnunet`).
    """

    def topology(
        self,
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        in_channels: int,
        outputs: int,
    ) -> Topology:
        """The topology for these kernels and strides (one a stage), with this architecture's features and blocks."""

    def feature_map_size(self, topology: Topology, patch: Sequence[int], classes: int) -> int:
        """How many values its feature maps hold for one sample of size `patch`.

        This is how a planner counts memory (Isensee et al. 2021). `classes` counts the entries of the data set's
        `labels`.
        """

    def loss_weights(self, topology: Topology) -> tuple[float, ...]:
        """The weight of each output in the loss, summing to 1; one entry without deep supervision."""

    def build(self, topology: Topology) -> torch.nn.Module:
        """A module from float images (B, C, *patch) to a list of logits (B, K, *size).

        The first is at the patch's size and used for prediction, the others are of the same size or coarser. In
        `eval()` mode one entry is enough.
        """


@runtime_checkable
class Prunable(Protocol):
    """What an architecture may offer beside: trained networks that contain smaller ones, whole from image to logits.

    Levels are known by name. The smaller ones are parts of the whole, with the same weights, and are trained with it:
    each has its output among those that the loss sees.
    """

    def levels(self, topology: Topology) -> tuple[str, ...]:
        """The names of the levels that a trained network of this topology contains, cheapest first, the whole last."""

    def prune(self, network: torch.nn.Module, level: str) -> torch.nn.Module:
        """The part of `network` (of `build`, or pruned before) that is the level `level`, its weights shared.

        Its first output is that level's. It has what this level and the smaller ones need and nothing else, so that it
        can be pruned further; at the last level it gives the same numbers as the whole.

        Raises:
            ValueError: `network` does not contain the level.
        """


@runtime_checkable
class NnUNetArchitecture(Architecture, Protocol):
    """An architecture that plays one of nnU-Net's networks, so that models of nnU-Net can be imported."""

    def from_nnunet(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of nnU-Net's network under the names of the module that `build` makes.

        `weights` are a state of nnU-Net's network, in which most tensors stand under several names. The answer is held
        against the module, so a name that is not known may stay as it is. `seg.rename_nnunet` does most of it.
        """


@frozen(kw_only=True)
class CaseIndex:
    """Where a sampler may look in one case, without its voxels.

    `locations` maps the position of a class in `Labels.foreground` to voxels of it, int32 (N, 3) in (z, y, x). Under an
    ignore label, the key -1 has voxels that are annotated, whatever they are.
    """

    case: str
    shape: Size3
    locations: dict[int, NDArray[np.int32]]


@frozen(kw_only=True)
class Position:
    """One entry of a batch.

    The case (its place in the list), the start of the patch in voxels of the case (it may lie outside, what is outside
    reads as zero), and the class that was forced to occur in it, if any.
    """

    case: int
    start: Size3
    forced_class: int | None = None


@runtime_checkable
class Sampler(Protocol):
    """Chooses what the next batch is cut from."""

    def positions(
        self, index: Sequence[CaseIndex], configuration: Configuration, margin: Size3, rng: np.random.Generator
    ) -> list[Position]:
        """`configuration.batch` positions of patches of size `configuration.patch3`.

        `margin` is what the augmenter may read around a patch in all (both sides together), per axis. Every random
        number comes from `rng`, which is made anew for each step from seed and step.
        """


@frozen(kw_only=True, eq=False)
class CaseArrays:
    """One preprocessed case as it lies in memory (tensors), or on disk (HDF5 datasets with the same slicing).

    `image` is float32 (C, Z, Y, X), `label` int16 (Z, Y, X) with -1 outside the non-zero region. `previous` is what the
    previous stage of a cascade predicted, ids int16 (Z, Y, X) on the same grid; None where there is no such stage.
    """

    image: Any
    label: Any
    previous: Any = None


@frozen(kw_only=True, eq=False)
class Batch:
    """What the network is trained on: image float32 (B, C, *patch), label int64 (B, *patch), no negative labels.

    In the second stage of a cascade the image's last channels are the previous stage's prediction, one for each label
    (see `seg.previous_channels`).
    """

    image: torch.Tensor
    label: torch.Tensor


@runtime_checkable
class Augmenter(Protocol):
    """Makes batches out of cases and positions, on the device."""

    def margin(self, configuration: Configuration) -> Size3:
        """What it may read around a patch, per axis, both sides together."""

    def batch(
        self,
        cases: Sequence[CaseArrays],
        positions: Sequence[Position],
        configuration: Configuration,
        rng: np.random.Generator,
        device: torch.device,
    ) -> Batch:
        """The batch for `positions` on `device`. Every random number comes from `rng`."""


@frozen(kw_only=True)
class Candidate:
    """A trained configuration (or a fold of one) that may take part in an ensemble, with its validation result."""

    name: str
    evaluation: Evaluation


@runtime_checkable
class Ensembler(Protocol):
    """Chooses among candidates and combines their outputs."""

    def select(self, candidates: Sequence[Candidate]) -> tuple[str, ...]:
        """The names of the candidates to combine, at least one."""

    def combine_folds(self, logits: Iterable[torch.Tensor]) -> torch.Tensor:
        """One map of logits (K, Z, Y, X) from those of the folds of one configuration, which share a grid.

        Where memory is short it is called for one class after the other, with maps (1, Z, Y, X), unless the ensembler
        is a `LabelledEnsembler`.
        """

    def combine_configurations(self, probabilities: Iterable[torch.Tensor]) -> torch.Tensor:
        """One map of probabilities (K, Z, Y, X) on the case's grid from those of several configurations."""


@runtime_checkable
class LabelledEnsembler(Protocol):
    """What an ensembler may offer beside: it combines by what the maps mean, so it is told their labels.

    It always gets all K maps of a voxel together: where memory is short, a few slices (K, z, Y, X) after the other in
    place of one class after the other.
    """

    def for_labels(self, labels: Labels) -> Ensembler:
        """The ensembler that combines maps of these labels, in place of this one."""


@runtime_checkable
class Postprocessor(Protocol):
    """Learns from validated cases how predicted label maps get better, and does it to new ones.

    Arrays are ids (Z, Y, X) as `seg.read_label` gives them: whole numbers, the truth with the ignore label where there
    is one.
    """

    def learn(
        self, cases: Sequence[Callable[[], tuple[NDArray[Any], NDArray[Any]]]], labels: Labels
    ) -> tuple[str, ...]:
        """The steps that help on `cases`, in their order; none where nothing helps.

        Each of `cases` reads one case, (truth, prediction), from the disk whenever it is called: keep no two at once,
        and call it no more often than needed. A step is a text that a model stores; what it says is up to the
        component.
        """

    def apply(self, predicted: NDArray[Any], labels: Labels, steps: Sequence[str]) -> NDArray[Any]:
        """A copy of `predicted`, ids (Z, Y, X), with `steps` done to it; shape and dtype stay.

        Raises:
            SegError: a step that is none of this component's (exit 7).
        """


@runtime_checkable
class Normaliser(Protocol):
    """How the intensities of a channel are brought to a common scale, before resampling.

    A plan names one for each channel (`Configuration.normalization`); it is built with the defaults of its options, for
    training and prediction alike. `uses_intensities`: whether it asks for the statistics of the data set; if they
    change, the cases are prepared anew.
    """

    uses_intensities: ClassVar[bool]

    def normalise(
        self, channel: NDArray[np.float32], inside: NDArray[np.bool_] | None, intensities: Intensities | None
    ) -> NDArray[np.float32]:
        """A channel, float32 (Z, Y, X), cropped to the non-zero region, on the new scale; `channel` is read-only.

        The answer is float32 of the same shape, without infinities and NaN; it may be `channel` itself. `inside` is the
        non-zero region where the plan wants statistics of it alone (and only it changed), else None. `intensities` are
        of the foreground over the whole data set; None without `uses_intensities`, or where the plan has none.

        Raises:
            SegError: the channel's values are not what this normaliser is for.
        """


@runtime_checkable
class Metric(Protocol):
    """How a predicted class is compared with the true one, beside Dice, HD95 and NSD, which are always made.

    It is built with the defaults of its options. `larger_is_better` decides which candidate wins by it.
    """

    larger_is_better: ClassVar[bool]

    def measure(
        self, truth: NDArray[np.bool_], predicted: NDArray[np.bool_], spacing: tuple[float, float, float]
    ) -> float | None:
        """The metric of one class in one case.

        `truth` and `predicted` are maps (Z, Y, X) on the case's own grid, not both empty; `spacing` is in mm, its
        first entry without meaning where there is one slice. None where it is not defined, which then counts in no
        mean. One that raises, or gives an infinity, NaN or no number, is told by name and counts as not defined.
        """


@runtime_checkable
class Exporter(Protocol):
    """A trained model in another program's format."""

    def export(self, model: Model, folder: Path) -> tuple[Path, ...]:
        """Write `model` into the new, empty folder `folder`; returns the files, at least one, all inside of it.

        The folder takes its final name when all is written; if this fails, nothing is left.

        Raises:
            SegError: the model cannot be put into this format, or a package is missing (exit 6).
        """


INTERFACES: dict[str, type] = {
    "fingerprinter": Fingerprinter,
    "planner": Planner,
    "architecture": Architecture,
    "augmenter": Augmenter,
    "sampler": Sampler,
    "ensembler": Ensembler,
    "postprocessor": Postprocessor,
    "layout": Layout,
    "loss": Loss,
    "recipe": Recipe,
    "normaliser": Normaliser,
    "metric": Metric,
    "exporter": Exporter,
    "executor": Executor,
}
