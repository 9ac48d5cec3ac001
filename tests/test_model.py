"""A model is written, loaded and used; whatever was done to it meanwhile is seen."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from attrs import evolve
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from scipy.ndimage import gaussian_filter

import seg
from seg import Configuration, Description, Labels, Plan, SegError
from seg.discovery import discover
from seg.files import digest_bytes
from seg.model import arithmetic, make_window
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.normalisation import Normalisers
from seg.preprocessing import Preparation, prepare
from seg.registry import Component, Plugin
from seg.restoring import restore_labels
from seg.settings import PredictOptions
from seg_unet.unet import UNet

LABELS = Labels(values={"background": 0, "cell": 1, "core": 2}, file_values={0: 0, 1: 255, 2: 7})
UNET = ComponentUse(kind="architecture", name="unet", distribution="segplug", version="0.1.0", options={"features": 4})
MEAN = ComponentUse(kind="ensembler", name="mean", distribution="segplug", version="0.1.0", options={})
WEIGHTS = "weights/{}_fold_{}.safetensors"


def how(plan, configuration):
    return Preparation(plan=plan, configuration=configuration,
                       normalisers=Normalisers.resolve([configuration], discover()))


def make_configuration(patch):
    dims = len(patch)
    topology = UNet(features=4).topology([(3,) * dims] * 2, [(1,) * dims, (2,) * dims], 1, LABELS.outputs)
    return Configuration(name="some", spacing=(999.0 if dims == 2 else 1.0, 1.0, 1.0), median_shape=patch, patch=patch,
                         batch=2, topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                         mirror_axes=(0, 1))


def make_model(folder, *, names=("3d",), folds=("0", "1"), labels=LABELS, patch=(10, 16, 16)):
    """A model of random networks."""
    configurations = {name: evolve(make_configuration(patch), name=name) for name in names}
    plan = Plan(description=Description(name="d", channel_names=("MR",), labels=labels, training_cases=4),
                planner="p", architecture="unet", transpose_forward=(0, 1, 2), original_median_spacing=(1.0, 1.0, 1.0),
                original_median_shape=(9.0, 15.0, 14.0), intensities=(), configurations=configurations)
    members = tuple(Member(configuration=name, fold=fold, weights=WEIGHTS.format(name, fold))
                    for name in names for fold in folds)
    weights = {}
    for index, member in enumerate(members):
        torch.manual_seed(index)
        weights[member.weights] = UNet(features=4).build(configurations[member.configuration].topology).state_dict()
    description = ModelDescription(plan=plan, configurations=configurations, members=members, chosen=names,
                                   architecture=UNET, ensembler=MEAN)
    write_model(folder, description, weights)
    return description


def image_of(shape=(9, 15, 14), seed=0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return gaussian_filter(noise, 1.5).astype(np.float32) + 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model"
    make_model(path)
    return path


@pytest.fixture
def copy(tmp_path):
    make_model(tmp_path / "model")
    return tmp_path / "model"


def sign(path):
    """Make a manifest that fits what is there."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "MANIFEST.sha256")
    lines = [f"{digest_bytes(file.read_bytes())}  {file.relative_to(path)}\n" for file in files]
    (path / "MANIFEST.sha256").write_text("".join(lines))


def change(path, **changes):
    """Another content of model.json, correctly signed."""
    data = json.loads((path / "model.json").read_text()) | changes
    (path / "model.json").write_text(json.dumps(data))
    sign(path)


def refused(path, **arguments):
    with pytest.raises(SegError) as caught:
        seg.load(path, device="cpu", **arguments)
    return int(caught.value.exit_code), str(caught.value)


def test_what_is_written_is_what_is_loaded(tmp_path):
    description = make_model(tmp_path / "m", names=("2d", "3d"))
    model = seg.load(str(tmp_path / "m"), device="cpu")
    assert model.description == description
    assert {name: len(networks) for name, networks in model.networks.items()} == {"2d": 2, "3d": 2}
    assert not any(network.training for networks in model.networks.values() for network in networks)
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == ["MANIFEST.sha256", "model.json", "weights"]


def test_writing_twice_is_the_same_to_the_bit(tmp_path):
    make_model(tmp_path / "a")
    make_model(tmp_path / "b")
    assert (tmp_path / "a" / "MANIFEST.sha256").read_bytes() == (tmp_path / "b" / "MANIFEST.sha256").read_bytes()
    assert seg.load(tmp_path / "a", device="cpu").digest == seg.load(tmp_path / "b", device="cpu").digest


@pytest.mark.parametrize("channel", [False, True])
def test_array_in_array_out(folder, channel):
    model, image = seg.load(folder, device="cpu"), image_of()
    before = image.copy()
    found = model.predict(image[None] if channel else image, spacing=(1.0, 1, 1))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 7, 255}
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(found, model.predict(image, spacing=[1, 1, 1]))


def test_prediction_is_preparing_tiles_and_the_way_back(tmp_path):
    description = make_model(tmp_path / "m", folds=("0",), patch=(16, 16, 16))
    options = PredictOptions(mirroring=False, autocast="off")
    model = seg.load(tmp_path / "m", device="cpu", options=options)
    image, (network,) = image_of((16, 16, 16)), model.networks["3d"]
    configuration = description.configurations["3d"]
    case = prepare(image[None], (1.0, 1.0, 1.0), how(description.plan, configuration))
    with torch.no_grad():
        logits = network(case.image[None])[0][0]
    expected = restore_labels(logits, case.properties, description.plan, configuration)
    found, none = model.predict_volume(image[None], (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(found, expected)
    assert none is None


@pytest.mark.parametrize(("patch", "mirroring", "expected"), [
    ((40, 56, 40), True, (1, (0, 1))), ((40, 56, 40), False, (1, ())), ((64, 64), True, (4, (0, 1))),
])  # fmt: skip
def test_volumes_come_alone_and_slices_together(patch, mirroring, expected):
    window = make_window(make_configuration(patch), PredictOptions(mirroring=mirroring))
    assert (window.batch, window.mirror_axes) == expected


def test_sitk_in_sitk_out_on_the_same_grid(folder):
    model, array = seg.load(folder, device="cpu"), image_of()
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 1.1, 1.3))
    image.SetOrigin((-5.0, 3.0, 10.5))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    found = model.predict(image)
    for get in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(found, get)() == getattr(image, get)()
    assert found.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), model.predict(array, spacing=(1.3, 1.1, 0.9)))


def test_two_dimensional_images(tmp_path):
    make_model(tmp_path / "m", patch=(12, 16))
    model, array = seg.load(tmp_path / "m", device="cpu"), image_of()[0]
    found = model.predict(array, spacing=(1, 1))
    assert found.shape == array.shape
    image = sitk.GetImageFromArray(array)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(model.predict(image)), found)
    np.testing.assert_array_equal(model.predict(array[None], spacing=(1, 1)), found)


@pytest.mark.parametrize(("values", "dtype"), [((0, 1, 255), np.uint8), ((0, 1, 256), np.uint16),
                                               ((0, 1, 70_000), np.uint32)])
def test_the_files_own_values_fit(tmp_path, values, dtype):
    labels = evolve(LABELS, file_values=dict(enumerate(values)))
    make_model(tmp_path / "m", labels=labels)
    found = seg.load(tmp_path / "m", device="cpu").predict(image_of(), spacing=(1, 1, 1))
    assert found.dtype == dtype
    assert set(np.unique(found)) <= set(values)


def test_probabilities_and_labels_agree(tmp_path):
    make_model(tmp_path / "m", names=("a", "b"))
    model = seg.load(tmp_path / "m", device="cpu")
    labels, probabilities = model.predict_volume(image_of()[None], (1.0, 1.0, 1.0), probabilities=True)
    assert probabilities.shape == (3, *labels.shape)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(0), labels)
    np.testing.assert_array_equal(labels, model.predict_volume(image_of()[None], (1.0, 1.0, 1.0))[0])


def test_only_what_is_chosen_is_loaded(tmp_path):
    make_model(tmp_path / "m", names=("a", "b"))
    change(tmp_path / "m", chosen=["b"])
    assert list(seg.load(tmp_path / "m", device="cpu").networks) == ["b"]


@pytest.mark.parametrize(("image", "spacing", "code"), [
    (image_of(), None, 2), (image_of(), (1, 1), 3), (np.stack([image_of()] * 2), (1, 1, 1), 3),
    (image_of()[0], (1, 1, 1), 3), (image_of(), (1, 0, 1), 2), (image_of(), (1, -1, 1), 2),
    (image_of(), (1, 1, np.nan), 2), (image_of() * np.nan, (1, 1, 1), 3), (image_of()[None, None], (1, 1, 1), 3),
], ids=range(9))  # fmt: skip
def test_images_that_do_not_fit(folder, image, spacing, code):
    with pytest.raises(SegError) as caught:
        seg.load(folder, device="cpu").predict(image, spacing)
    assert caught.value.exit_code == code


def test_an_image_of_one_value_is_predicted(folder):
    for value in (0, 5):
        found = seg.load(folder, device="cpu").predict(np.full((9, 12, 12), value, np.float32), spacing=(1, 1, 1))
        assert found.shape == (9, 12, 12)


@pytest.mark.parametrize("name", ["model.json", WEIGHTS.format("3d", "1"), "MANIFEST.sha256"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_seen(copy, name, damage):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data if damage == "flip" else data[:-1])
    if damage == "remove":
        (copy / name).unlink()
    code, told = refused(copy)
    missing = name == "MANIFEST.sha256" and damage == "remove"
    assert code == (2 if missing else 7)
    assert str(copy) in told


def test_what_is_no_model_is_exit_2(tmp_path):
    assert refused(tmp_path)[0] == 2
    assert refused(tmp_path / "absent")[0] == 2


@pytest.mark.parametrize("content", [b"", b"secret"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_path_out_of_the_model_is_not_read(copy, monkeypatch, content, absolute):
    outside = copy.parent / "outside.safetensors"
    outside.write_bytes(content)
    name = str(outside) if absolute else "../outside.safetensors"
    with (copy / "MANIFEST.sha256").open("a") as stream:
        stream.write(f"{digest_bytes(content)}  {name}\n")
    read = Path.read_bytes
    seen = []
    monkeypatch.setattr(Path, "read_bytes", lambda self: seen.append(self.resolve()) or read(self))
    assert refused(copy)[0] == 7
    assert outside not in seen


def test_a_link_out_of_the_model_is_not_followed(copy):
    weights = copy / WEIGHTS.format("3d", "1")
    weights.rename(copy.parent / "elsewhere")
    weights.symlink_to(copy.parent / "elsewhere")
    assert refused(copy)[0] == 7


@pytest.mark.parametrize(("changes", "told"), [
    ({"schema": 2}, "model format 2"), ({"schema": "1"}, "model format 1"), ({"unknown": 1}, "'unknown'"),
    ({"chosen": ["2d"]}, "2d"), ({"chosen": []}, "names what"), ({"members": []}, "3d"), ({"configurations": {}}, "3d"),
    ({"members": [{"configuration": "3d", "fold": "0", "weights": "../x"}]}, "../x"), ({"plan": {}}, "missing"),
])  # fmt: skip
def test_a_description_that_does_not_fit_is_exit_7(copy, changes, told):
    change(copy, **changes)
    code, text = refused(copy)
    assert code == 7
    assert told in text


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"null"])
def test_an_unreadable_description_is_exit_7(copy, content):
    (copy / "model.json").write_bytes(content)
    sign(copy)
    assert refused(copy)[0] == 7


def weights_of(copy, alter):
    path = copy / WEIGHTS.format("3d", "0")
    tensors = load_tensors(path.read_bytes())
    alter(tensors)
    path.write_bytes(save_tensors(tensors))
    sign(copy)


def test_weights_that_do_not_fit_are_exit_7(copy):
    weights_of(copy, lambda tensors: tensors.pop("heads.0.bias"))
    code, told = refused(copy)
    assert code == 7
    assert "heads.0.bias" in told
    weights_of(copy, lambda tensors: tensors.update({"heads.0.bias": torch.zeros(7)}))
    assert "(7,)" in refused(copy)[1]
    weights_of(copy, lambda tensors: tensors.update({"heads.0.bias": torch.zeros(3), "more": torch.zeros(1)}))
    assert "more" in refused(copy)[1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_exit_3(copy, value):
    weights_of(copy, lambda tensors: tensors["heads.0.bias"].fill_(value))
    code, told = refused(copy)
    assert code == 3
    assert "heads.0.bias" in told


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x80\x04."])
def test_weights_that_are_none_are_exit_7(copy, content):
    (copy / WEIGHTS.format("3d", "0")).write_bytes(content)
    sign(copy)
    assert refused(copy)[0] == 7


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("pack", [pickle.dump, torch.save])
def test_a_pickle_called_safetensors_is_not_run(copy, pack):
    canary = copy.parent / "canary"
    with (copy / WEIGHTS.format("3d", "0")).open("wb") as stream:
        pack({"heads.0.bias": Hostile(canary)}, stream)
    sign(copy)
    assert refused(copy)[0] == 7
    assert not canary.exists()


def test_a_topology_that_cannot_be_built_is_exit_7(copy):
    data = json.loads((copy / "model.json").read_text())
    data["configurations"]["3d"]["topology"]["features"] = []
    change(copy, configurations=data["configurations"])
    assert refused(copy)[0] == 7


def test_a_level_of_an_architecture_without_levels_is_exit_2(folder):
    code, told = refused(folder, options=PredictOptions(prune="L1"))
    assert code == 2
    assert "without levels" in told
    assert seg.load(folder, device="cpu", options=PredictOptions(prune="auto")).networks  # as the model holds it


def test_a_model_that_holds_a_level_nobody_knows_is_exit_7(copy):
    change(copy, levels={"3d": "L1"})
    code, told = refused(copy)
    assert code == 7
    assert "without levels" in told


def test_a_model_from_before_there_were_levels_is_read(copy):
    data = json.loads((copy / "model.json").read_text())
    del data["levels"]
    (copy / "model.json").write_text(json.dumps(data))
    sign(copy)
    assert seg.load(copy, device="cpu").description.levels == {}


def test_a_missing_plugin_is_exit_6_with_its_pip_install(copy):
    use = {"kind": "architecture", "name": "attention", "distribution": "segplug-attention", "version": "1.4",
           "options": {}}
    change(copy, architecture=use)
    code, told = refused(copy)
    assert code == 6
    assert "pip install segplug-attention==1.4" in told


def test_a_clash_of_names_does_not_touch_a_model(copy):
    stranger = Plugin(name="x", distribution="stranger", version="1", status="ok")
    registry = discover()
    clash = Component(kind="architecture", name="unet", summary="", target="no:Thing", plugin=stranger)
    seg.load(copy, device="cpu", registry=evolve(registry, components=(clash, *registry.components)))


def test_a_network_that_gives_no_numbers_is_exit_3(folder):
    model = seg.load(folder, device="cpu")
    with torch.no_grad():
        model.networks["3d"][0].heads[0].bias.fill_(torch.nan)
    with pytest.raises(SegError, match="no numbers") as caught:
        model.predict(image_of(), spacing=(1, 1, 1))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("asked", "recorded", "device", "expected"), [
    ("auto", "off", "cpu", "off"), ("auto", "auto", "cpu", "auto"), ("on", "off", "cpu", "on"),
    ("auto", "off", "cuda", "auto"), ("off", "auto", "cuda", "off"),
])  # fmt: skip
def test_a_model_says_in_what_arithmetic_it_predicts_on_a_cpu(asked, recorded, device, expected):
    assert arithmetic(asked, recorded, torch.device(device)) == expected
