"""nnU-Net's ensembler."""

from __future__ import annotations

import pytest
import torch

from seg import Candidate, Ensembler, Evaluation
from seg_nnunet.ensembler import NnUNetEnsembler


def candidate(name: str, dice: float | None) -> Candidate:
    return Candidate(name=name, evaluation=Evaluation(cases=(), class_means={}, mean={"dice": dice}))


def test_a_pair_is_chosen_only_where_it_is_better() -> None:
    ensembler = NnUNetEnsembler()
    assert isinstance(ensembler, Ensembler)
    single = [candidate("2d", 0.8), candidate("3d_fullres", 0.9)]
    assert ensembler.select([*single, candidate("2d+3d_fullres", 0.91)]) == ("2d", "3d_fullres")
    assert ensembler.select([*single, candidate("2d+3d_fullres", 0.9)]) == ("3d_fullres",)
    assert ensembler.select([candidate("2d", None), candidate("3d_fullres", None)]) == ("2d",)


def test_the_metric_is_an_option() -> None:
    found = [candidate("2d", 0.8), candidate("3d_fullres", 0.9)]
    for one, distance in zip(found, (2.0, 3.0), strict=True):
        one.evaluation.mean["hd95_mm"] = distance
    assert NnUNetEnsembler(metric="hd95_mm").select(found) == ("2d",)
    with pytest.raises(ValueError, match="iou"):
        NnUNetEnsembler(metric="iou").select(found)


def test_folds_and_configurations_are_averaged() -> None:
    ensembler = NnUNetEnsembler()
    maps = [torch.zeros(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0)]
    assert torch.equal(ensembler.combine_folds(iter(maps)), torch.ones(2, 1, 1, 1))
    assert torch.equal(ensembler.combine_configurations(iter(maps)), torch.ones(2, 1, 1, 1))
