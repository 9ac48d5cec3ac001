"""Every kind of new plugin is a whole package that passes its own tests and the kit."""

import importlib
import re
import subprocess
import sys
import tomllib

import pytest

import seg.testing
from seg import SegError
from seg.discovery import discover
from seg.hookspecs import KINDS
from seg.new_plugin import FILES, HOOKS, SUMMARIES, new_plugin, short_name
from seg_cli.main import app, execute

NAME = "segplug-kit-{}"


@pytest.fixture
def made(request, tmp_path, install):
    """The kind, and the folder of a package that was made and installed."""
    kind = request.param
    new_plugin(NAME.format(kind), kind, tmp_path)
    install(tmp_path / NAME.format(kind), "src")
    return kind, tmp_path / NAME.format(kind)


def each_kind(kinds):
    return pytest.mark.parametrize("made", kinds, indirect=True, ids=str)


@each_kind(sorted(KINDS))
def test_a_component_of_each_kind_is_found_and_passes_the_kit(made):
    kind, _ = made
    registry = discover()
    found = registry.find(kind, f"kit_{kind}")
    assert (found.plugin.distribution, found.plugin.status) == (NAME.format(kind), "ok")
    assert found.summary == SUMMARIES[kind]
    assert seg.testing.verify(registry, [NAME.format(kind)]) == []
    seg.testing.check_plugin(found.target.partition(".")[0])


@each_kind(sorted(HOOKS))
def test_its_own_tests_pass(made):
    """Those that are not the kit's, which ran above."""
    kind, folder = made
    sys.path.insert(0, str(folder / "tests"))
    tests = importlib.import_module(f"test_{kind}")
    sys.path.pop(0)
    sys.modules.pop(f"test_{kind}")
    names = [name for name in vars(tests) if name.startswith("test_")]
    assert "test_the_plugin_is_well_formed" in names
    assert len(names) > 1
    source = (folder / "tests" / f"test_{kind}.py").read_text(encoding="utf-8")
    assert ("seg.testing.parametrize" in source) == (kind in KINDS)
    tests.test_the_plugin_is_well_formed()


@pytest.mark.parametrize("kind", ["metric", "logger"])
def test_pytest_runs_in_the_package(kind, tmp_path):
    new_plugin(NAME.format(kind), kind, tmp_path)
    folder = tmp_path / NAME.format(kind)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-o", "pythonpath=src"], cwd=folder, check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout)


def test_the_network_of_a_new_architecture_learns_in_a_training_loop(tmp_path, install):
    """As `seg run` would train it: the outputs of deep supervision, each with its weight."""
    import torch

    from seg.losses import DeepSupervision
    from seg.models import Labels
    from seg.testing._samples import configuration

    new_plugin("segplug-kit-net", "architecture", tmp_path)
    install(tmp_path / "segplug-kit-net", "src")
    component, _ = discover().build("architecture", "kit_net", {"features": 4})
    topology = component.topology([(3, 3)] * 3, [(1, 1), (2, 2), (2, 2)], 1, 2)
    torch.manual_seed(0)
    network = component.build(topology)
    labels = Labels(values={"background": 0, "organ": 1})
    criterion = discover().build("loss", "dice_ce")[0].build(labels, configuration((16, 16), labels=labels))
    loss = DeepSupervision(criterion=criterion, weights=component.loss_weights(topology))
    image = torch.zeros(2, 1, 16, 16)
    image[:, :, 4:12, 4:12] = 1
    label = image[:, 0].long()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    values = []
    for _ in range(25):
        optimizer.zero_grad()
        value = loss(network(image + 0.1 * torch.randn_like(image)), label)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.5


MYPY = """[mypy]
strict = true
mypy_path = src
packages = segplug_kit_metric
[mypy-torch.*,SimpleITK.*,h5py.*,scipy.*,safetensors.*,matplotlib.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-seg.*]
follow_imports = silent
"""


def test_a_new_package_passes_strict_mypy(tmp_path):
    """Without looking into torch, which takes most of the time."""
    pytest.importorskip("mypy")
    new_plugin(NAME.format("metric"), "metric", tmp_path)
    (tmp_path / "mypy.ini").write_text(MYPY)
    done = subprocess.run([sys.executable, "-m", "mypy", "--config-file", str(tmp_path / "mypy.ini"), "--cache-dir",
                           str(tmp_path / "cache")], cwd=tmp_path / NAME.format("metric"), check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_new_packages_have_no_lint(tmp_path):
    for kind in HOOKS:
        new_plugin(NAME.format(kind), kind, tmp_path)
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=tmp_path, check=False,
                          capture_output=True, text=True)
    if "No module named ruff" in done.stderr:
        pytest.skip("ruff is not installed")
    assert done.returncode == 0, done.stdout


def test_every_file_is_there(tmp_path):
    files = new_plugin("segplug-some.thing", "architecture", tmp_path)
    root = tmp_path / "segplug-some.thing"
    assert all(file.is_file() for file in files)
    assert set(files) == {path for path in root.rglob("*") if path.is_file()}
    names = {str(file.relative_to(root)) for file in files}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", ".github/workflows/ci.yml",
                     "src/segplug_some_thing/py.typed", "src/segplug_some_thing/network.py",
                     "src/segplug_some_thing/architecture.py", "tests/test_architecture.py"}
    assert len(FILES) + 3 == len(names)
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert "{{" not in text.replace("${{", "")
    assert "%}" not in text
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.fullmatch(r"segplug>=\d+\.\d+,<\d+", project["dependencies"][0])
    assert project["entry-points"]["seg"] == {"some_thing": "segplug_some_thing"}


@pytest.mark.parametrize(("name", "short"), [("segplug-attention", "attention"), ("my-net", "my_net"),
                                             ("seg-a.b", "a_b"), ("segplug", "segplug")])
def test_the_short_name_has_no_prefix(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize("name", ["", "1net", "a b", "-x", "a/b", "../up", "segplug-", "class", "segplug-class", "seg",
                                  "seg-unet", "segplug", "json", "torch", "näme!"])
def test_names_that_are_none_or_taken_are_refused(name, tmp_path):
    with pytest.raises(SegError, match=re.escape(repr(name))):
        new_plugin(name, "loss", tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_an_unknown_kind_and_an_existing_folder_are_refused(tmp_path, capsys):
    assert execute(["new-plugin", "segplug-a", "--kind", "los", "-o", str(tmp_path)]) == 2
    assert "Did you mean 'loss'" in capsys.readouterr().err
    assert execute(["new-plugin", "segplug-a", "--kind", "loss", "-o", str(tmp_path)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert execute(["new-plugin", "segplug-a", "--kind", "recipe", "-o", str(tmp_path)]) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", sorted(HOOKS))
def test_the_command_ends_with_what_to_do_next(kind, tmp_path, capsys):
    import typer

    assert execute(["new-plugin", "segplug-a", "--kind", kind, "-o", str(tmp_path)]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    go, install, test, use = last.split(" && ")
    assert (go, install, test) == (f"cd {tmp_path / 'segplug-a'}", "pip install -e '.[dev]'", "pytest")
    words = use.split()
    known = typer.main.get_command(app).commands
    assert words[0] == "seg"
    if kind != "command":
        options = {option for parameter in known[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
    assert use in (tmp_path / "segplug-a" / "README.md").read_text(encoding="utf-8")
