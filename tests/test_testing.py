"""Every built-in component passes the kit; see test_testing_mutants.py for what must not."""

import subprocess
import sys

import pytest

import seg.testing
from seg.discovery import discover
from seg.hookspecs import KINDS
from seg.testing import checks

BUILT_IN = [item for item in discover().components if item.plugin.distribution == "segplug"]


@pytest.mark.parametrize(("item", "check"), [
    pytest.param(item, check, id=f"{item.name}-{check.id}") for item in BUILT_IN for check in checks(item.kind)])
def test_built_in_components_pass(item, check):
    check(discover().build(item.kind, item.qualified)[0])
