"""Whether components give what their kind promises. Checked where it is made or first used, and told with its plugin.

What a plugin of somebody else raises is its fault too (exit 6), not a bug of ours. Nothing here is done in every step
of a training: network and loss are tried once, on a small patch; positions and batch are looked at in the first step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from attrs import define

from seg.choice import OURS
from seg.errors import Exit, Record, SegError, tell
from seg.hookspecs import KINDS
from seg.kinds import (
    Architecture,
    Augmenter,
    Batch,
    CaseArrays,
    CaseIndex,
    Ensembler,
    LabelledEnsembler,
    Position,
    Sampler,
)
from seg.models import ComponentUse, Configuration, Labels, Plan, Size3, Topology

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from seg.training_kinds import Criterion

T = TypeVar("T")
LONGEST = 60  # characters of a value that is shown


def contract_error(use: ComponentUse, found: str, expected: str) -> SegError:
    """The refusal of what a component did: its plugin, version and hook, what was found and what was expected."""
    who = f"{use.kind} {use.name!r} of {use.distribution} {use.version} (hook {KINDS[use.kind]})"
    return SegError(Record(code="SEG-P10", found=f"{who}: {found}", expected=expected), Exit.PLUGIN)


def unnamed(kind: str, component: Any) -> ComponentUse:
    """What stands for the record of a component's use where nobody chose it by name: its class."""
    package = type(component).__module__.partition(".")[0]
    return ComponentUse(kind=kind, name=type(component).__name__, distribution=package, version="?")


def expect(value: Any, kind: type[T], use: ComponentUse, method: str) -> T:
    """`value`, which `method` of a component gave, if it is of the type `kind`.

    Raises:
        SegError: it is not (SEG-P10, exit 6).
    """
    if not isinstance(value, kind):
        raise contract_error(use, f"{method} gave {shown(value)}", f"{kind.__module__}.{kind.__qualname__}")
    return value


@contextmanager
def blamed(use: ComponentUse, method: str) -> Iterator[None]:
    """What a component of somebody else's raises becomes its fault (SEG-P10, exit 6); ours are our bugs.

    Refusals and lack of memory stay what they are.
    """
    try:
        yield
    except (SegError, MemoryError):
        raise
    except Exception as error:
        if use.distribution == OURS or type(error).__name__ == "OutOfMemoryError":
            raise
        raise contract_error(use, f"{method} raised {tell(error)}", "a result, or seg.SegError") from error


def shown(value: Any) -> str:
    """The type of a value, and what else tells it: shape and dtype, or itself if it is short."""
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name} {tuple(value.shape)} {value.dtype}"
    text = repr(value)
    return name if value is None or len(text) > LONGEST else f"{name} {text}"


def check_topology(architecture: Architecture, use: ComponentUse) -> None:
    """Ask an architecture for a small topology before a planner does, so that a wrong one is not the planner's fault.

    Raises:
        SegError: it is none (exit 6). One that cannot be that small may refuse.
    """
    try:
        found = architecture.topology([[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]], 1, 2)
    except Exception:  # noqa: BLE001 - the planner's own question is the one that counts
        return
    expect(found, Topology, use, "topology")


def check_plan(plan: Any, uses: Mapping[str, ComponentUse]) -> Plan:
    """`plan`, if it is one, and every topology in it one too."""
    found = expect(plan, Plan, uses["planner"], "plan")
    for name, configuration in expect(found.configurations, dict, uses["planner"], "plan, as configurations,").items():
        expect(configuration, Configuration, uses["planner"], f"plan, as configuration {name!r},")
        expect(configuration.topology, Topology, uses["planner"], f"plan, as topology of {name!r},")
    return found


def build_network(architecture: Architecture, topology: Topology, use: ComponentUse) -> torch.nn.Module:
    """The network of a topology, if what `build` gives is one."""
    from torch import nn

    with blamed(use, "build"):
        network: Any = architecture.build(topology)
    return expect(network, nn.Module, use, "build")


def loss_weights(architecture: Architecture, topology: Topology, use: ComponentUse) -> tuple[float, ...]:
    """The weights of the outputs, if they are that: none below 0, summing to 1."""
    with blamed(use, "loss_weights"):
        weights: Any = architecture.loss_weights(topology)
    try:
        fits = min(weights) >= 0 and math.isclose(sum(weights), 1, abs_tol=1e-3)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise contract_error(use, f"loss_weights gave {shown(weights)}", "numbers from 0, summing to 1")
    return tuple(weights)


def try_network(
    network: torch.nn.Module, configuration: Configuration, weights: Sequence[float], use: ComponentUse
) -> None:
    """Give a new network one small patch of random values, in training mode and in `eval()`, without gradients.

    The patch is the least that the strides allow, two voxels wide at the bottom, so that an instance norm has something
    to count. A network that cannot take it is tried on the planned patch. Buffers and the state of torch's generators
    are as before.

    Raises:
        SegError: no list of logits, wrong sizes, values that are no numbers, not one output for each weight (exit 6).
    """
    import torch

    planned = configuration.patch
    kept = {name: value.clone() for name, value in network.named_buffers()}
    training = network.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            small = small_patch(configuration)
            try:
                _try_patch(network, small, configuration, weights, use)
            except SegError:
                if small == planned:
                    raise
                _try_patch(network, planned, configuration, weights, use)
    finally:
        network.train(training)
        with torch.no_grad():
            for name, value in network.named_buffers():
                if name in kept:
                    value.copy_(kept[name])


def small_patch(configuration: Configuration) -> tuple[int, ...]:
    """The smallest patch that the strides allow and that has two voxels at the bottom; at most the planned one."""
    least = [math.prod(stride[axis] for stride in configuration.topology.strides)
             for axis in range(configuration.dims)]
    longest = max(range(configuration.dims), key=lambda axis: configuration.patch[axis] // least[axis])
    least[longest] *= 2
    return tuple(min(size, most) for size, most in zip(least, configuration.patch, strict=True))


def _try_patch(
    network: torch.nn.Module, patch: Sequence[int], configuration: Configuration, weights: Sequence[float],
    use: ComponentUse,
) -> None:  # fmt: skip
    import torch

    topology = configuration.topology
    values = torch.randn((1, topology.in_channels, *patch), generator=torch.Generator().manual_seed(0))
    for training in (True, False):
        network.train(training)
        where = "the network in training" if training else "the network in eval()"
        with blamed(use, f"{where}, for {tuple(values.shape)},"):
            outputs: Any = network(values)
        if not isinstance(outputs, list | tuple):
            raise contract_error(use, f"{where} gave {shown(outputs)}", "a list of logits (B, K, *size)")
        if not outputs or (training and len(outputs) != len(weights)):
            raise contract_error(use, f"{where} gave {len(outputs)} outputs",
                                 f"{len(weights)}, one for each of its loss weights" if training else "at least one")
        for index, output in enumerate(outputs):
            _check_output(output, index, patch, topology.outputs, f"{where}, as output {index},", use)


def _check_output(output: Any, index: int, patch: Sequence[int], classes: int, where: str, use: ComponentUse) -> None:
    import torch

    expect(output, torch.Tensor, use, where)
    size = tuple(output.shape[2:])
    fits = output.shape[:2] == (1, classes) and len(size) == len(patch)
    if index == 0:
        fits = fits and size == tuple(patch)
    else:
        fits = fits and all(length <= most for length, most in zip(size, patch, strict=True))
    if not fits:
        told = ", ".join(map(str, (1, classes, *patch)))
        raise contract_error(use, f"{where} gave {shown(output)}", f"({told})" + (" or coarser" if index else ""))
    if not output.is_floating_point() or not bool(torch.isfinite(output).all()):
        raise contract_error(use, f"{where} gave values that are no numbers, for an input of standard normal ones",
                             "finite logits")


@define
class FirstPositions:
    """A sampler whose first positions are checked."""

    inner: Sampler
    use: ComponentUse
    checked: bool = False

    def positions(
        self, index: Sequence[CaseIndex], configuration: Configuration, margin: Size3, rng: np.random.Generator
    ) -> list[Position]:
        """Those of the sampler; raises SegError (exit 6) where the first are not what its kind promises."""
        if self.checked:
            return self.inner.positions(index, configuration, margin, rng)
        with blamed(self.use, "positions"):
            found: Any = self.inner.positions(index, configuration, margin, rng)
        count = len(found) if isinstance(found, list | tuple) else -1
        if count != configuration.batch:
            what = f"{count} positions" if count >= 0 else shown(found)
            raise contract_error(self.use, f"positions gave {what}", f"a list of {configuration.batch} seg.Position")
        for position in found:
            expect(position, Position, self.use, "positions, as one of them,")
            if position.case not in range(len(index)) or len(position.start) != 3:
                raise contract_error(self.use, f"positions gave {shown(position)}",
                                     f"a case from 0 to {len(index) - 1} and a start of three voxels")
        self.checked = True
        return list(found)


@define
class FirstBatch:
    """An augmenter whose first batch is checked."""

    inner: Augmenter
    use: ComponentUse
    checked: bool = False

    def margin(self, configuration: Configuration) -> Size3:
        """The augmenter's margin; raises SegError (exit 6) where it is none."""
        if self.checked:
            return self.inner.margin(configuration)
        with blamed(self.use, "margin"):
            found: Any = self.inner.margin(configuration)
        if not (isinstance(found, list | tuple) and len(found) == 3 and all(value >= 0 for value in found)):
            raise contract_error(self.use, f"margin gave {shown(found)}", "three numbers of voxels from 0")
        return found[0], found[1], found[2]

    def batch(
        self,
        cases: Sequence[CaseArrays],
        positions: Sequence[Position],
        configuration: Configuration,
        rng: np.random.Generator,
        device: torch.device,
    ) -> Batch:
        """The augmenter's batch; raises SegError (exit 6) where the first is not what its kind promises."""
        if self.checked:
            return self.inner.batch(cases, positions, configuration, rng, device)
        with blamed(self.use, "batch"):
            found: Any = self.inner.batch(cases, positions, configuration, rng, device)
        check_batch(found, configuration, device, self.use)
        self.checked = True
        return expect(found, Batch, self.use, "batch")


def check_batch(batch: Any, configuration: Configuration, device: torch.device, use: ComponentUse) -> None:
    """Types, sizes and dtypes of a batch, its device, finite images, no negative label. Waits for the device.

    Raises:
        SegError: it is not what an augmenter promises (exit 6).
    """
    import torch

    expect(batch, Batch, use, "batch")
    size, channels = configuration.batch, configuration.topology.in_channels
    wanted = {"image": ((size, channels, *configuration.patch), torch.float32),
              "label": ((size, *configuration.patch), torch.int64)}
    for name, (shape, dtype) in wanted.items():
        found = expect(getattr(batch, name), torch.Tensor, use, f"batch, as {name},")
        if tuple(found.shape) != shape or found.dtype != dtype or found.device.type != device.type:
            raise contract_error(use, f"batch, as {name}, gave {shown(found)} on {found.device}",
                                 f"{shape} {dtype} on {device}")
    if int(batch.label.min()) < 0:
        raise contract_error(use, f"batch gave labels down to {int(batch.label.min())}", "no negative ones")
    if not bool(torch.isfinite(batch.image).all()):
        raise contract_error(use, "batch gave images with values that are no numbers", "finite ones")


def try_loss(criterion: Criterion, labels: Labels, configuration: Configuration, use: ComponentUse) -> None:
    """Give a loss random logits and ids of a small patch: a finite scalar with a gradient must come of it.

    Raises:
        SegError: something else comes of it (exit 6).
    """
    import torch

    patch, generator = small_patch(configuration), torch.Generator().manual_seed(0)
    logits = torch.randn((2, labels.outputs, *patch), generator=generator).requires_grad_()
    known = torch.tensor(labels.ids)
    ids = known[torch.randint(len(known), (2, *patch), generator=generator)]
    with blamed(use, "the loss"):
        value = criterion(logits, ids)
    check_loss(value, logits, use)


def check_loss(value: Any, logits: torch.Tensor, use: ComponentUse) -> None:
    """Whether a loss of `logits` is a floating scalar, finite if they are, and has a gradient if they do."""
    import torch

    found = expect(value, torch.Tensor, use, "the loss")
    if found.ndim or not found.is_floating_point():
        raise contract_error(use, f"the loss gave {shown(found)}", "a float32 scalar")
    if logits.requires_grad and not found.requires_grad:
        raise contract_error(use, "the loss gave a value without a gradient", "one that depends on the logits")
    if bool(torch.isfinite(logits).all()) and not bool(torch.isfinite(found)):
        raise contract_error(use, f"the loss gave {found.item()} for finite logits", "a number")


def check_selection(chosen: Any, known: Sequence[str], use: ComponentUse) -> tuple[str, ...]:
    """The names that an ensembler chose, if there are any, each known and none twice."""
    fits = isinstance(chosen, list | tuple) and chosen and all(isinstance(name, str) for name in chosen)
    if not fits or set(chosen) - set(known) or len(set(chosen)) < len(chosen):
        raise contract_error(use, f"select gave {shown(chosen)}", f"names out of {', '.join(known)}")
    return tuple(chosen)


def check_map(found: Any, shape: Sequence[int] | None, use: ComponentUse, method: str) -> torch.Tensor:
    """The map (K, Z, Y, X) that an ensembler made of several, if it has the size of one (None: not known).

    Does not wait for the device.
    """
    import torch

    tensor = expect(found, torch.Tensor, use, method)
    fits = tensor.ndim == 4 if shape is None else tuple(tensor.shape) == tuple(shape)
    if not fits or not tensor.is_floating_point():
        raise contract_error(use, f"{method} gave {shown(tensor)}", f"{shape or '(K, Z, Y, X)'}, floating")
    return tensor


def labelled(ensembler: Ensembler, labels: Labels, use: ComponentUse) -> Ensembler:
    """The ensembler that combines maps of `labels`: what `for_labels` gives, where it asks for them."""
    if not isinstance(ensembler, LabelledEnsembler):
        return ensembler
    with blamed(use, "for_labels"):
        found: Any = ensembler.for_labels(labels)
    if not isinstance(found, Ensembler):
        raise contract_error(use, f"for_labels gave {shown(found)}", "a seg.Ensembler")
    return found


def check_labels(found: Any, given: NDArray[Any], use: ComponentUse) -> NDArray[Any]:
    """The label map that a post-processor made of `given`, if size and dtype are as before."""
    array: NDArray[Any] = expect(found, np.ndarray, use, "apply")
    if array.shape != given.shape or array.dtype != given.dtype:
        raise contract_error(use, f"apply gave {shown(array)}", f"{given.shape} {given.dtype}, as it was given")
    return array


def check_steps(found: Any, use: ComponentUse) -> tuple[str, ...]:
    """The steps that a post-processor learnt, if they are texts."""
    if not (isinstance(found, list | tuple) and all(isinstance(step, str) for step in found)):
        raise contract_error(use, f"learn gave {shown(found)}", "texts")
    return tuple(found)
