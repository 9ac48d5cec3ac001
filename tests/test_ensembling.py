"""The best candidate, and the running mean."""

from __future__ import annotations

import math

import pytest
import torch
from attrs import evolve

from seg import Candidate, best_candidate, running_mean
from seg.ensembling import LARGER_IS_BETTER
from seg.metrics import METRICS
from seg.models import Evaluation


def candidate(name: str, dice: float | None, **others: float | None) -> Candidate:
    return Candidate(name=name, evaluation=Evaluation(cases=(), class_means={}, mean={"dice": dice, **others}))


def test_the_largest_dice_wins_and_the_first_of_equal_ones() -> None:
    assert best_candidate([candidate("a", 0.5), candidate("b", 0.7), candidate("c", 0.7)]).name == "b"


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_no_dice_loses_against_any_and_the_first_stands_where_there_is_none(nothing: float | None) -> None:
    assert best_candidate([candidate("a", nothing), candidate("b", 0.0)]).name == "b"
    assert best_candidate([candidate("a", nothing), candidate("b", nothing)]).name == "a"
    with pytest.raises(ValueError, match="no candidates"):
        best_candidate([])


@pytest.mark.parametrize(("metric", "best"), [("dice", "a"), ("nsd", "b"), ("hd95_mm", "c")])
def test_another_metric_chooses_another(metric: str, best: str) -> None:
    candidates = [candidate("d", None, nsd=None, hd95_mm=None), candidate("a", 0.9, nsd=0.5, hd95_mm=3.0),
                  candidate("b", 0.8, nsd=0.6, hd95_mm=4.0), candidate("c", 0.7, nsd=0.4, hd95_mm=0.0)]
    assert best_candidate(candidates, metric).name == best
    assert best_candidate(candidates[:1], metric).name == "d"


def test_an_unknown_metric_is_refused() -> None:
    assert set(LARGER_IS_BETTER) == set(METRICS)
    with pytest.raises(ValueError, match="one of dice, hd95_mm, nsd"):
        best_candidate([candidate("a", 0.5)], "iou")


def test_the_running_mean_is_the_mean() -> None:
    maps = [torch.full((2, 3, 1, 1), value, dtype=torch.float16) for value in (1.0, 2.0, 6.0)]
    mean = running_mean(iter(maps))
    assert mean.dtype == torch.float32
    assert torch.equal(mean, torch.full((2, 3, 1, 1), 3.0))


def test_the_running_mean_leaves_its_input_alone() -> None:
    first = torch.ones(2)
    running_mean([first, torch.zeros(2)])
    assert torch.equal(first, torch.ones(2))
    with pytest.raises(ValueError, match="no maps"):
        running_mean([])


@pytest.mark.parametrize(("larger", "best"), [(True, "b"), (False, "a")])
def test_of_a_further_metric_the_evaluation_says_what_is_better(*, larger: bool, best: str) -> None:
    candidates = [candidate("a", 0.9, mine=1.0), candidate("b", 0.8, mine=2.0)]
    candidates = [evolve(one, evaluation=evolve(one.evaluation, larger_is_better={"mine": larger}))
                  for one in candidates]
    assert best_candidate(candidates, "mine").name == best
