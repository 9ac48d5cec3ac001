"""Laws of losses and recipes: what a network is trained to, and how. B batch, K outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from seg.errors import SegError
from seg.models import Labels
from seg.testing._check import Check, expect
from seg.testing._samples import IGNORING, PLAIN, REGIONS, configuration
from seg.training_kinds import Loss, PartedCriterion, Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from seg.training_kinds import Criterion

PATCHES = ((6, 8), (4, 6, 5))
KINDS = {"classes": PLAIN, "an ignore label": IGNORING, "regions": REGIONS}
SURE = 6.0  # a logit that is confident, but far from saturated
EXTREME = 1e4
STEPS = 60


# Losses


def _asked(loss: Loss) -> Iterator[tuple[str, Labels, tuple[int, ...], Criterion]]:
    """The loss for every sort of labels, in two and three dimensions, with the Dice of samples and of batches."""
    for name, labels in KINDS.items():
        for patch in PATCHES:
            for batch_dice in (False, True):
                plan = configuration(patch, labels=labels, batch_dice=batch_dice)
                yield f"{name}, {len(patch)}-D", labels, patch, loss.build(labels, plan)


def _ids(patch: Sequence[int], batch: int = 2) -> torch.Tensor:
    """Ids of background and both classes."""
    import torch

    return torch.randint(0, 3, (batch, *patch), generator=torch.Generator().manual_seed(0))


def _logits(patch: Sequence[int], labels: Labels, batch: int = 2) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, labels.outputs, *patch, generator=generator).requires_grad_()


def _right(ids: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Logits that say what the ids say, 1 or -1 in each map."""
    import torch

    classes = list(labels.foreground.values()) if labels.has_regions else [(0,), *labels.foreground.values()]
    maps = [torch.isin(ids, torch.tensor(members)) for members in classes]
    return torch.stack(maps, 1).float() * 2 - 1


def loss_scalar(loss: Loss) -> None:
    import torch

    for name, labels, patch, criterion in _asked(loss):
        for batch in (1, 2):
            found = criterion(_logits(patch, labels, batch), _ids(patch, batch))
            expect(found.shape == () and found.dtype == torch.float32, f"{found.dtype} {tuple(found.shape)} ({name})",
                   "a float32 scalar")
            expect(bool(found.isfinite()), f"{found.item()} ({name})", "a finite number")


def loss_gradient(loss: Loss) -> None:
    import torch

    for name, labels, patch, criterion in _asked(loss):
        logits, ids = _logits(patch, labels), _ids(patch)
        before = criterion(logits, ids)
        (slope,) = torch.autograd.grad(before, logits)
        expect(bool(slope.isfinite().all()) and bool(slope.any()), f"a gradient of {slope.abs().max().item()} ({name})",
               "finite ones, some of them not 0")
        after = criterion((logits - 1e-2 * slope / slope.abs().max()).detach(), ids)
        expect(after < before, f"{after.item():.6f} after a small step along the gradient ({name})",
               f"less than before, {before.item():.6f}")


def loss_better(loss: Loss) -> None:
    for name, labels, patch, criterion in _asked(loss):
        ids = _ids(patch)
        good, even, bad = (float(criterion(SURE * factor * _right(ids, labels), ids)) for factor in (1, 0, -1))
        expect(good < even < bad, f"{good:.4f} for a right, {even:.4f} for an undecided, {bad:.4f} for a wrong "
               f"prediction ({name})", "the smaller the better")


def loss_ignore(loss: Loss) -> None:
    import torch

    for name, labels, patch, criterion in _asked(loss):
        if labels.ignore is None:
            continue
        ids, logits = _ids(patch), _logits(patch, labels)
        ids[:, :2] = labels.ignore
        value = criterion(logits, ids)
        (slope,) = torch.autograd.grad(value, logits)
        expect(not bool(slope[:, :, :2].any()), f"a gradient in voxels that are ignored ({name})", "0 there")
        other = logits.detach().clone()
        other[:, :, :2] = -3 * other[:, :, :2] + 1
        expect(bool((criterion(other, ids) - value).abs() < 1e-5), f"another loss with other logits there ({name})",
               "the same")
        nothing = criterion(logits, torch.full_like(ids, labels.ignore))
        expect(bool(nothing.isfinite()), f"{nothing.item()} where all is ignored ({name})", "a finite number")


def loss_absent(loss: Loss) -> None:
    import torch

    for name, labels, patch, criterion in _asked(loss):
        for only in (0, 1):
            logits = _logits(patch, labels)
            value = criterion(logits, torch.full((2, *patch), only))
            (slope,) = torch.autograd.grad(value, logits)
            expect(bool(value.isfinite()) and bool(slope.isfinite().all()),
                   f"{value.item()} where the only id is {only} ({name})", "a finite number with finite gradients")


def loss_extreme(loss: Loss) -> None:
    import torch

    for name, labels, patch, criterion in _asked(loss):
        ids = _ids(patch)
        for factor in (EXTREME, -EXTREME):
            logits = (factor * _right(ids, labels)).requires_grad_()
            value = criterion(logits, ids)
            (slope,) = torch.autograd.grad(value, logits)
            expect(bool(value.isfinite()) and bool(slope.isfinite().all()),
                   f"{value.item()} for logits of ±{EXTREME:g} ({name})", "a finite number with finite gradients")


def loss_parts(loss: Loss) -> None:
    import torch

    for name, labels, patch, criterion in _asked(loss):
        if not isinstance(criterion, PartedCriterion):  # it is always given whole batches
            continue
        ids, logits = _ids(patch, 3), _logits(patch, labels, 3)
        if labels.ignore is not None:
            ids[0, :2] = labels.ignore  # so that voxels that count are not shared out as the samples are
        parts = [(logits[part], ids[part]) for part in (slice(0, 2), slice(2, 3))]
        sums = torch.stack([criterion.sums(*part) for part in parts]).sum(0).detach() if criterion.takes_sums else None
        found = torch.stack([criterion.part(*part, len(part[1]) / len(ids), sums) for part in parts]).sum()
        whole = criterion(logits, ids)
        expect(bool(torch.isclose(found, whole, rtol=1e-4, atol=1e-5)),
               f"parts that add up to {found.item():.6f} ({name})", f"the loss of the whole batch, {whole.item():.6f}")
        (slope,), (wanted,) = (torch.autograd.grad(value, logits) for value in (found, whole))
        apart = ((slope - wanted).abs().max() / wanted.abs().max()).item()
        expect(apart < 1e-3, f"gradients of the parts that are {apart:.2g} of the largest off ({name})",
               "those of the whole batch")


# Recipes


def _network() -> nn.Module:
    """Parameters of several shapes, with a bias and one that a recipe might take for special."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))


def _grid() -> Iterator[tuple[float, float]]:
    """Progress of steps, and of the epochs that they are in."""
    for tenth in range(10):
        for part in (0.0, 0.03, 0.0999):
            yield tenth / 10 + part, tenth / 10


def _step(recipe: Recipe, network: nn.Module, optimizer: torch.optim.Optimizer, done: float) -> float:
    """One step of a training towards fixed numbers; the loss before it."""
    import torch

    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(16, 4, generator=generator), torch.rand(16, 2, generator=generator)
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(done, int(10 * done) / 10)
    optimizer.zero_grad(set_to_none=True)
    loss = (network(x) - y).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def recipe_parameters(recipe: Recipe) -> None:
    network = _network()
    optimizer = recipe.make_optimizer(network)
    moved = [id(one) for group in optimizer.param_groups for one in group["params"]]
    wanted = {name: id(one) for name, one in network.named_parameters()}
    left = [name for name, number in wanted.items() if number not in moved]
    expect(not left, f"parameters without an optimiser: {', '.join(left)}", "every parameter of the network")
    expect(len(moved) == len(wanted), f"{len(moved)} parameters in the optimiser", f"{len(wanted)}, none twice")


def recipe_rate(recipe: Recipe) -> None:
    import math

    for step, epoch in _grid():
        rate = recipe.rate(step, epoch)
        usable = isinstance(rate, float) and math.isfinite(rate) and rate > 0
        expect(usable, f"the rate {rate!r} at {step:g}, {epoch:g}", "a finite float above 0")
    expect(recipe.rate(0.25, 0.2) == evolve(recipe).rate(0.25, 0.2),  # type: ignore[misc]
           "two rates for the same progress", "one")


def recipe_learns(recipe: Recipe) -> None:
    network = _network()
    optimizer = recipe.make_optimizer(network)
    losses = [_step(recipe, network, optimizer, step / STEPS) for step in range(STEPS)]
    expect(losses[-1] < losses[0], f"a loss of {losses[-1]:.4f} after {STEPS} steps", f"less than {losses[0]:.4f}")


def recipe_state(recipe: Recipe) -> None:
    from seg.checkpoint import optimizer_state, restore_optimizer

    network, other = _network(), _network()
    first, second = recipe.make_optimizer(network), recipe.make_optimizer(other)
    for step in range(3):
        _step(recipe, network, first, step / 10)
    try:
        tensors, numbers = optimizer_state(first)
    except SegError as error:
        raise AssertionError(f"found {error}; expected a state that can be stored") from error
    other.load_state_dict(network.state_dict())
    restore_optimizer(second, {name: value.clone() for name, value in tensors.items()}, numbers)
    for step in range(3, 6):
        _step(recipe, network, first, step / 10)
        _step(recipe, other, second, step / 10)
    pairs = zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    expect(all(one.equal(two) for one, two in pairs), "other weights after going on from a stored state",
           "those of a training that was not cut short")


def recipe_mean(recipe: Recipe) -> None:
    found = {step: recipe.mean_decay(step) for step in (1, 2, 3, 10, 100, 1000, 100_000)}
    none = [step for step, decay in found.items() if decay is None]
    expect(len(none) in {0, len(found)}, f"no mean at the steps {none}", "None at every step or at none")
    wrong = {step: decay for step, decay in found.items() if decay is not None and not 0 <= decay < 1}
    expect(not wrong, f"the decays {wrong} by step", "0 or more, less than 1")


def _check(kind: str, name: str, law: Any, reason: str) -> Check:
    return Check(id=f"{kind}-{name}", kind=kind, reason=reason, law=law)


CHECKS = (
    _check("loss", "scalar", loss_scalar, "Losses of the outputs are weighed and summed, whatever the labels are."),
    _check("loss", "gradient", loss_gradient, "A network learns along the gradient, so it must lead to less loss."),
    _check("loss", "better", loss_better, "What is made small must be the error."),
    _check("loss", "ignore", loss_ignore, "Nobody knows what is right in voxels that nobody labelled."),
    _check("loss", "absent", loss_absent, "Most patches lack some class, and must not bring a division by 0."),
    _check("loss", "extreme", loss_extreme, "A network that is very sure must not end the training with NaN."),
    _check("loss", "parts", loss_parts, "A batch in parts, or on several devices, must train as the whole one does."),
    _check("recipe", "parameters", recipe_parameters, "A parameter that no optimiser moves never learns."),
    _check("recipe", "learning-rate", recipe_rate, "A step without a finite rate is lost, and maybe the network too."),
    _check("recipe", "learns", recipe_learns, "A recipe that cannot lower the loss of a tiny network trains none."),
    _check("recipe", "state", recipe_state, "A training that was cut short goes on from stored tensors alone."),
    _check("recipe", "mean-decay", recipe_mean, "The running mean of the weights must follow them."),
)
