"""Which plugins are looked at, in which order, and which of them are imported at all."""

import json
import os
import sys
from itertools import permutations
from pathlib import Path

import pytest

from seg import SegError
from seg._memory import Memory
from seg.choice import PluginChoice
from seg.discovery import discover
from seg.installed import installed
from seg.registry import clashes
from seg_cli.main import execute

PLUGIN = """
from pathlib import Path
with Path(__file__).with_suffix(".imports").open("a") as stream:
    stream.write("x")
from attrs import frozen
from seg import Offer, hookimpl

@hookimpl
def seg_samplers():
    yield Offer("{name}", f"{__name__}:Mine", "a sampler")

@frozen(kw_only=True)
class Mine:
    def positions(self, index, configuration, margin, rng):
        return []
"""


def install(folder, name, code=PLUGIN, *, requires=(), version="1.2", entries=""):
    module = name.replace("-", "_")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}\n" for line in requires]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}")
    (info / "entry_points.txt").write_text(f"[seg]\n{entries or f'{name}-entry = {module}'}\n")
    (folder / f"{module}.py").write_text(code.replace("{name}", name.partition("-")[2]))
    return info


def imports(folder, name):
    file = folder / f"{name.replace('-', '_')}.imports"
    return len(file.read_text()) if file.exists() else 0


def status(registry, distribution):
    (plugin,) = [plugin for plugin in registry.plugins if plugin.distribution == distribution]
    return plugin.status


def names(registry):
    return [plugin.distribution for plugin in registry.plugins if plugin.distribution != "segplug"]


def refusal(work, *arguments):
    with pytest.raises(SegError) as caught:
        work(*arguments)
    return int(caught.value.exit_code), str(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the path, whose modules are forgotten afterwards."""
    before, path = set(sys.modules), tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("SEG_PLUGINS", "SEG_PLUGINS_STRICT"):
        monkeypatch.delenv(name, raising=False)
    yield path
    forget(before)


def forget(before):
    for name in set(sys.modules) - before:
        if name.startswith(("fake", "seg_local")):
            del sys.modules[name]


@pytest.mark.parametrize(("value", "there"), [
    (None, ["fake-a", "fake-b"]), ("", []), ("fake-a", ["fake-a"]), ("Fake_B,", ["fake-b"]),
    ("fake-a-entry", ["fake-a"]), (" fake-a , fake-b-entry ", ["fake-a", "fake-b"]), ("unet", []),
])  # fmt: skip
def test_the_environment_chooses_and_the_others_are_not_imported(folder, monkeypatch, value, there):
    install(folder, "fake-a")
    install(folder, "fake-b")
    if value is not None:
        monkeypatch.setenv("SEG_PLUGINS", value)
    registry = discover()
    assert names(registry) == there
    assert {"unet", "nnunet"} <= {item.name for item in registry.components}
    assert [name for name in ("fake-a", "fake-b") if imports(folder, name)] == there


def test_without_takes_away_strangers_and_ours(folder):
    install(folder, "fake-a")
    registry = discover(PluginChoice(without=("fake-a", "unetpp")))
    assert names(registry) == []
    assert imports(folder, "fake-a") == 0
    assert [item.name for item in registry.of_kind("architecture")] == ["resenc", "unet"]


@pytest.mark.parametrize("choice", [PluginChoice(without=("fake-c",)), PluginChoice(only=("fake-c",))])
def test_an_unknown_name_is_exit_2_with_the_nearest(folder, choice):
    install(folder, "fake-cc")
    code, told = refusal(discover, choice)
    assert code == 2
    assert "Did you mean 'fake-cc'?" in told


REQUIRES = [
    ("segplug>=2,<3", False), ("segplug<0.1", False), ("SegPlug ~= 9.0", False), ("segplug>=0.0.1,<1", True),
    ("segplug", True), ("segplug-other>=9", True), ("segplugin>=9", True), ("segplug>=9 ; extra == 'x'", True),
    ("segplug[all]>=9", False), ("segplug>=9 ; python_version < '3'", True), ("segplug>=0.1.0.dev1", True),
    ("!!", True),
]  # fmt: skip


@pytest.mark.parametrize(("line", "fits"), REQUIRES)
def test_the_api_version_is_checked_before_anything_is_imported(folder, line, fits):
    install(folder, "fake-a", requires=["numpy", line])
    registry = discover()
    assert status(registry, "fake-a") == ("ok" if fits else "refused")
    assert imports(folder, "fake-a") == fits
    if not fits:
        code, told = refusal(registry.build, "sampler", "fake-a:a")
        assert code == 6
        assert "pip install 'segplug" in told
        assert "this is " in told


def test_under_strict_any_that_cannot_be_used_is_exit_6(folder, monkeypatch):
    install(folder, "fake-a", "import no_such_module")
    install(folder, "fake-b", requires=["segplug>=9"])
    discover()
    monkeypatch.setenv("SEG_PLUGINS_STRICT", "1")
    code, told = refusal(discover)
    assert code == 6
    assert "no_such_module" in told
    assert "needs segplug>=9" in told
    monkeypatch.setenv("SEG_PLUGINS", "")
    discover()


@pytest.mark.parametrize("damage", ["line", "bytes", "metadata", "nothing"])
def test_one_damaged_distribution_does_not_hide_the_others(folder, damage):
    info = install(folder, "fake-a")
    install(folder, "fake-b")
    if damage == "line":
        (info / "entry_points.txt").write_text("[seg]\nno equals sign\n")
    elif damage == "bytes":
        (info / "entry_points.txt").write_bytes(b"[seg]\nx = \xff\xfe\n")
    elif damage == "metadata":
        (info / "METADATA").write_bytes(b"\xff\xfe\x00")
    else:
        (info / "METADATA").write_text("")
    registry = discover()
    assert registry.build("sampler", "b")[1].distribution == "fake-b"
    assert "unet" in [item.name for item in registry.of_kind("architecture")]
    if damage == "line":
        assert status(registry, "fake-a") == "broken"


def test_the_order_of_the_path_decides_nothing(tmp_path, monkeypatch):
    before, found = set(sys.modules), set()
    for name in ("fake-a", "fake-b", "fake-c"):
        install(tmp_path / name, name)
    for order in permutations(["fake-a", "fake-b", "fake-c"]):
        with monkeypatch.context() as patch:
            for name in order:
                patch.syspath_prepend(tmp_path / name)
            registry = discover()
            found.add((tuple(names(registry)), tuple(item.qualified for item in registry.components)))
            forget(before)
    assert len(found) == 1


def test_of_two_versions_on_the_path_the_one_that_python_imports_counts(folder, tmp_path, monkeypatch):
    install(folder, "fake-a", version="1.0")
    install(tmp_path / "first", "fake-a", version="2.0")
    monkeypatch.syspath_prepend(tmp_path / "first")
    (plugin,) = [plugin for plugin in discover().plugins if plugin.distribution == "fake-a"]
    assert plugin.version == "2.0"
    assert imports(tmp_path / "first", "fake-a") == 1


def test_entry_points_of_one_name_and_of_one_module_are_all_heard(folder):
    install(folder, "fake-b")
    install(folder, "fake-a", entries="one = fake_a\ntwo = fake_a\none = fake_b")
    registry = discover()
    assert {plugin.status for plugin in registry.plugins} == {"ok"}
    assert names(registry) == ["fake-a"] * 3 + ["fake-b"]
    assert registry.build("sampler", "a")[1].distribution == "fake-a"
    assert clashes(registry) == {("sampler", "b"): ["fake-a:b", "fake-b:b"]}


def test_a_plugin_that_takes_long_is_imported_once(folder):
    before = set(sys.modules)
    install(folder, "fake-slow")
    for count, slow_ms in ((1, -1), (1, -1), (1, 10_000)):
        registry = discover(PluginChoice(slow_ms=slow_ms))
        assert status(registry, "fake-slow") == "slow"
        assert registry.find("sampler", "slow").plugin.distribution == "fake-slow"
        forget(before)
        assert imports(folder, "fake-slow") == count
    assert {plugin.status for plugin in registry.plugins if plugin.distribution == "segplug"} == {"ok"}
    os.utime(folder / "fake_slow.py", ns=(1, 1))
    assert status(discover(), "fake-slow") == "ok"
    assert imports(folder, "fake-slow") == 2


def test_a_slow_one_that_is_broken_is_tried_again_when_anything_is_installed(folder):
    code = PLUGIN + "import fake_helper\n"
    install(folder, "fake-slow", code)
    for _ in range(2):
        assert status(discover(PluginChoice(slow_ms=-1)), "fake-slow") == "broken"
        sys.modules.pop("fake_slow", None)
    assert imports(folder, "fake-slow") == 1
    install(folder, "fake-helper")
    assert status(discover(PluginChoice(slow_ms=-1)), "fake-slow") == "slow"
    assert imports(folder, "fake-slow") == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", '{"KEY": 1}', '{"KEY": {"files": "x"}}'])
def test_a_damaged_memory_costs_time_only(folder, content):
    install(folder, "fake-slow")
    discover(PluginChoice(slow_ms=-1))
    file = next(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json"))
    key = next(key for key in json.loads(file.read_text()) if "fake-slow" in key)
    file.write_text(content.replace("KEY", key))
    assert Memory.read().recall(next(item for item in installed() if item.distribution == "fake-slow")) is None
    assert status(discover(), "fake-slow") == "ok"


def test_a_plugin_of_one_file_names_its_own_class(folder, tmp_path):
    file = tmp_path / "my net.py"
    file.write_text(PLUGIN.replace("{name}", "mine"))
    choice = PluginChoice(only=(), files=(file, file))
    registry = discover(choice)
    (plugin,) = [plugin for plugin in registry.plugins if plugin.distribution != "segplug"]
    instance, use = registry.build("sampler", "mine")
    assert (plugin.origin, use.distribution, use.version) == ("file", "file:my net.py", plugin.version)
    assert type(instance).__module__.startswith("seg_local_my_net_")
    assert "my net" not in sys.modules
    assert type(discover(choice).build("sampler", "mine")[0]) is type(instance)
    file.write_text(file.read_text() + "# other\n")
    (other,) = [plugin for plugin in discover(choice).plugins if plugin.distribution != "segplug"]
    assert other.version != plugin.version
    assert discover(choice).build("sampler", "file:my net.py:mine")[1].name == "mine"


@pytest.mark.parametrize(("code", "told"), [
    (None, "No such file"), ("def (", "SyntaxError"), ("raise SystemExit", "SystemExit"),
    ("import nothing_there", "No mod"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_exit_6_at_once(folder, tmp_path, code, told):
    file = tmp_path / "mine.py"
    if code is not None:
        file.write_text(code)
    status, text = refusal(discover, PluginChoice(files=(file,)))
    assert status == 6
    assert told in text
    assert not [name for name in sys.modules if name.startswith("seg_local_mine")]


def test_the_command_line_takes_both_options_anywhere(folder, tmp_path, capsys):
    install(folder, "fake-a")
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.replace("{name}", "mine"))
    for words in (["--plugin", file, "--no-plugin=fake-a", "list-plugins", "--json"],
                  ["list-plugins", "--json", "--no-plugin", "fake-a-entry", f"--plugin={file}"]):
        assert execute([str(word) for word in words]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert "a" not in rows
        assert rows["mine"]["origin"] == "file"
        assert rows["mine"]["hooks"] == ["seg_samplers"]
    assert execute(["show", "sampler", "mine", "--plugin", str(file)]) == 0
    assert execute(["list-plugins", "--plugin"]) == 2
    assert execute(["list-plugins", "--no-plugin", "--json"]) == 2
    assert "--no-plugin NAME" in capsys.readouterr().err
    assert execute(["--help"]) == 0
    assert "--no-plugin NAME" in " ".join(capsys.readouterr().out.split())


def test_commands_that_need_no_plugin_import_none(folder, tmp_path, capsys):
    install(folder, "fake-a")
    for words in (["run", "--help"], ["--version"], ["phantom", str(tmp_path / "data"), "--cases", "1"]):
        assert execute(words) == 0
        assert imports(folder, "fake-a") == 0
    assert "seg 0" in capsys.readouterr().out


def test_list_plugins_shows_why_and_verify_is_exit_6(folder, capsys):
    install(folder, "fake-a", "import no_such_module")
    install(folder, "fake-b", requires=["segplug>=9"])
    assert execute(["list-plugins", "--json"]) == 0
    rows = {row["distribution"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["fake-a"]["status"], rows["fake-b"]["status"]) == ("broken", "refused")
    assert "no_such_module" in rows["fake-a"]["reason"]
    assert rows["fake-b"]["requires"] == "segplug>=9"
    assert execute(["list-plugins", "--verify", "--no-plugin", "fake-a", "--no-plugin", "fake-b"]) == 0
    assert execute(["list-plugins", "--verify"]) == 6
    assert "2 faults" in capsys.readouterr().err
