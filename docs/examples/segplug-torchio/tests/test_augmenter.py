"""torchio keeps the contract of its kind, and does what it is for."""

from __future__ import annotations

from collections.abc import Callable

import seg.testing
from seg import Augmenter

from segplug_torchio.augmenter import Torchio


def test_it_is_one() -> None:
    assert isinstance(Torchio(mirror=False), Augmenter)


@seg.testing.parametrize("augmenter", Torchio())
def test_it_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_torchio")
