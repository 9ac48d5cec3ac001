"""fixed keeps the contract of its kind, and does what it is for."""

from __future__ import annotations

from collections.abc import Callable

import seg.testing
from seg import Planner

from segplug_fixed.planner import Fixed


def test_it_is_one() -> None:
    assert isinstance(Fixed(batch=4), Planner)


@seg.testing.parametrize("planner", Fixed())
def test_it_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_fixed")
