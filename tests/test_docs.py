"""What the documentation says is so: its plugin works, its reference is current, its names are complete."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import seg
from seg import Architecture, Silent
from seg.discovery import discover
from seg.errors import Exit
from seg.events import EpochEnded
from seg.hookspecs import COMMANDS, EVENTS, KINDS
from seg.listening import Listening, sections
from seg_cli.choosing import EXPECTED
from seg_cli.main import app, execute

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


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The minimal plugin of the documentation, as if it were installed."""
    blocks = {name: content for name, content in files().items() if name.startswith(("pyproject", "segplug_tiny"))}
    for name, content in blocks.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    project = tomllib.loads(blocks["pyproject.toml"])["project"]
    info = tmp_path / f"segplug_tiny-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["seg"].items())
    (info / "entry_points.txt").write_text(f"[seg]\n{points}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield blocks
    for name in [name for name in sys.modules if name.partition(".")[0] == "segplug_tiny"]:
        del sys.modules[name]


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


def test_every_link_leads_somewhere():
    for page in pages():
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("docs/images/"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_public_name_of_the_examples_exists():
    for page in pages():
        for name in re.findall(r"\bseg\.([A-Za-z_]+)\(", page.read_text(encoding="utf-8")):
            assert name in seg.__all__, f"{page.name}: seg.{name}"
