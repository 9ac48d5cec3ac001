"""The kit refuses broken ensemblers, postprocessors, losses, recipes, normalisers, metrics, exporters."""

import itertools

import numpy as np
import pytest
import torch
from attrs import frozen
from torch.nn import functional as F

from helpers import changed
from seg import Exit, Record, SegError, running_mean
from seg.hookspecs import KINDS
from seg.testing import checks
from seg_basic.ensemblers import MeanEnsembler
from seg_basic.postprocessor import NoPostprocessor

HERE = ("ensembler", "postprocessor", "loss", "recipe", "normaliser", "metric", "exporter")
ELSEWHERE = ("architecture", "planner", "fingerprinter", "layout", "sampler", "augmenter", "executor")
COUNT = itertools.count()


# Sound components of the kinds without built-in ones at hand


@frozen(kw_only=True)
class Entropy:
    """Cross-entropy."""

    def build(self, labels, configuration):
        def criterion(logits, ids):
            valid = torch.ones_like(ids, dtype=torch.bool) if labels.ignore is None else ids != labels.ignore
            if labels.has_regions:
                maps = torch.stack([torch.isin(ids, torch.tensor(own)) for own in labels.foreground.values()], 1)
                entropy = F.binary_cross_entropy_with_logits(logits, maps.float(), reduction="none").mean(1)
            else:
                entropy = F.cross_entropy(logits, ids * valid, reduction="none")
            return (entropy * valid).sum() / valid.sum().clamp_min(1)

        return criterion


class InParts:
    """A criterion that works in parts: each is weighed by its share of the voxels that count."""

    takes_sums = True

    def __init__(self, labels, loss):
        self.ignore, self.loss = labels.ignore, loss

    def __call__(self, logits, ids):
        return self.loss(logits, ids)

    def sums(self, logits, ids):
        return torch.isin(ids, torch.tensor([self.ignore or -1]), invert=True).sum().float()

    def part(self, logits, ids, share, sums):
        return self.loss(logits, ids) * self.sums(logits, ids) / sums


@frozen(kw_only=True)
class Plain:
    """Gradient descent with momentum, and a mean of the weights."""

    def make_optimizer(self, network):
        return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def rate(self, step, epoch):
        return 0.1 * (1 - 0.9 * step)

    def mean_decay(self, step):
        return 1 - 1 / (1 + step)


@frozen(kw_only=True)
class Spread:
    """Mean 0, spread 1."""

    uses_intensities = False

    def normalise(self, channel, inside, intensities):
        values = channel if inside is None or not inside.any() else channel[inside]
        return ((channel - values.mean()) / max(values.std(), 1e-6)).astype(np.float32)


@frozen(kw_only=True)
class Dice:
    """Soerensen and Dice."""

    larger_is_better = True

    def measure(self, truth, predicted, spacing):
        return float(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))


@frozen(kw_only=True)
class Names:
    """The names of the configurations."""

    def export(self, model, folder):
        (folder / "names.txt").write_text(",".join(model.networks))
        return (folder / "names.txt",)


SOUND = {"loss": Entropy(), "recipe": Plain(), "normaliser": Spread(), "metric": Dice(),
         "exporter": Names(), "ensembler": MeanEnsembler(), "postprocessor": NoPostprocessor()}

# Mutants


def combining(combine):
    return changed(MeanEnsembler, combine_folds=lambda self, maps: combine(maps),
                   combine_configurations=lambda self, maps: combine(maps))


def summed_in_place(maps):
    total = None
    maps = list(maps)
    for one in maps:
        total = one if total is None else total.add_(one)
    return (total / len(maps)).float()


REGIONS_DOUBLED = combining(lambda maps: running_mean(maps) * 2)
ENSEMBLERS = [
    ("component", object()),
    ("select", changed(MeanEnsembler, select=lambda self, candidates: ("nothing",))),
    ("select", changed(MeanEnsembler, select=lambda self, candidates: ())),
    ("order", changed(MeanEnsembler, select=lambda self, candidates: (candidates[0].name,))),
    ("equal", combining(lambda maps: sum(one.float() for one in maps))),
    ("equal", combining(lambda maps: sum(one.float() for one in maps).flatten())),
    ("inputs", combining(summed_in_place)),
    ("inputs", combining(lambda maps: sum(list(maps)) + 0.0)),
    ("memory", combining(lambda maps: torch.stack(list(maps)).mean(0))),
    ("memory", combining(next)),
    ("equal", changed(MeanEnsembler, for_labels=lambda self, labels: REGIONS_DOUBLED if labels.has_regions else self)),
]


def applying(change):
    def apply(self, predicted, labels, steps):
        if steps:
            raise SegError(Record(code="SEG-M06", found="a step"), Exit.UNSAFE)
        return change(predicted)

    return changed(NoPostprocessor, apply=apply)


def wrong_exit(self, predicted, labels, steps):
    if steps:
        raise SegError(Record(code="SEG-M06", found="a step"), Exit.USAGE)
    return predicted.copy()


POSTPROCESSORS = [
    ("component", object()),
    ("copy", applying(lambda ids: ids)),
    ("copy", applying(lambda ids: ids.astype(np.float32))),
    ("ids", applying(lambda ids: ids + 5)),
    ("idempotent", applying(lambda ids: np.roll(ids, 1))),
    ("unknown", changed(NoPostprocessor, apply=lambda self, ids, labels, steps: ids.copy())),
    ("unknown", changed(NoPostprocessor, apply=wrong_exit)),
    ("harmless", applying(np.zeros_like)),
    ("harmless", changed(NoPostprocessor, learn=lambda self, cases, labels: [1])),
    ("nothing", applying(lambda ids: np.where(ids == 2, 1, ids))),
    ("nothing", changed(NoPostprocessor, learn=lambda self, cases, labels: None)),
]


def lossy(change):
    """`change` gives a loss of logits and ids, and of the labels."""
    return changed(Entropy, build=lambda self, labels, configuration: lambda logits, ids: change(
        Entropy.build(self, labels, configuration), logits, ids, labels))


def in_parts(**members):
    return changed(Entropy, build=lambda self, labels, configuration: type("Mutant", (InParts,), members)(
        labels, Entropy.build(self, labels, configuration)))


def not_ignoring(loss, logits, ids, labels):
    return loss(logits, ids) + 0.1 * logits.square().mean()


def by_presence(loss, logits, ids, labels):
    return loss(logits, ids) / (ids == 2).sum() * 100


def of_probabilities(loss, logits, ids, labels):
    if labels.has_regions:
        return loss(logits, ids)
    return F.nll_loss(logits.softmax(1).log(), ids % logits.shape[1])


LOSSES = [
    ("component", object()),
    ("scalar", lossy(lambda loss, logits, ids, _: loss(logits, ids).reshape(1))),
    ("scalar", lossy(lambda loss, logits, ids, _: loss(logits, ids).double())),
    ("scalar", lossy(lambda loss, logits, ids, _: loss(logits, ids) * torch.inf)),
    ("gradient", lossy(lambda loss, logits, ids, _: loss(logits, ids) + (0 * logits).sqrt().sum())),
    ("gradient", lossy(lambda loss, logits, ids, _: (loss(logits, ids) - 5).detach() + 0 * logits.sum())),
    ("better", lossy(lambda loss, logits, ids, _: -loss(logits, ids))),
    ("better", lossy(lambda loss, logits, ids, _: logits.square().mean())),
    ("ignore", lossy(not_ignoring)),
    ("absent", lossy(by_presence)),
    ("extreme", lossy(of_probabilities)),
    ("parts", in_parts(part=lambda self, logits, ids, share, sums: self.loss(logits, ids))),
    ("parts", in_parts(part=lambda self, logits, ids, share, sums: share * self.loss(logits, ids))),
    ("parts", in_parts(part=lambda self, *asked: 2 * InParts.part(self, *asked) - InParts.part(self, *asked).detach())),
    ("parts", in_parts(takes_sums=False, part=lambda self, logits, ids, *_: self.loss(logits, ids) / 2)),
]


class Counting(torch.optim.SGD):
    """Takes smaller and smaller steps, and keeps the count of them outside of its state."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            group["lr"] /= self.steps
        return super().step(closure)


class Noting(torch.optim.SGD):
    """Keeps a text in its state."""

    def step(self, closure=None):
        super().step(closure)
        for one in self.param_groups[0]["params"]:
            self.state[one]["note"] = "text"


def twice(self, network):
    first, *others = network.parameters()
    return torch.optim.SGD([{"params": others}, {"params": [first]}, {"params": [torch.nn.Parameter(first.data)]}], 0.1)


RECIPES = [
    ("component", object()),
    ("parameters", changed(Plain, make_optimizer=lambda self, network: torch.optim.SGD(network[0].parameters(), 0.1))),
    ("parameters", changed(Plain, make_optimizer=twice)),
    ("learning-rate", changed(Plain, rate=lambda self, step, epoch: 0.1 * (0.5 - step))),
    ("learning-rate", changed(Plain, rate=lambda self, step, epoch: float("inf"))),
    ("learning-rate", changed(Plain, rate=lambda self, step, epoch: 1.0 / (1 + next(COUNT)))),
    ("learns", changed(Plain, make_optimizer=lambda _, network: torch.optim.SGD(network.parameters(), maximize=True))),
    ("state", changed(Plain, make_optimizer=lambda self, network: Counting(network.parameters()))),
    ("state", changed(Plain, make_optimizer=lambda _, network: Noting(network.parameters()))),
    ("mean-decay", changed(Plain, mean_decay=lambda self, step: 1.0)),
    ("mean-decay", changed(Plain, mean_decay=lambda self, step: None if step < 10 else 0.9)),
]


def scaled_in_place(self, channel, inside, intensities):
    channel /= 255
    return channel


def needing(self, channel, inside, intensities):
    return channel - np.float32(np.nan if intensities is None else intensities.mean)


NORMALISERS = [
    ("component", object()),
    ("values", changed(Spread, normalise=lambda self, channel, *_: channel.astype(np.float64))),
    ("values", changed(Spread, normalise=lambda self, channel, *_: channel[..., 1:])),
    ("values", changed(Spread, normalise=lambda self, channel, *_: np.full_like(channel, np.nan))),
    ("input", changed(Spread, normalise=scaled_in_place)),
    ("deterministic", changed(Spread, normalise=lambda self, channel, *_: channel + np.float32(next(COUNT)))),
    ("no-statistics", changed(Spread, normalise=needing)),
]


def spoiling(self, truth, predicted, spacing):
    truth[:] = False
    return 0.0


def of_truth(self, truth, predicted, spacing):
    if not predicted.any():
        return None
    return Dice.measure(self, truth, predicted, spacing) if truth.any() else float("inf")


METRICS = [
    ("component", object()),
    ("best", changed(Dice, larger_is_better=False)),
    ("best", changed(Dice, measure=lambda *_: 1.0)),
    ("best", changed(Dice, measure=lambda *_: None)),
    ("spacing", changed(Dice, measure=lambda self, truth, predicted, spacing: float(truth.sum() * spacing[1]))),
    ("empty", changed(Dice, measure=of_truth)),
    ("empty", changed(Dice, measure=lambda self, truth, predicted, spacing: "much")),
    ("inputs", changed(Dice, measure=spoiling)),
]


def beside(self, model, folder):
    (folder.parent / "names.txt").write_text("x")
    return (folder.parent / "names.txt",)


def half(self, model, folder):
    (folder / "part.bin").write_text("x")
    raise SegError(Record(code="SEG-P03", found="a package is missing"), Exit.PLUGIN)


EXPORTERS = [
    ("component", object()),
    ("folder", changed(Names, export=beside)),
    ("folder", changed(Names, export=half)),
    ("folder", changed(Names, export=lambda self, model, folder: ())),
    ("folder", changed(Names, export=lambda self, model, folder: (folder / "nothing",))),
]


TABLES = dict(zip(HERE, (ENSEMBLERS, POSTPROCESSORS, LOSSES, RECIPES, NORMALISERS, METRICS, EXPORTERS), strict=True))
MUTANTS = [pytest.param(f"{kind}-{name}", kind, mutant, id=f"{kind}-{name}-{number}")
           for kind, table in TABLES.items() for number, (name, mutant) in enumerate(table)]


@pytest.mark.parametrize(("kind", "check"), [
    pytest.param(kind, check, id=check.id) for kind in HERE for check in checks(kind)])
def test_sound_components_pass(kind, check):
    check(SOUND[kind])


@pytest.mark.parametrize(("name", "kind", "mutant"), MUTANTS)
def test_mutants_do_not_pass(name, kind, mutant):
    (check,) = [check for check in checks(kind) if check.id == name]
    with pytest.raises(AssertionError, match=r"^found .*; expected "):
        check(mutant)


def test_a_loss_may_work_in_parts():
    for check in checks("loss"):
        check(in_parts())


def test_an_exporter_may_refuse():
    def refuse(self, model, folder):
        raise SegError(Record(code="SEG-P03", found="a package is missing"), Exit.PLUGIN)

    for check in checks("exporter"):
        check(changed(Names, export=refuse))


def test_every_check_has_a_mutant():
    assert {*HERE, *ELSEWHERE} == set(KINDS)
    for kind in HERE:
        assert {check.id for check in checks(kind)} == {f"{kind}-{name}" for name, _ in TABLES[kind]}
