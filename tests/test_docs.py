"""What the documentation says is so: its plugin works, its reference is current, its names are complete."""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import seg
import seg.testing
from helpers import TINY
from seg import Architecture, Silent
from seg.discovery import discover
from seg.errors import Exit
from seg.events import EpochEnded
from seg.hookspecs import COMMANDS, EVENTS, KINDS
from seg.listening import Listening, sections
from seg.settings import read_settings
from seg_cli.choosing import EXPECTED
from seg_cli.main import app, execute
from seg_unet.unet import UNet

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCES = [path for part in ("core", "plugins", "cli") for path in (ROOT / part).rglob("*.py")]


def text(name):
    return (DOCS / name).read_text(encoding="utf-8")


def pages():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def files():
    """File → content, of all files that the page about plugins shows."""
    return dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", text("plugins.md"), flags=re.DOTALL))


@pytest.fixture
def made():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(title):
    """A section of plugins.md."""
    return text("plugins.md").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def files_of(title):
    """The files that a section shows: path → content."""
    return dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", section(title), flags=re.DOTALL))


@pytest.fixture
def package(tmp_path, install):
    """The minimal plugin of the documentation, as if it were installed."""
    blocks = files_of("A whole package")
    for name, content in blocks.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    install(tmp_path)
    return blocks


def test_the_minimal_plugin_is_small(package):
    lines = [line for content in package.values() for line in content.splitlines() if line.strip()]
    assert len(lines) < 60


@pytest.mark.parametrize("dims", [2, 3])
def test_the_minimal_plugin_is_found_and_builds_its_network(package, dims):
    registry = discover()
    found = registry.find("architecture", "tiny")
    assert (found.qualified, found.plugin.status) == ("segplug-tiny:tiny", "ok")
    tiny, use = registry.build("architecture", "tiny", {"features": 2})
    assert isinstance(tiny, Architecture)
    assert use.options == {"features": 2}
    topology = tiny.topology([(3,) * dims] * 3, [(1,) * dims, (2,) * dims, (2,) * dims], 1, 3)
    network, patch = tiny.build(topology), (8,) * dims
    outputs = network(torch.randn(2, 1, *patch))
    assert [tuple(output.shape) for output in outputs] == [(2, 3, *patch)]
    assert len(tiny.loss_weights(topology)) == len(outputs)
    assert tiny.feature_map_size(topology, (16,) * dims, 3) > tiny.feature_map_size(topology, patch, 3)


def test_the_test_of_the_minimal_plugin_runs(package, tmp_path):
    ((name, content),) = files_of("Testing a plugin").items()
    file = tmp_path / name
    file.parent.mkdir()
    file.write_text(content, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", str(file), "--rootdir", str(tmp_path)], check=False,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) == len(seg.testing.checks("architecture")) + 1


def test_what_the_kit_says_is_so():
    found = re.search(r"`(found [^`]*)`", section("Testing a plugin"))[1]

    class Mutant(UNet):
        def loss_weights(self, topology):
            return 1.0, 0.5

    with pytest.raises(AssertionError) as told:
        seg.testing.check_component("architecture", Mutant(features=2))
    assert "loss" in str(told.value)
    (check,) = [one for one in seg.testing.checks("architecture") if one.id == "architecture-loss-weights"]
    with pytest.raises(AssertionError) as told:
        check(Mutant(features=2))
    assert str(told.value) == " ".join(found.split())


def test_the_way_to_a_plugin_can_be_gone(tmp_path, monkeypatch, install):
    """Every command of `seg` in it that is no mere example (DATA), with the files that are shown, in order."""
    monkeypatch.chdir(tmp_path)
    commands = [line.split() for line in section("Write a plugin").splitlines() if line.startswith("    seg ")]
    commands = [words[1:] for words in commands if "DATA" not in words]
    assert [words[0] for words in commands] == ["new-plugin", "list-plugins", "phantom", "run"]
    for words in commands:
        assert execute(words) == 0
        if words[0] == "new-plugin":
            folder = tmp_path / words[1]
            for name, content in files_of("Write a plugin").items():
                assert (folder / name).is_file()
                (folder / name).write_text(content, encoding="utf-8")
            install(folder, "src")
            assert seg.testing.verify(discover(), [folder.name]) == []
    assert (tmp_path / "demo-run" / "model" / "model.json").exists()
    assert "segplug-attention" in (tmp_path / "demo-run" / "run.toml").read_text(encoding="utf-8")


def test_the_stages_of_the_tutorial_can_be_gone(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mydata").symlink_to(data)
    found = text("tutorial.md").partition("\n## Stage by stage\n")[2].partition("\n## ")[0]
    commands = [line.split()[1:] for line in found.splitlines() if line.startswith("    seg ")]
    assert len(commands) == 8
    for words in commands:
        assert execute([*words, *TINY] if words[0] == "run" else words) == 0
    made = {path: path.stat().st_mtime_ns for pattern in ("cases/*/*.h5", "training/*/*/*", "validation/*/*/*.nii.gz")
            for path in (tmp_path / "runs/mydata").glob(pattern)}
    assert len(made) > 5
    capsys.readouterr()
    assert execute(["run", "mydata", "-o", "runs/mydata", *TINY]) == 0  # it keeps what the stages made
    assert "trained already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_the_settings_file_of_the_tutorial_is_one(tmp_path):
    block = r"\n((?:        [^\n]*\n|\n)*?        \[planner\]\n(?:        [^\n]*\n)+)"
    shown = re.search(block, text("tutorial.md"))[1]
    (tmp_path / "mine.toml").write_text(textwrap.dedent(shown))
    found = read_settings(tmp_path / "mine.toml", [], {})
    assert (found.architecture, found.folds, found.epochs) == ("unetpp", ("0", "1"), 100)
    assert found.options == {"planner": {"vram_gb": 11}}


def test_the_logger_and_the_command_of_the_page_work(tmp_path, monkeypatch, capsys):
    for name, content in files().items():
        if name.startswith(("segplug_notes", "segplug_count")):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
    for module in ("segplug_notes", "segplug_count"):
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[seg]\n{module} = {module}\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    training, registry = tmp_path / "training/2d/fold_0", discover()
    training.mkdir(parents=True)
    listening = Listening(Silent(), registry)
    for epoch in (1, 2):
        listening.tell(EpochEnded(folder=training, configuration="2d", fold="0", row={
            "epoch": epoch, "step": epoch, "seconds": 1.0, "loss": 0.5, "lr": 0.01}))
    assert '"where": "2d fold 0", "epoch": 2' in (training / "notes.jsonl").read_text()
    assert [item.html for item in sections(tmp_path, registry)] == ["<p>2 epochs were noted.</p>"]
    (tmp_path / "a.nii.gz").touch()
    assert execute(["count", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 predictions\n"
    assert execute(["count", str(tmp_path / "nowhere")]) == Exit.USAGE
    for name in [name for name in sys.modules if name.startswith(("segplug_notes", "segplug_count"))]:
        del sys.modules[name]


def test_every_hook_of_a_run_is_explained():
    for hook in (*EVENTS, COMMANDS):
        assert f"`{hook}`" in text("plugins.md")
        assert hook in text("reference.md")


def test_every_hook_and_kind_is_tested():
    """Kinds are held to their contracts by the kit (tests/test_testing.py) too; here is what the kit cannot see."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")
                    if path != Path(__file__))
    assert [hook for hook in (*EVENTS, COMMANDS) if hook not in tests] == []
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []


def test_every_hook_and_kind_is_explained():
    for kind, hook in KINDS.items():
        assert f"**{kind.capitalize()}** (hook `{hook}`" in text("plugins.md")
        assert f"`{hook}`" in text("reference.md")


def test_the_reference_is_current(made):
    assert made.reference() == text("reference.md"), "run `python docs/make_reference.py`"


def test_every_fault_code_is_documented(made):
    used = {code for path in SOURCES for code in re.findall(r"SEG-[A-Z]\d\d", path.read_text(encoding="utf-8"))}
    assert used == set(made.fault_codes())
    assert all(f"| {code} |" in text("reference.md") for code in used)


def test_every_command_and_its_options_exist():
    import typer

    group = typer.main.get_command(app)
    known = {name: {option for parameter in command.params for option in parameter.opts}
             for name, command in group.commands.items()}
    shown = [line for page in pages() for line in page.read_text(encoding="utf-8").splitlines()
             if line.startswith("    seg ")]
    assert len(shown) > 10
    for line in shown:
        words = re.split(r"\s{2,}(?=[A-Za-z#])", line.strip())[0].split()
        assert words[1] in known, line
        assert {word for word in words[2:] if word.startswith("-")} <= known[words[1]] | {"--debug", *EXPECTED}, line
    told = "".join(page.read_text(encoding="utf-8") for page in pages())
    assert [name for name in known if f"seg {name}" not in told] == []


def test_the_readme_names_all_that_is_built_in():
    import typer

    told = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| ([^|]*) \|", told, flags=re.MULTILINE))
    ours = [item for item in discover().components if item.plugin.distribution == "segplug"]
    assert [(item.kind, item.name) for item in ours if f"`{item.name}`" not in rows[item.kind]] == []
    assert [name for name in typer.main.get_command(app).commands if f"`seg {name}" not in told] == []


def test_every_link_leads_somewhere():
    for page in pages():
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
            if "://" not in target and not target.startswith("docs/images/"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_public_name_of_the_examples_exists():
    for page in pages():
        for name in re.findall(r"\bseg\.([A-Za-z_]+)\(", page.read_text(encoding="utf-8")):
            assert name in seg.__all__, f"{page.name}: seg.{name}"
