"""staple keeps the contract of its kind, and does what it is for."""

from __future__ import annotations

from collections.abc import Callable

import seg.testing
from seg import Candidate, Evaluation

from segplug_staple.ensembler import Staple


def candidate(name: str, dice: float) -> Candidate:
    return Candidate(name=name, evaluation=Evaluation(cases=(), class_means={}, mean={"dice": dice}))


def test_what_is_nearly_as_good_takes_part() -> None:
    candidates = [candidate("2d", 0.70), candidate("3d_fullres", 0.80), candidate("3d_lowres", 0.795)]
    assert Staple(tolerance=0.01).select(candidates) == ("3d_fullres", "3d_lowres")


@seg.testing.parametrize("ensembler", Staple())
def test_it_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_staple")
