"""ONNX files give what the networks give; a program without seg finds beside them what it must know."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import seg
from seg import Configuration, Description, Exporter, Intensities, Labels, Plan, SegError
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.settings import PredictOptions
from seg_onnx._description import describe
from seg_onnx.exporter import PACKAGES, OnnxExporter
from seg_unet.unet import UNet

LABELS = Labels(values={"background": 0, "cell": 1, "core": 2}, file_values={0: 0, 1: 255, 2: 7})
CT = Intensities(mean=10, median=9, std=4, min=-50, max=90, percentile_00_5=-5, percentile_99_5=30)
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": 2, "ignore": 3}, regions_class_order=(1, 2))
installed = pytest.mark.skipif(any(find_spec(name) is None for name in (*PACKAGES, "onnxruntime")),
                               reason="needs onnx, onnxscript and onnxruntime")


def make_model(folder, *, names=("3d",), labels=LABELS, patch=(10, 16, 16)):
    """A model of random networks, two folds each."""
    dims, unet = len(patch), UNet(features=4)
    topology = unet.topology([(3,) * dims] * 2, [(1,) * dims, (2,) * dims], 1, labels.outputs)
    configurations = {name: Configuration(
        name=name, spacing=(1.0, 1.0, 1.0), median_shape=patch, patch=patch, batch=2, topology=topology,
        normalization=("ct",), use_mask_for_norm=(False,), mirror_axes=(0, 1)) for name in names}
    plan = Plan(description=Description(name="d", channel_names=("CT",), labels=labels, training_cases=4), planner="p",
                architecture="unet", transpose_forward=(0, 1, 2), original_median_spacing=(1.0, 1.0, 1.0),
                original_median_shape=(9.0, 15.0, 14.0), intensities=(CT,), configurations=configurations)
    members = tuple(Member(configuration=name, fold=fold, weights=f"weights/{name}_fold_{fold}.safetensors")
                    for name in names for fold in ("0", "1"))
    write_model(folder, ModelDescription(plan=plan, configurations=configurations, members=members, chosen=names,
                                         architecture=use("architecture", "unet", {"features": 4}),
                                         ensembler=use("ensembler", "mean", {})),
                {member.weights: unet.build(topology).state_dict() for member in members})


def use(kind, name, options):
    return ComponentUse(kind=kind, name=name, distribution="segplug", version="0.1.0", options=options)


def model_in(folder, **changes):
    make_model(folder, **changes)
    return seg.load(folder, device="cpu", options=PredictOptions(step=0.25))


@installed
@pytest.mark.parametrize("patch", [(8, 16, 16), (16, 16)])
def test_each_network_gives_the_same_logits_for_any_batch(tmp_path, patch):
    import onnxruntime

    model = model_in(tmp_path / "model", patch=patch)
    (tmp_path / "out").mkdir()
    described, *files = OnnxExporter().export(model, tmp_path / "out")
    assert [file.name for file in files] == ["3d_fold_0.onnx", "3d_fold_1.onnx"]
    told = json.loads(described.read_text())["configurations"]["3d"]
    assert [tmp_path / "out" / name for name in told["networks"]] == files
    for file, network in zip(files, model.networks["3d"], strict=True):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for batch in (1, 3):
            image = torch.randn(batch, 1, *patch, generator=torch.Generator().manual_seed(batch))
            with torch.inference_mode():
                expected = network(image)[0].numpy()
            (found,) = session.run(None, {"image": image.numpy()})
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("seg_onnx.exporter.PACKAGES", ("no_such_package_anywhere",))
    with pytest.raises(SegError, match=r"pip install segplug\[onnx\]") as caught:
        OnnxExporter().export(model_in(tmp_path / "model"), tmp_path)
    assert caught.value.exit_code == 6


def test_the_description_says_all_that_prediction_needs(tmp_path):
    assert isinstance(OnnxExporter(), Exporter)
    told = json.loads(json.dumps(describe(model_in(tmp_path / "model"), {"3d": ["a.onnx"]})))
    assert told["channels"] == ["CT"]
    assert told["activation"] == "softmax"
    assert [each["writes"] for each in told["outputs"]] == [0, 1, 2]
    assert told["file_values"] == {"0": 0, "1": 255, "2": 7}
    one = told["configurations"]["3d"]
    assert (one["patch"], one["step"], one["mirror_axes"], one["spacing"]) == ([10, 16, 16], 0.25, [0, 1], [1, 1, 1])
    assert [each["name"] for each in one["normalization"]] == ["ct"]
    assert one["normalization"][0]["intensities"]["percentile_99_5"] == 30
    assert one["networks"] == ["a.onnx"]
    words = " ".join(told["steps"])
    for key in (*told["configurations"]["3d"], *told):
        known = key in {"format", "made_by", "model_digest", "steps", "configurations", "labels", "ensembler",
                        "postprocessor", "previous_stage"}
        assert known or f"`{key}`" in words, f"no step tells what {key} is for"


def test_regions_are_written_in_their_order(tmp_path):
    told = describe(model_in(tmp_path / "model", labels=REGIONS), {"3d": []})
    assert told["activation"] == "sigmoid"
    assert told["outputs"] == [{"name": "whole", "writes": 1}, {"name": "core", "writes": 2}]
