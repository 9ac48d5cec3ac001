"""Runs and models know what they were made with, and say so where another version of it, or none, is installed."""

import json
import re
import shutil
import sys
from importlib import invalidate_caches

import pytest
from attrs import evolve

import seg
from seg.discovery import discover
from seg.errors import SegError
from seg.model_files import write_model
from seg.models import ComponentUse
from seg.phantom import write_phantom
from seg.provenance import advice_for, as_then, build_component, changed_versions, version_records
from seg.registry import Plugin, Registry
from seg.testing._model import small_model
from seg_cli.main import execute

RECORDED = ComponentUse(kind="architecture", name="unet", distribution="segplug", version="0.1.0",
                        options={"features": 4})
CODE = """
from attrs import frozen
from seg import Offer, hookimpl, option
from seg_unet.unet import UNet

@hookimpl
def seg_architectures():
    yield Offer("mine", f"{__name__}:Mine")

@frozen(kw_only=True)
class Mine:
    features: int = option(2, "features", ge=1)

    def topology(self, *asked):
        return UNet(features=self.features).topology(*asked)

    def feature_map_size(self, *asked):
        return UNet().feature_map_size(*asked)

    def loss_weights(self, topology):
        return UNet().loss_weights(topology)

    def build(self, topology):
        return UNet().build(topology)
"""


def install(site, version, *, requires=""):
    for old in site.glob("*.dist-info"):
        shutil.rmtree(old)
    info = site / f"fake_mine-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fake-mine\nVersion: {version}\n{requires}")
    (info / "entry_points.txt").write_text("[seg]\nmine = fake_mine\n")
    (site / "fake_mine.py").write_text(CODE)
    invalidate_caches()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with the plugin in version 1.4: its words, its folder, the folder of the installation."""
    folder = tmp_path_factory.mktemp("made")
    site, before = folder / "site", set(sys.modules)
    install(site, "1.4")
    write_phantom(folder / "data", cases=5, shape=(16, 20, 18))
    words = ["run", folder / "data", "-o", folder / "run", "--epochs", 1, "--fold", 0, "--device", "cpu", "--arch",
             "mine", "--set", "train.steps_per_epoch=1", "--set", "architecture.features=3"]
    sys.path.insert(0, str(site))
    assert execute([str(word) for word in words]) == 0
    yield [str(word) for word in words], folder / "run", site
    sys.path.remove(str(site))
    for name in set(sys.modules) - before:
        if name.startswith(("fake", "seg_local")):
            del sys.modules[name]


@pytest.fixture
def run(made, tmp_path):
    """A copy of that run, with the words that go on with it; 1.4 is installed again."""
    words, folder, site = made
    install(site, "1.4")
    shutil.copytree(folder, tmp_path / "run")
    return [str(tmp_path / "run") if word == str(folder) else word for word in words], tmp_path / "run", site


def predicted(model, data, out):
    return execute(["predict", "-m", str(model), "-i", str(data / "imagesTr"), "-o", str(out), "--device", "cpu"])


def test_run_and_model_record_distribution_version_and_options(made):
    _, folder, _ = made
    text = (folder / "run.toml").read_text().replace("# ", "")
    assert re.search(r'\[components.architecture\]\nname = "mine"\nfrom = "fake-mine 1.4"', text)
    assert "[components.architecture.options]\nfeatures = 3" in text
    assert "[components.sampler.options]\nforeground = 0.33" in text
    model = json.loads((folder / "model" / "model.json").read_text())
    mine = ComponentUse(kind="architecture", name="mine", distribution="fake-mine", version="1.4",
                        options={"features": 3})
    assert ComponentUse(**model["architecture"]) == mine
    assert mine in [ComponentUse(**use) for use in model["components"]]
    assert {use["kind"] for use in model["components"]} >= {"planner", "sampler", "augmenter", "ensembler"}


def test_the_same_version_says_nothing(run, capsys):
    words, folder, _ = run
    assert execute(words) == 0
    assert "trained already" in capsys.readouterr().err
    assert seg.load(folder / "model", device="cpu").records == ()


def test_a_model_under_another_version_works_and_warns(run, tmp_path, capsys, made):
    _, folder, site = run
    install(site, "2.0")
    (record,) = seg.load(folder / "model", device="cpu").records
    assert (record.code, record.severity) == ("SEG-P11", "warning")
    assert "made with fake-mine 1.4, 2.0 is installed" in record.found
    assert predicted(folder / "model", made[1].parent / "data", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "SEG-P11 warning" in err
    assert "pip install fake-mine==1.4" in err


@pytest.mark.parametrize("state", ["absent", "refused"])
def test_a_model_whose_plugin_is_not_usable_is_exit_6(run, tmp_path, capsys, made, state):
    _, folder, site = run
    install(site, "2.0", requires="Requires-Dist: segplug>=9\n")
    if state == "absent":
        shutil.rmtree(site / "fake_mine-2.0.dist-info")
    assert predicted(folder / "model", made[1].parent / "data", tmp_path / "out") == 6
    err = capsys.readouterr().err
    assert "pip install fake-mine==1.4" in err
    assert ("refused here: needs segplug>=9" in err) is (state == "refused")


def test_a_finished_training_of_another_version_is_kept_and_said(run, capsys):
    words, folder, site = run
    weights = next(folder.rglob("weights.safetensors"))
    before, time = weights.read_bytes(), weights.stat().st_mtime_ns
    install(site, "2.0")
    assert execute(words) == 0
    assert "trained with fake-mine 1.4, 2.0 is installed; it is kept" in capsys.readouterr().err
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == (before, time)
    model = json.loads((folder / "model" / "model.json").read_text())
    assert model["architecture"]["version"] == "1.4"  # what the weights were made with, not what is here now
    assert 'from = "fake-mine 2.0"' in (folder / "run.toml").read_text()


def test_a_model_of_folds_of_several_versions_records_and_tells_each(run):
    words, folder, site = run
    install(site, "2.0")
    assert execute([*words, "--fold", "0,1"]) == 0
    model = json.loads((folder / "model" / "model.json").read_text())
    assert model["architecture"]["version"] == "1.4"
    recorded = [use["version"] for use in model["components"] if use["kind"] == "architecture"]
    assert recorded == ["1.4", "2.0"]
    assert len(model["components"]) == len({(use["kind"], use["name"]) for use in model["components"]}) + 1
    for here, made in (("2.0", "1.4"), ("1.4", "2.0")):
        install(site, here)
        (record,) = seg.load(folder / "model", device="cpu").records
        assert f"made with fake-mine {made}, {here} is installed" in record.found


def test_an_unfinished_one_is_refused(run, capsys):
    words, folder, site = run
    next(folder.rglob("done.json")).unlink()
    install(site, "2.0")
    for _ in range(2):  # a refusal changes nothing
        assert execute(words) == 6
        err = capsys.readouterr().err
        assert "was begun with fake-mine 1.4, 2.0 is installed" in err
        assert "pip install fake-mine==1.4" in err
    install(site, "1.4")
    assert execute(words) == 0


def test_other_cases_are_still_told_as_that(run, capsys):
    words, folder, _ = run
    file = next(folder.rglob("source.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"source": "of other cases"}))
    assert execute(words) == 2
    assert "of other cases or settings" in capsys.readouterr().err


def test_a_plugin_of_one_file_is_found_wherever_the_file_lies(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(CODE)
    here, there = tmp_path / "a" / "mine.py", tmp_path / "b" / "mine.py"
    plugins = [discover(seg.discovery.PluginChoice(only=(), files=files)) for files in ([here], [there], [])]
    _, use = plugins[0].build("architecture", "mine", {"features": 7})
    assert advice_for(use) == f"--plugin mine.py (content {use.version})"
    assert plugins[1].build("architecture", "mine", {"features": 7})[1] == use  # so that a run may go on with it
    both = discover(seg.discovery.PluginChoice(only=(), files=[here, there]))
    assert both.build("architecture", "mine", {"features": 7})[1] == use
    for registry in plugins[:2]:
        assert build_component(registry, use).features == 7
        assert version_records([use], registry) == ()
    old = evolve(use, distribution=f"file:{here}")  # as it was recorded once
    assert build_component(plugins[1], old).features == 7
    assert len(version_records([evolve(use, version="0")], plugins[1])) == 1
    with pytest.raises(seg.SegError, match="--plugin") as caught:
        build_component(plugins[2], use)
    assert caught.value.exit_code == 6


def test_versions_are_compared_within_one_component():
    def use(version, name="a", distribution="d"):
        return {"sampler": ComponentUse(kind="sampler", name=name, distribution=distribution, version=version)}

    assert changed_versions(use("1"), use("1")) == []
    assert changed_versions(use("1"), use("2")) == ["d 1, 2 is installed"]
    assert changed_versions(use("1"), use("2", name="b")) == []
    assert changed_versions(use("1"), use("2", distribution="e")) == []
    assert changed_versions({}, use("2")) == []
    assert as_then(use("1"), use("2")) == use("1")
    assert as_then(use("1"), use("2", name="b")) == use("2", name="b")


def test_a_broken_plugin_tells_its_reason():
    broken = Plugin(name="a", distribution="segplug", version="1", status="broken", reason="no torchvision")
    with pytest.raises(SegError, match="broken here: no torchvision") as caught:
        build_component(Registry(components=(), plugins=(broken,)), RECORDED)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(("version", "code"), [("0.0.9", 6), (None, 2)])
def test_options_that_another_version_has_are_exit_6(version, code):
    registry = discover()
    here = registry.find("architecture", "unet").plugin.version
    use = evolve(RECORDED, version=version or here, options={"gates": 3})
    with pytest.raises(SegError, match="gates") as caught:
        build_component(registry, use)
    assert caught.value.exit_code == code
    assert ("pip install segplug==0.0.9" in str(caught.value)) is bool(version)


def test_a_models_normaliser_in_another_version_is_told(tmp_path):
    model = small_model(tmp_path / "model")
    assert model.records == ()
    old = evolve(model.normalisers.uses["zscore"], version="0.0.1")
    weights = {"weights/3d_fullres_fold_0.safetensors": model.networks["3d_fullres"][0].state_dict()}
    write_model(tmp_path / "old", evolve(model.description, components=(old,)), weights)
    (record,) = seg.load(tmp_path / "old", device="cpu").records
    assert record.code == "SEG-P11"
    assert "made with segplug 0.0.1" in record.found
