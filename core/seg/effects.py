"""What a factor of a comparison does to the metrics: paired over the same cases, averaged over the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from attrs import frozen

from seg.bootstrap import FEWEST_CASES, PairedDifference, paired_difference
from seg.metrics import METRICS, evaluation
from seg.models import CaseMetrics, ClassMetrics, Evaluation

Pair = tuple[Evaluation, Evaluation]


@frozen(kw_only=True)
class Effect:
    """How far `name` is above `against`, in each metric that all have, over the cases that all of both sides have.

    Where there are several pairs of trainings (seeds, or the values of the other factors) each side is their mean,
    case by case, and `each` has the difference in Dice of every pair. `supported`: the interval of the Dice excludes 0,
    there are cases enough, and every pair has the same sign; `verdict` says so in words.
    """

    name: str
    against: str
    differences: dict[str, PairedDifference]
    each: tuple[float | None, ...]
    supported: bool
    verdict: str


def effect(name: str, against: str, pairs: Sequence[Pair]) -> Effect:
    """The effect over pairs of trainings that differ in nothing but what `name` and `against` say; at least one pair.

    The bootstrap draws cases, so its interval tells what other cases would change; what other seeds would change is
    told by `each` alone.
    """
    sides = [averaged([pair[side] for pair in pairs]) for side in (0, 1)]
    metrics = (*METRICS, *shared_metrics(sides))
    differences = {metric: paired_difference(sides[0], sides[1], metric) for metric in metrics}
    each = tuple(paired_difference(*pair).difference for pair in pairs)
    dice = differences["dice"]
    against_it = sum(value is None or dice.difference is None or value * dice.difference <= 0 for value in each)
    supported = dice.supported and not against_it
    return Effect(name=name, against=against, differences=differences, each=each, supported=supported,
                  verdict=_verdict(dice, against_it, len(each)))


def shared_metrics(results: Sequence[Evaluation]) -> dict[str, bool]:
    """The further metrics that all of `results` have, and whether larger is better."""
    return {name: better for name, better in results[0].larger_is_better.items()
            if all(name in result.larger_is_better for result in results)}


def averaged(results: Sequence[Evaluation]) -> Evaluation:
    """The mean of several evaluations, case by case and class by class, over the cases and classes that all have.

    A metric that is defined in some of them only is the mean over these.
    """
    if len(results) == 1:
        return results[0]
    tables = [{case.case: case.classes for case in result.cases} for result in results]
    further = shared_metrics(results)
    shared = [case for case in results[0].cases if all(case.case in table for table in tables)]
    cases = [CaseMetrics(case=case.case, classes={
        name: _mean([table[case.case][name] for table in tables], further) for name in case.classes
        if all(name in table[case.case] for table in tables)}) for case in shared]
    classes = [name for name in results[0].class_means if all(name in result.class_means for result in results)]
    return evaluation(cases, classes, results[0].tolerance_mm, further)


def _mean(found: Sequence[ClassMetrics], further: Iterable[str]) -> ClassMetrics:
    own: dict[str, Any] = {metric: _defined([one.value(metric) for one in found]) for metric in METRICS}
    others = {metric: _defined([one.value(metric) for one in found]) for metric in further}
    voxels = round(sum(one.predicted_voxels for one in found) / len(found))
    return attrs.evolve(found[0], predicted_voxels=voxels, others=others, **own)


def _defined(values: Sequence[float | None]) -> float | None:
    """The mean of those that are defined."""
    some = [value for value in values if value is not None]
    return sum(some) / len(some) if some else None


def _verdict(dice: PairedDifference, against_it: int, pairs: int) -> str:
    if dice.difference is None or dice.low is None or dice.high is None:
        return "not defined"
    if dice.cases < FEWEST_CASES:
        return f"not supported: of {dice.cases} cases, an interval says little"
    if not dice.supported:
        return "not supported: the interval holds 0"
    if against_it:
        return f"not supported: {against_it} of {pairs} pairs of trainings do not agree"
    return "better, supported" if dice.difference > 0 else "worse, supported"
