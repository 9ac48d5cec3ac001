"""A model does the steps of post-processing that it holds."""

import json

import numpy as np
import pytest
import torch
from attrs import evolve

import seg
from seg import Configuration, Description, Labels, Plan, SegError
from seg.files import digest_bytes
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.restoring import labels_from_probabilities
from seg_nnunet.postprocessor import NnUNetPostprocessor
from seg_unet.unet import UNet

LABELS = Labels(values={"background": 0, "cell": 1, "core": 2})
WEIGHTS = "weights/2d_fold_0.safetensors"
OURS = ComponentUse(kind="postprocessor", name="nnunet", distribution="segplug", version="0.1.0")
STRANGE = evolve(OURS, name="smooth", distribution="segplug-smooth", version="1.4")


def use(kind, name, **options):
    return ComponentUse(kind=kind, name=name, distribution="segplug", version="0.1.0", options=options)


def made(folder, **more):
    """A random network whose prediction is full of islands."""
    topology = UNet(features=4).topology([(3, 3)] * 2, [(1, 1), (2, 2)], 1, LABELS.outputs)
    one = Configuration(name="2d", spacing=(999.0, 1.0, 1.0), median_shape=(16, 16), patch=(16, 16), batch=2,
                        topology=topology, normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=())
    plan = Plan(description=Description(name="d", channel_names=("MR",), labels=LABELS, training_cases=4),
                planner="p", architecture="unet", transpose_forward=(0, 1, 2), original_median_shape=(1.0, 16.0, 16.0),
                original_median_spacing=(999.0, 1.0, 1.0), intensities=(), configurations={"2d": one})
    description = ModelDescription(plan=plan, configurations={"2d": one}, chosen=("2d",),
                                   members=(Member(configuration="2d", fold="0", weights=WEIGHTS),),
                                   architecture=use("architecture", "unet", features=4),
                                   ensembler=use("ensembler", "mean"), **more)
    torch.manual_seed(0)
    write_model(folder, description, {WEIGHTS: UNet(features=4).build(topology).state_dict()})
    return folder


def loaded(folder):
    return seg.load(folder, device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).standard_normal((1, 1, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("steps", [("all",), ("class core",), ("class cell", "class core")])
def test_the_steps_are_done_to_the_labels_and_not_to_the_probabilities(tmp_path, image, steps):
    plain = loaded(made(tmp_path / "plain"))
    model = loaded(made(tmp_path / "m", postprocessing=steps, postprocessor=OURS))
    before, _ = plain.predict_volume(image, (999.0, 1.0, 1.0))
    expected = NnUNetPostprocessor().apply(before, LABELS, steps)
    assert (expected != before).any()
    np.testing.assert_array_equal(model.predict_volume(image, (999.0, 1.0, 1.0))[0], expected)
    labels, found = model.predict_volume(image, (999.0, 1.0, 1.0), probabilities=True)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(labels_from_probabilities(found, LABELS), before)
    np.testing.assert_array_equal(model.predict(image[0, 0], spacing=(1, 1)), expected[0])


def test_a_model_from_before_post_processing_is_read(tmp_path, image):
    folder = made(tmp_path / "m")
    data = json.loads((folder / "model.json").read_text())
    del data["postprocessing"], data["postprocessor"]
    (folder / "model.json").write_text(json.dumps(data))
    manifest = [f"{digest_bytes((folder / name).read_bytes())}  {name}\n" for name in ("model.json", WEIGHTS)]
    (folder / "MANIFEST.sha256").write_text("".join(manifest))
    model = loaded(folder)
    assert (model.description.postprocessing, model.postprocessor) == ((), None)
    assert model.predict_volume(image, (999.0, 1.0, 1.0))[0].any()


def test_without_steps_no_plugin_is_needed(tmp_path):
    assert loaded(made(tmp_path / "m", postprocessor=STRANGE)).postprocessor is None


@pytest.mark.parametrize(("more", "code", "told"), [
    ({"postprocessing": ("all",)}, 7, "SEG-M06"),
    ({"postprocessing": ("class bone",), "postprocessor": OURS}, 7, "class bone"),
    ({"postprocessing": ("all",), "postprocessor": STRANGE}, 6, "pip install segplug-smooth==1.4"),
])
def test_steps_that_nobody_does_are_refused(tmp_path, more, code, told):
    folder = made(tmp_path / "m", **more)
    with pytest.raises(SegError, match=told) as caught:
        loaded(folder)
    assert caught.value.exit_code == code
