"""The mean of all, and the best alone."""

from __future__ import annotations

import pytest
import torch

from seg import Candidate, Ensembler, Evaluation
from seg_basic.ensemblers import MeanEnsembler, NoEnsembler

CANDIDATES = [
    Candidate(name=name, evaluation=Evaluation(cases=(), class_means={}, mean={"dice": dice}))
    for name, dice in (("2d", 0.8), ("3d_fullres", 0.9), ("2d+3d_fullres", 0.95))
]


def test_the_mean_takes_every_configuration_once() -> None:
    assert MeanEnsembler().select(CANDIDATES) == ("2d", "3d_fullres")


def test_none_takes_the_best_single_one() -> None:
    assert NoEnsembler().select(CANDIDATES) == ("3d_fullres",)


def test_none_takes_the_best_by_the_metric_it_is_told() -> None:
    found = [Candidate(name=name, evaluation=Evaluation(cases=(), class_means={}, mean={"dice": 0.5, "nsd": nsd}))
             for name, nsd in (("2d", 0.9), ("3d_fullres", 0.8), ("2d+3d_fullres", 1.0))]
    assert NoEnsembler(metric="nsd").select(found) == ("2d",)


@pytest.mark.parametrize("ensembler", [MeanEnsembler(), NoEnsembler()])
def test_both_average_what_they_are_given(ensembler: Ensembler) -> None:
    assert isinstance(ensembler, Ensembler)
    maps = [torch.zeros(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0)]
    assert torch.equal(ensembler.combine_folds(iter(maps)), torch.ones(2, 1, 1, 1))
    assert torch.equal(ensembler.combine_configurations(iter(maps)), torch.ones(2, 1, 1, 1))
