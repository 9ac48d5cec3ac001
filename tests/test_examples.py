"""The packages in `docs/examples` are what a stranger would write: they are built, installed beside ours, and run.

One long test does what a stranger does, in an environment of its own: wheels are built and installed, ours too; only
what both need (torch, attrs, …) is seen there through a `.pth` file, so that nothing is downloaded. It is one test
because it is one environment, whichever process of pytest it falls to.
"""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import seg
from seg.hookspecs import COMMANDS, KINDS
from seg.phantom import write_phantom

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in ROOT.glob("docs/examples/*/pyproject.toml"))
NEEDS = {"segplug-torchio": "torchio"}  # what an example wraps, if we have no need of it
STEPS = ["--epochs", "1", "--set", "train.steps_per_epoch=1", "--seed", "0", "--device", "cpu",
         "--set", "predict.mirroring=false"]


def name_of(path):
    return path.name


def project(example):
    return tomllib.loads((example / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def page():
    return (ROOT / "docs/plugins.md").read_text(encoding="utf-8")


class Stranger:
    """An environment with the wheels of `seg` and of examples, and nothing of this repository's folders."""

    def __init__(self, folder, examples):
        self.folder, self.examples = folder, examples
        wheels, home = folder / "wheels", folder / "venv"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
        call([*pip, "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", wheels, ROOT, *examples])
        call([sys.executable, "-m", "venv", "--without-pip", home])
        self.python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith(("PYTHON", "SEG_", "PYTEST_", "COV_"))}
        self.env |= {"PYTHONUTF8": "1", "SEG_PLUGINS_STRICT": "1", "XDG_CACHE_HOME": str(folder / "cache")}
        (site,) = json.loads(self("-c", "import json, site; print(json.dumps(site.getsitepackages()[-1:]))"))
        shared = [path for path in sys.path if any(Path(path).glob("*.dist-info"))]
        (Path(site) / "shared.pth").write_text("".join(f"{path}\n" for path in shared), encoding="utf-8")
        call([*pip, "--python", self.python, "install", "-q", "--no-deps", "--no-index", *wheels.glob("*.whl")])
        self.site = Path(site)

    def __call__(self, *words, python=("-P",)):
        return call([self.python, *python, *words], env=self.env, cwd=self.folder)

    def seg(self, *words):
        return self("-c", "from seg_cli.main import main; main()", *words)


def call(words, **further):
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, **further)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_strangers_build_install_and_run_their_packages(tmp_path):
    pytest.importorskip("hatchling", reason="wheels are built by hatchling")
    pytest.importorskip("pip")
    absent = {name: needed for name, needed in NEEDS.items() if importlib.util.find_spec(needed) is None}
    examples = [example for example in EXAMPLES if example.name not in absent]
    stranger = Stranger(tmp_path, examples)
    everything_comes_from_the_wheels(stranger)
    all_are_listed_and_ok(stranger)
    their_own_tests_pass(stranger)
    write_phantom(tmp_path / "phantom", cases=5, shape=(12, 24, 24))
    a_run_uses_all_of_them(stranger)
    another_run_is_flat(stranger)
    if absent:
        pytest.skip(f"all but {', '.join(absent)}: {', '.join(absent.values())} is not installed")


def everything_comes_from_the_wheels(stranger):
    modules = ["seg", "seg_cli", "seg_unet", *(example.name.replace("-", "_") for example in stranger.examples)]
    code = f"import json, importlib; print(json.dumps([importlib.import_module(m).__file__ for m in {modules}]))"
    assert all(Path(file).is_relative_to(stranger.site) for file in json.loads(stranger("-c", code)))


def all_are_listed_and_ok(stranger):
    listed = json.loads(stranger.seg("list-plugins", "--json"))
    for example in stranger.examples:
        found = [(one["status"], one["origin"]) for one in listed if one["distribution"] == example.name]
        assert set(found) == {("ok", "installed")}, example.name


def their_own_tests_pass(stranger):
    """The kit among them. Each file is run as its author would run it, without this repository's settings."""
    files = [file for example in stranger.examples for file in sorted((example / "tests").glob("test_*.py"))]
    told = stranger("-m", "pytest", "-q", "-W", "error", "-W", "ignore:builtin type .* has no:DeprecationWarning",
                    "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", stranger.folder,
                    "--import-mode=importlib", *files)
    assert re.search(r"[1-9]\d+ passed", told)
    assert "skipped" not in told


def a_run_uses_all_of_them(stranger):
    """Each component by its name, with options; two folds, so that there is something to combine."""
    wanted = {"architecture": "attention", "planner": "fixed", "loss": "tversky", "ensembler": "staple",
              "augmenter": "torchio"}
    options = {"architecture.features": "4", "planner.patch": "8,16,16", "planner.spacing": "3,2,2",
               "loss.alpha": "0.4", "ensembler.tolerance": "0.5", "augmenter.p_affine": "1"}
    if all(example.name != "segplug-torchio" for example in stranger.examples):
        del wanted["augmenter"], options["augmenter.p_affine"]
    chosen = [word for kind, name in wanted.items()
              for word in ("--arch" if kind == "architecture" else f"--{kind}", name)]
    sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    stranger.seg("run", "phantom", "-o", "all", "--fold", "0,1", *chosen, *sets, *STEPS)
    run = stranger.folder / "all"
    recorded = (run / "run.toml").read_text(encoding="utf-8")
    for name in wanted.values():
        assert f'# name = "{name}"\n# from = "segplug-{name} 0.1.0"' in recorded
    (plan,) = json.loads((run / "plan.json").read_text(encoding="utf-8"))["configurations"].values()
    assert (plan["patch"], plan["spacing"]) == ([8, 16, 16], [3, 2, 2])
    the_logger_has_told(stranger, run)
    image = min((stranger.folder / "phantom/imagesTr").iterdir())
    stranger.seg("predict", "-m", run / "model", "-i", image, "-o", "predicted", "--device", "cpu", "--no-mirroring")
    assert len(list((stranger.folder / "predicted").glob("*.nii.gz"))) == 1


def the_logger_has_told(stranger, run):
    events = [json.loads(line)["event"] for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (events[0], events[-1]) == ("started", "done")
    assert (events.count("epoch"), events.count("validated")) == (2, 2)
    assert re.search(r"<h\d[^>]*>History</h", (run / "report.html").read_text(encoding="utf-8"))
    told = stranger.seg("history", run, "--last", "1").splitlines()
    assert [line.split(":")[0] for line in told] == ["all 3d_fullres fold 0", "all 3d_fullres fold 1"]


def another_run_is_flat(stranger):
    """Slices of the same images, the other loss."""
    stranger.seg("run", "phantom", "-o", "flat", "--fold", "0", "--planner", "fixed", "--set", "planner.patch=16,16",
                 "--arch", "attention", "--set", "architecture.features=4", "--loss", "focal_tversky", *STEPS)
    assert (stranger.folder / "flat/training/2d/fold_0").is_dir()


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_take_what_seg_offers_and_nothing_else(example):
    """From `seg.__all__`, and `seg.testing` in tests."""
    for file in example.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                inner = {alias.name for alias in node.names if alias.name.partition(".")[0].startswith("seg")}
                assert inner <= {"seg.testing", example.name.replace("-", "_")}, file
            elif isinstance(node, ast.ImportFrom) and node.module == "seg":
                assert {alias.name for alias in node.names} <= set(seg.__all__), file
            elif isinstance(node, ast.ImportFrom):
                assert not node.module.startswith(("seg.", "seg_")), file


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_are_whole_packages(example):
    found = project(example)
    assert found["name"] == example.name
    assert found["entry-points"]["seg"] == {example.name.removeprefix("segplug-"): example.name.replace("-", "_")}
    assert "segplug>=0.1,<1" in found["dependencies"]
    assert 3 < len((example / "README.md").read_text(encoding="utf-8").splitlines()) < 40
    assert (example / "src" / example.name.replace("-", "_") / "py.typed").exists()


def test_the_page_lists_every_example():
    rows = re.findall(r"^\| \[`(segplug-\w+)`\]\((examples/[\w-]+)\) \| ([\w, ]+) \|", page(), flags=re.MULTILINE)
    assert sorted(name for name, *_ in rows) == [example.name for example in EXAMPLES]
    assert all(path == f"examples/{name}" for name, path, _ in rows)
    known = {*KINDS, "logger", COMMANDS.removeprefix("seg_").removesuffix("s")}
    assert all(set(kinds.split(", ")) <= known for *_, kinds in rows)


def test_the_network_of_the_tutorial_is_that_of_the_example():
    shown = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", page(), flags=re.DOTALL))
    path = "src/segplug_attention/network.py"
    assert (ROOT / "docs/examples/segplug-attention" / path).read_text(encoding="utf-8") == shown[path]


MYPY = """[mypy]
strict = true
disallow_subclassing_any = false
mypy_path = {paths}
[mypy-torch.*,SimpleITK.*,h5py.*,scipy.*,safetensors.*,matplotlib.*,torchio.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-seg.*]
follow_imports = silent
"""


def test_examples_pass_strict_mypy(tmp_path):
    """Without looking into torch, which takes most of the time."""
    pytest.importorskip("mypy")
    paths = [str(example / "src") for example in EXAMPLES]
    (tmp_path / "mypy.ini").write_text(MYPY.format(paths=":".join([*paths, str(ROOT / "core")])), encoding="utf-8")
    call([sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "cache",
          *(word for example in EXAMPLES for word in ("-p", example.name.replace("-", "_")))], cwd=tmp_path)
