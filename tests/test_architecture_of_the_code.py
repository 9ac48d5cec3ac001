"""What the folders promise: who imports whom, how long a file may be, what is imported only when it is needed."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import seg
from seg import hookspecs
from seg.hookspecs import COMMANDS, EVENTS, KINDS
from seg.kinds import INTERFACES

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/__init__.py"))
PACKAGES = ["core/seg", "cli/seg_cli", *(f"plugins/{name}" for name in PLUGINS)]
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
HEAVY = ["torch", "SimpleITK", "h5py", "scipy", "matplotlib"]


def name_of(file):
    return str(file.relative_to(ROOT))


def imports(file):
    """Every import of a file, in functions and under TYPE_CHECKING too, as (module, names)."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module, tuple(alias.name for alias in node.names)


def of_ours(file):
    return [(module, names) for module, names in imports(file)
            if module.partition(".")[0] in {"seg", "seg_cli", *PLUGINS}]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_who_imports_whom(file):
    source, package = file.relative_to(ROOT).parts[:2]
    for module, names in of_ours(file):
        top = module.partition(".")[0]
        if source == "core":
            assert top == "seg"
        elif source == "cli":
            assert top in ("seg", "seg_cli")
        elif top != package:
            assert module == "seg", f"plugins take what `seg` itself offers, not {module}"
            assert set(names) <= set(seg.__all__)
            assert names


@pytest.mark.parametrize("file", [*FILES, *sorted(ROOT.glob("tests/*.py"))], ids=name_of)
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) < 400


def test_the_lists_agree_with_the_folders():
    assert sorted(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(PACKAGES)
    assert sorted(PYPROJECT["tool"]["mypy"]["packages"]) == sorted(Path(package).name for package in PACKAGES)
    assert sorted(PYPROJECT["project"]["entry-points"]["seg"].values()) == PLUGINS
    assert all(key == value.removeprefix("seg_") for key, value in PYPROJECT["project"]["entry-points"]["seg"].items())


def test_every_public_name_is_there():
    assert sorted(seg.__all__) == sorted(set(seg.__all__))
    for name in seg.__all__:
        assert getattr(seg, name) is not None
    assert set(seg._LAZY) <= set(seg.__all__)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = seg.nothing_of_ours


@pytest.mark.parametrize("hook", KINDS.values())
def test_every_hook_says_what_it_is_for(hook):
    text = getattr(hookspecs, hook).__doc__
    assert text
    assert "`seg." in text


def test_every_kind_has_its_hook_and_its_interface():
    found = {name for name, value in vars(hookspecs).items() if hasattr(value, "seg_spec")}
    assert found == {*KINDS.values(), COMMANDS, *EVENTS}
    assert set(INTERFACES) == set(KINDS)
    for interface in INTERFACES.values():
        assert interface.__name__ in seg.__all__
        for name, member in vars(interface).items():
            assert name.startswith("_") or member.__doc__, f"{interface.__name__}.{name} is not described"


@pytest.mark.parametrize("code", [
    "import seg",
    "import seg_cli.main",
    "from seg_cli.main import execute; assert execute(['list-plugins']) == 0",
    "from seg_cli.main import execute; assert execute(['show', 'architecture', 'unet']) == 0",
    "from seg_cli.main import execute; assert execute(['--help']) == 0",
    *(f"import {name}" for name in PLUGINS),
])  # fmt: skip
def test_what_starts_at_once_imports_nothing_heavy(code, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = f"{code}\nimport sys\nprint('loaded', [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_modules_of_components_import_no_torch():
    code = """
import sys
from seg.discovery import discover
from seg.registry import load_class
for component in discover().components:
    load_class(component)
print([name for name in ("torch", "SimpleITK") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
