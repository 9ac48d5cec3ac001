"""The kit itself: every kind has checks, built-in components pass them, plugins' tests can use them.

What must not pass is in test_testing_networks.py, test_testing_data.py and test_testing_executors.py.
"""

import subprocess
import sys
from functools import partial
from importlib.metadata import EntryPoint

import pytest
from attrs import frozen

import seg.testing
from seg import SegError
from seg.discovery import discover
from seg.hookspecs import KINDS
from seg.registry import Component, Plugin, Registry
from seg.testing import check_component, check_plugin, checks, verify
from seg_basic.ensemblers import MeanEnsembler
from seg_basic.plain import NoAugmenter

BUILT_IN = [item for item in discover().components if item.plugin.distribution == "segplug"]
PLUGINS = sorted({item.target.partition(".")[0] for item in BUILT_IN})


@pytest.mark.parametrize(("item", "check"), [
    pytest.param(item, check, id=f"{item.name}-{check.id}") for item in BUILT_IN for check in checks(item.kind)])
def test_built_in_components_pass(item, check):
    check(discover().build(item.kind, item.qualified)[0])


@pytest.mark.parametrize("name", PLUGINS)
def test_built_in_plugins_pass(name):
    check_plugin(name)


def test_every_kind_has_checks_of_its_own():
    for kind in KINDS:
        found = checks(kind)
        assert len(found) > 1
        assert all(check.kind == kind and check.id.startswith(f"{kind}-") for check in found)
        assert all(check.reason.endswith(".") for check in found)
    ids = [check.id for kind in KINDS for check in checks(kind)]
    assert len(ids) == len(set(ids))


def test_an_unknown_kind_is_refused():
    with pytest.raises(SegError, match="Did you mean 'sampler'"):
        checks("samplers")


def test_the_kit_is_light():
    code = "import sys, seg.testing; print([name for name in ('torch', 'pytest', 'SimpleITK') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@seg.testing.parametrize("ensembler", MeanEnsembler())
def test_a_component_may_be_given(check):
    check()


@seg.testing.parametrize("ensembler", MeanEnsembler)
def test_a_class_may_be_given(check):
    check()


class Stacked(MeanEnsembler):
    def combine_folds(self, logits):
        import torch

        return torch.stack(list(logits)).float().mean(0)


@seg.testing.parametrize("ensembler", partial(Stacked), expected_failures={"ensembler-memory": "it is a mutant"})
def test_a_function_may_be_given_and_a_failure_be_expected(check):
    check()


def test_a_failure_says_why_the_law_matters():
    @seg.testing.parametrize("ensembler", Stacked)
    def contract(check):
        check()

    (mark,) = contract.pytestmark
    (bound,) = [one.values[0] for one in mark.args[1] if one.id == "ensembler-memory"]
    with pytest.raises(AssertionError) as told:
        bound()
    (check,) = [one for one in checks("ensembler") if one.id == "ensembler-memory"]
    assert told.value.__notes__ == [f"ensembler-memory: {check.reason}"]


def test_an_expected_failure_has_a_known_name():
    with pytest.raises(SegError, match="Did you mean 'ensembler-memory'"):
        seg.testing.parametrize("ensembler", Stacked, expected_failures={"ensembler-memry": "a slip"})


def test_a_failure_says_which_check_what_was_found_and_what_was_expected():
    with pytest.raises(AssertionError, match=r"^ensembler-memory: found .*6 of 6 maps.*; expected 3 at most$"):
        check_component("ensembler", Stacked())
    check_component("ensembler", MeanEnsembler)


# verify


@frozen(kw_only=True)
class Raising:
    """An ensembler that does not work at all."""

    def select(self, candidates):
        raise SystemExit(3)

    combine_folds = combine_configurations = select


def registry(*targets, status="ok"):
    plugin = Plugin(name="some", distribution="segplug-some", version="1.2", status=status, reason="no such module")
    return Registry(plugins=(plugin,), components=tuple(
        Component(kind="ensembler", name=target.rpartition(":")[2], summary="s", target=target, plugin=plugin)
        for target in targets))


@pytest.fixture
def here(monkeypatch):
    """This module under a name by which its classes are found."""
    monkeypatch.setitem(sys.modules, "kit_mutants", sys.modules[__name__])
    return "kit_mutants"


def test_verify_finds_what_does_not_pass_and_survives_it(here):
    assert verify(registry("seg_basic.ensemblers:MeanEnsembler")) == []
    (one,) = verify(registry(f"{here}:Stacked"))
    assert (one.check, one.kind, one.name, one.distribution, one.version) == (
        "ensembler-memory", "ensembler", "Stacked", "segplug-some", "1.2")
    assert "expected 3 at most" in one.message
    assert {"SystemExit: 3"} == {failure.message for failure in verify(registry(f"{here}:Raising"))}


def test_verify_tells_of_components_and_plugins_that_cannot_be_had():
    (absent,) = verify(registry("seg_basic.ensemblers:Nothing"))
    assert (absent.check, "cannot be imported" in absent.message) == ("ensembler-component", True)
    (broken,) = verify(registry(status="broken"))
    assert (broken.check, broken.kind, broken.message) == ("plugin-import", "plugin", "no such module")


def test_verify_looks_at_some_distributions_alone(here):
    assert verify(registry(f"{here}:Stacked"), ["segplug-other"]) == []
    assert len(verify(registry(f"{here}:Stacked"), ["segplug-some"])) == 1


# check_plugin

HEAD = "from seg import Offer, hookimpl\n@hookimpl\n"
BROKEN = {
    "no hook": ("", "no hook"),
    "a misspelt hook": (HEAD + "def seg_sampler():\n    return ()\n", "seg_sampler"),
    "no offers": (HEAD + "def seg_samplers():\n    return 3\n", "gives 3"),
    "no summary": (HEAD + "def seg_samplers():\n    yield Offer('a', 'seg_basic.uniform:UniformSampler')\n", "summary"),
    "nothing there": (HEAD + "def seg_samplers():\n    yield Offer('a', 'nothing_there:A', 's')\n", "nothing_there"),
    "another kind": (HEAD + "def seg_samplers():\n    yield Offer('a', 'seg_basic.plain:NoAugmenter', 's')\n",
                     "positions"),
    "torch at top": ("import torch\n" + HEAD + "def seg_run_ended(error):\n    pass\n", "torch"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plugin_that_is_not_well_formed_is_told(name, tmp_path, monkeypatch):
    code, told = BROKEN[name]
    module = "kit_plugin_" + name.replace(" ", "_")
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError, match=rf"^found .*{told}.*; expected "):
        check_plugin(module)
    sys.modules.pop(module, None)


def test_a_plugin_may_be_a_module_or_an_entry_point():
    import seg_basic

    check_plugin(seg_basic)
    check_plugin(EntryPoint(name="basic", value="seg_basic", group="seg"))
    assert NoAugmenter()
