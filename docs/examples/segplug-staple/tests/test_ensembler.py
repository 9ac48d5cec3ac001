"""STAPLE keeps the contract of its kind, believes whom it should, and decides where networks disagree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import seg.testing
import torch
from seg import Candidate, Evaluation, LabelledEnsembler, Labels
from segplug_staple._combine import staple
from segplug_staple.ensembler import Combiner, Staple

CLASSES = Labels(values={"background": 0, "organ": 1, "tumour": 2})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
SIZE = (6, 12, 12)


def candidate(name: str, dice: float) -> Candidate:
    return Candidate(name=name, evaluation=Evaluation(cases=(), class_means={}, mean={"dice": dice}))


def raters() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A truth of three classes, and what three good networks and two bad ones say of it, as logits."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(SIZE, dtype=torch.long)
    truth[1:5, 2:10, 2:10], truth[2:4, 4:8, 4:8] = 1, 2
    found = []
    for errors in (0.05, 0.05, 0.05, 0.5, 0.5):
        wrong = torch.rand(SIZE, generator=generator) < errors
        said = torch.where(wrong, torch.randint(0, 3, SIZE, generator=generator), truth)
        sure = 2 + torch.rand(SIZE, generator=generator)
        found.append(torch.nn.functional.one_hot(said, 3).movedim(-1, 0) * sure)
    return truth, found


def test_what_is_nearly_as_good_takes_part() -> None:
    candidates = [candidate("2d", 0.70), candidate("3d_fullres", 0.80), candidate("3d_lowres", 0.795)]
    assert Staple(tolerance=0.01).select(candidates) == ("3d_fullres", "3d_lowres")


@pytest.mark.parametrize("method", ["combine_folds", "combine_configurations"])
def test_it_is_better_than_each_network_and_than_the_mean(method: str) -> None:
    truth, maps = raters()
    if method == "combine_configurations":
        maps = [one.softmax(0) for one in maps]

    def errors(found: torch.Tensor) -> int:
        return int((found.argmax(0) != truth).sum())

    found = errors(getattr(Staple().for_labels(CLASSES), method)(iter(maps)))
    assert found < min(errors(one) for one in maps)
    assert found <= errors(torch.stack(maps).mean(0))


@pytest.mark.parametrize("labels", [CLASSES, REGIONS])
def test_where_all_agree_it_is_the_mean_and_else_between(labels: Labels) -> None:
    maps = [one[: labels.outputs] - 1 for one in raters()[1]]
    found, stacked = Staple().for_labels(labels).combine_folds(iter(maps)), torch.stack(maps)
    votes = stacked > 0 if labels.has_regions else stacked.argmax(1, keepdim=True)
    agreed = (votes == votes[0]).all(0).expand_as(found)
    torch.testing.assert_close(found[agreed], stacked.mean(0)[agreed])
    assert bool((found >= stacked.amin(0) - 1e-5).all())
    assert bool((found <= stacked.amax(0) + 1e-5).all())


def test_regions_are_voted_for_one_by_one() -> None:
    """Both regions of a voxel may be there at once, which no argmax would see."""
    maps = [torch.full((2, 1, 2, 2), value) for value in (2.0, 3.0, -1.0)]
    assert bool((Staple().for_labels(REGIONS).combine_folds(iter(maps)) > 0).all())


def test_empty_space_around_does_not_count() -> None:
    votes = [(one.argmax(0) == 1).to(torch.uint8).numpy() for one in raters()[1]]
    wide = staple([np.pad(one, 9) for one in votes], 50)
    np.testing.assert_allclose(wide[9:-9, 9:-9, 9:-9], staple(votes, 50), atol=1e-6)


def test_no_votes_and_all_votes_have_an_answer() -> None:
    for value in (0, 1):
        found = staple([np.full((2, 3, 4), value, np.uint8)] * 3, 50)
        assert np.array_equal(found, np.full((2, 3, 4), value, np.float32))


def test_it_asks_for_labels() -> None:
    assert isinstance(Staple(), LabelledEnsembler)
    assert isinstance(Staple().for_labels(CLASSES), Combiner)


@seg.testing.parametrize("ensembler", Staple())
def test_it_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_staple")
