"""The test kit: what every component of a kind must do, as checks for plugins' own tests.

Three lines hold a component to its contract:

    import seg.testing

    @seg.testing.parametrize("architecture", MyArchitecture())
    def test_contract(check): check()

pytest is imported by `parametrize` alone, torch by the checks that need it.
"""

from __future__ import annotations

from seg.testing._check import Check
from seg.testing._kit import Failure, check_component, check_plugin, checks, parametrize, verify

__all__ = ["Check", "Failure", "check_component", "check_plugin", "checks", "parametrize", "verify"]
