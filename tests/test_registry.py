"""Plugins as strangers install them: distributions on the path, good ones and bad ones, each by itself."""

import json
import os
import subprocess
import sys

import pytest

from seg import SegError
from seg.discovery import discover
from seg.hookspecs import KINDS
from seg.registry import clashes

GOOD = """
from seg import Offer, hookimpl

@hookimpl
def seg_samplers():
    yield Offer("{name}", "{module}_parts:Good", "a sampler")
"""
PARTS = """
from attrs import frozen
from seg import option

@frozen(kw_only=True)
class Good:
    share: float = option(0.5, "a share", ge=0, le=1)

    def positions(self, index, configuration, margin, rng):
        return []

@frozen
class Lacking:
    pass

class Plain:
    def positions(self, index, configuration, margin, rng):
        return []

@frozen
class Dangling:
    x: "NoSuchType" = 1

    def positions(self, index, configuration, margin, rng):
        return []
"""
OFFER = "from seg import Offer, hookimpl\n@hookimpl\ndef seg_samplers():\n    "
BROKEN = {
    "import": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "syntax": ("def (", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "base": ("raise BaseException('x')", "BaseException: x"),
    "misspelt": ("from seg import hookimpl\n@hookimpl\ndef seg_architekturen():\n    return ()",
                 "Did you mean 'seg_architectures'"),
    "argument": ("from seg import hookimpl\n@hookimpl\ndef seg_samplers(config):\n    return ()", "config"),
    "number": (OFFER + "return 42", "seg_samplers gave 42, expected an iterable of seg.Offer"),
    "none": (OFFER + "return None", "seg_samplers gave None"),
    "text": (OFFER + "return ['a']", "seg_samplers gave 'a', expected a seg.Offer"),
    "target": (OFFER + "yield Offer('a', 'no_colon')", "expected 'module:Class'"),
    "types": (OFFER + "yield Offer(1, 'a:B')", "expected texts"),
    "raises": (OFFER + "yield Offer('a', 'b:C')\n    raise RuntimeError('half way')", "RuntimeError: half way"),
}


def install(folder, name, code, *, module="", version="1.2", entry=""):
    """A distribution `name` with one entry point, as a pip install leaves it."""
    module = module or name.replace("-", "_")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[seg]\n{entry or name} = {module}\n")
    (folder / f"{module}.py").write_text(code.replace("{module}", module))
    (folder / f"{module}_parts.py").write_text(PARTS)
    return info


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the path, whose modules are forgotten afterwards."""
    before = set(sys.modules)
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield path
    for name in set(sys.modules) - before:
        if name.startswith(("fake", "broken")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def alone():
    return discover()


def refusal(registry, *arguments):
    with pytest.raises(SegError) as caught:
        registry.build(*arguments)
    return caught.value.exit_code, str(caught.value)


def others(registry, *names):
    return [item for item in registry.components if item.plugin.distribution not in names]


def same(registry, alone, *names):
    """Whether what all other plugins offer is as it is without these."""
    return [item.qualified for item in others(registry, *names)] == [item.qualified for item in alone.components]


def test_ours_are_all_well(alone):
    ours = [plugin for plugin in alone.plugins if plugin.distribution == "segplug"]
    assert {plugin.status for plugin in ours} == {"ok"}
    assert {item.kind for item in alone.components} == set(KINDS)
    assert clashes(alone) == {}


def test_each_of_ours_can_be_built(alone):
    for item in alone.components:
        instance, use = alone.build(item.kind, item.name)
        assert (use.kind, use.name, use.distribution) == (item.kind, item.name, "segplug")
        again, _ = alone.build(item.kind, item.qualified, use.options)
        assert again == instance


def test_a_good_stranger(folder, alone):
    install(folder, "fake-good", GOOD.replace("{name}", "mine"))
    registry = discover()
    instance, use = registry.build("sampler", "mine", {"share": 1})
    assert instance.share == 1.0
    assert (use.distribution, use.version, use.options) == ("fake-good", "1.2", {"share": 1.0})
    assert registry.build("sampler", "fake-good:mine")[0].share == 0.5
    assert same(registry, alone, "fake-good")
    assert refusal(registry, "sampler", "mine", {"shore": 1})[0] == 2
    assert refusal(registry, "sampler", "mine", {"share": 2})[0] == 2


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_one_harms_itself_alone(folder, alone, fault):
    code, reason = BROKEN[fault]
    install(folder, f"broken-{fault}", code, entry=f"entry_{fault}")
    install(folder, "fake-zz-last", GOOD.replace("{name}", "last"))
    registry = discover()
    (plugin,) = [plugin for plugin in registry.plugins if plugin.distribution == f"broken-{fault}"]
    assert plugin.status == "broken"
    assert reason in plugin.reason
    assert "\n" not in plugin.reason
    assert same(registry, alone, f"broken-{fault}", "fake-zz-last")
    registry.build("sampler", "last")
    for name in (f"entry_{fault}", f"broken-{fault}", f"broken-{fault}:a"):
        code, told = refusal(registry, "sampler", name)
        assert code == 6
        assert plugin.reason in told
    code, told = refusal(registry, "sampler", "absent")
    assert code == 2
    assert f"entry_{fault}" in told


@pytest.mark.parametrize(("target", "told"), [
    ("no_such_module:Good", "No module named"), ("{module}_parts:Absent", "no attribute 'Absent'"),
    ("{module}_parts:Lacking", "is no sampler: it lacks positions"), ("{module}_parts:Plain", "no attrs class"),
    ("{module}_parts:Dangling", "NoSuchType"), ("{module}_exits:Good", "SystemExit"), ("math:pi", "no attrs class"),
])  # fmt: skip
def test_an_offer_that_is_not_delivered_is_exit_6(folder, target, told):
    install(folder, "fake-empty", OFFER + f"yield Offer('mine', '{target}')")
    (folder / "fake_empty_exits.py").write_text("raise SystemExit")
    code, text = refusal(discover(), "sampler", "mine")
    assert code == 6
    assert told in text
    assert "fake-empty 1.2" in text


def test_what_a_planner_lacks_is_named_though_it_is_no_method(folder):
    code = """
from attrs import frozen
from seg import Offer, hookimpl

@hookimpl
def seg_planners():
    yield Offer("mine", "fake_planner:Planner")

@frozen
class Planner:
    def plan(self, fingerprint, description, architecture): ...
    def reductions(self, configuration): ...
"""
    install(folder, "fake-planner", code)
    assert refusal(discover(), "planner", "mine")[1].count("it lacks default_architecture") == 1


def test_two_of_one_name(folder, alone):
    for name in ("fake-a", "fake-b"):
        install(folder, name, GOOD.replace("{name}", "mine"))
    registry = discover()
    code, told = refusal(registry, "sampler", "mine")
    assert code == 6
    assert "fake-a:mine, fake-b:mine" in told
    assert registry.build("sampler", "fake-b:mine")[1].distribution == "fake-b"
    assert clashes(registry) == {("sampler", "mine"): ["fake-a:mine", "fake-b:mine"]}
    assert same(registry, alone, "fake-a", "fake-b")


def test_a_stranger_with_the_name_of_ours(folder):
    install(folder, "fake-a", GOOD.replace("{name}", "uniform"))
    registry = discover()
    assert refusal(registry, "sampler", "uniform")[0] == 6
    assert registry.build("sampler", "segplug:uniform")[1].distribution == "segplug"


def test_one_distribution_twice_on_the_path_counts_once(folder, tmp_path, monkeypatch):
    install(folder, "fake-a", GOOD.replace("{name}", "mine"))
    install(tmp_path / "other", "fake-a", GOOD.replace("{name}", "mine"))
    monkeypatch.syspath_prepend(tmp_path / "other")
    registry = discover()
    assert len([plugin for plugin in registry.plugins if plugin.distribution == "fake-a"]) == 1
    registry.build("sampler", "mine")


@pytest.mark.parametrize("damage", ["metadata", "value", "module"])
def test_a_damaged_installation_harms_nobody(folder, alone, damage):
    info = install(folder, "fake-a", GOOD.replace("{name}", "mine"))
    if damage == "metadata":
        (info / "METADATA").unlink()
    elif damage == "value":
        (info / "entry_points.txt").write_text("[seg]\nmine = not a module!\n")
    else:
        (folder / "fake_a.py").unlink()
    registry = discover()
    assert same(registry, alone, "fake-a", "unknown")


def test_what_a_plugin_prints_is_not_in_the_output(folder, capsys):
    install(folder, "fake-a", "print('hello')\n" + GOOD.replace("{name}", "mine"))
    discover()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("kind", "name", "hint"), [
    ("sampler", "unifrm", "'uniform'"), ("samplr", "uniform", "'sampler'"), ("architecture", "unetp", "'unetpp'"),
    ("planner", "segplug:nnunett", "no planner"), ("sampler", "", "no sampler"),
])  # fmt: skip
def test_an_unknown_name_is_exit_2(alone, kind, name, hint):
    code, told = refusal(alone, kind, name)
    assert code == 2
    assert hint in told


HEAVY = """
from pathlib import Path
with Path(__file__).with_name("imports.txt").open("a") as stream:
    stream.write("x")
import torch
""" + GOOD.replace("{name}", "heavy")
ASK = """
import json, sys
from seg.discovery import discover
registry = discover()
(plugin,) = [plugin for plugin in registry.plugins if plugin.distribution == "fake-heavy"]
names = [item.name for item in registry.components if item.plugin.distribution == "fake-heavy"]
built = registry.build("sampler", "heavy")[1].distribution if len(sys.argv) > 1 else ""
print(json.dumps([plugin.status, plugin.reason, names, "torch" in sys.modules, built]))
"""


def test_a_heavy_one_is_imported_once_and_remembered(tmp_path):
    site = tmp_path / "site"
    info = install(site, "fake-heavy", HEAVY)
    (site / "torch.py").write_text("")
    environment = os.environ | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def ask(*arguments):
        command = [sys.executable, "-c", ASK, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        imports = site / "imports.txt"
        return json.loads(done.stdout), len(imports.read_text()) if imports.exists() else 0

    (status, reason, names, loaded, _), imports = ask()
    assert (status, names, loaded, imports) == ("slow", ["heavy"], True, 1)
    assert "move that import" in reason
    (*again, loaded, _), imports = ask()
    assert (again, loaded, imports) == ([status, reason, names], False, 1)
    assert ask("build")[0][-1] == "fake-heavy"
    os.utime(site / "fake_heavy.py", ns=(1, 1))  # the module changed: it is looked at again
    assert ask()[1] == imports + 1
    info.joinpath("entry_points.txt").write_text("[seg]\n")
    (tmp_path / "cache" / "seg" / "slow_plugins.json").write_text("[1]")  # what was remembered is lost
    info.joinpath("entry_points.txt").write_text("[seg]\nfake-heavy = fake_heavy\n")
    assert ask()[0][0] == "slow"
