"""The memory of a prediction is known before it is taken, and what is larger than what is free is refused."""

import subprocess
import sys
import weakref

import numpy as np
import pytest
import SimpleITK
import torch
from attrs import evolve

import seg
import seg.peaks
from seg import Configuration, Description, Labels, Plan
from seg.errors import Exit, SegError
from seg.footprint import footprint
from seg.model_files import Member, ModelDescription, write_model
from seg.models import ComponentUse
from seg.peaks import FINEST_MAPS, Demand, available_memory, refuse_too_large, refuse_unreadable
from seg.preprocessing import Given
from seg.room import Room
from seg_resenc.resenc import ResEncUNet
from seg_unet.unet import UNet

CPU = torch.device("cpu")
SPACING = (1.0, 1.0, 1.0)
WHOLE = ((0, 0, 0), (40, 40, 40))
PATCH = (16, 16, 16)
LABELS = Labels(values={"background": 0, "a": 1, "b": 2})


def make_plan():
    topology = UNet(features=4).topology([(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)], 1, LABELS.outputs)
    configuration = Configuration(name="3d", spacing=SPACING, median_shape=PATCH, patch=PATCH, batch=2,
                                  topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=(0, 1))
    return Plan(description=Description(name="d", channel_names=("MR",), labels=LABELS, training_cases=4), planner="p",
                architecture="unet", transpose_forward=(0, 1, 2), original_median_spacing=SPACING,
                original_median_shape=(9.0, 15.0, 14.0), intensities=(), configurations={"3d": configuration})


def make_model(folder):
    plan = make_plan()
    uses = [ComponentUse(kind=kind, name=name, distribution="segplug", version="0.1.0", options=options)
            for kind, name, options in (("architecture", "unet", {"features": 4}), ("ensembler", "mean", {}))]
    description = ModelDescription(
        plan=plan, configurations=plan.configurations, chosen=("3d",), architecture=uses[0], ensembler=uses[1],
        members=(Member(configuration="3d", fold="0", weights="weights/0.safetensors"),))
    network = UNet(features=4).build(plan.configurations["3d"].topology)
    write_model(folder, description, {"weights/0.safetensors": network.state_dict()})


@pytest.fixture
def demand():
    plan = make_plan()
    return Demand(plan=plan, configuration=plan.configurations["3d"], room=lambda _: Room(device=CPU), at_once=1,
                  value_bytes=4)


@pytest.mark.parametrize("change", [
    {"at_once": 500}, {"probabilities": True}, {"folds": 2},
])  # fmt: skip
def test_more_work_takes_more(demand, change):
    small, large = (one.peak((1, 40, 40, 40), SPACING, WHOLE) for one in (demand, evolve(demand, **change)))
    assert large.bytes >= small.bytes
    assert large.predicting + large.restoring > small.predicting + small.restoring


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_larger_image_takes_more(demand, axis):
    shape = [1, 40, 40, 40]
    shape[axis] = 50
    small, large = (demand.peak(tuple(one), SPACING, ((0, 0, 0), tuple(one[1:]))) for one in ([1, 40, 40, 40], shape))
    assert large.bytes > small.bytes
    assert large.preparing > small.preparing
    assert large.restoring > small.restoring


def test_what_lies_elsewhere_or_goes_takes_less(demand):
    there = demand.peak((1, 40, 40, 40), SPACING, WHOLE)
    assert there.maps == 4 * 3 * 40**3
    in_a_file = evolve(demand, room=lambda _: Room(device=None)).peak((1, 40, 40, 40), SPACING, WHOLE)
    assert in_a_file.predicting == there.predicting - there.maps
    assert in_a_file.restoring == there.restoring - there.maps
    halves = evolve(demand, half_sums=True).peak((1, 40, 40, 40), SPACING, WHOLE)
    assert halves.maps == there.maps // 2
    gone = evolve(demand, goes=True).peak((1, 40, 40, 40), SPACING, WHOLE)
    assert gone.predicting == there.predicting - 4 * 40**3
    cropped = demand.peak((1, 40, 40, 40), SPACING, ((0, 0, 0), (20, 40, 40)))
    assert cropped.maps == there.maps // 2
    on_a_device = evolve(demand, value_bytes=0, room=lambda _: Room(device=torch.device("meta")))
    assert on_a_device.peak((1, 40, 40, 40), SPACING, WHOLE).predicting == 0


@pytest.mark.parametrize("architecture", [UNet(features=8), ResEncUNet(features=8)], ids=["unet", "resenc"])
def test_one_pass_takes_what_is_said_of_it(architecture):
    """Within the factors that are promised: not below 0.7 of the truth and not above twice."""
    topology = architecture.topology([(3, 3, 3)] * 3, [(1, 1, 1), (2, 2, 2), (2, 2, 2)], 1, 3)
    network = architecture.build(topology).eval()
    tile = torch.zeros(1, 1, 16, 24, 16)
    found = footprint(network, tile, "off").activation_bytes
    said = tile.numel() * 4 * (FINEST_MAPS * 8 + 3)
    assert found / 2 <= said <= found * 2


def test_what_does_not_fit_is_refused_with_what_helps(demand, monkeypatch):
    image = np.ones((1, 40, 40, 40), np.float32)
    peak = demand.peak(image.shape, SPACING, WHOLE)
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: peak.bytes)
    refuse_too_large(image, SPACING, demand)
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: peak.bytes - 1)
    with pytest.raises(SegError, match="SEG-R04") as caught:
        refuse_too_large(image, SPACING, demand, "large")
    assert caught.value.exit_code == Exit.RESOURCES
    (record,) = caught.value.records
    assert record.case == "large"
    assert "40×40×40" in record.found
    assert "--max-memory" in record.advice
    with pytest.raises(SegError) as caught:
        refuse_too_large(image, SPACING, evolve(demand, probabilities=True))
    assert "--save-probabilities" in caught.value.records[0].advice


def test_what_fits_once_it_is_cropped_is_not_refused(demand, monkeypatch):
    image = np.zeros((1, 40, 40, 40), np.float32)
    image[:, 10:20, 10:20, 10:20] = 1
    least = demand.peak(image.shape, SPACING, ((10, 10, 10), (20, 20, 20))).bytes
    assert least < demand.peak(image.shape, SPACING, WHOLE).bytes
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: least)
    refuse_too_large(image, SPACING, demand)


def test_a_file_that_is_larger_than_the_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    file = tmp_path / "a.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((10, 11, 12), np.uint8)), str(file))
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: 4 * 10 * 11 * 12)
    refuse_unreadable([file])
    with pytest.raises(SegError, match="SEG-R04") as caught:
        refuse_unreadable([file, file])
    assert caught.value.exit_code == Exit.RESOURCES
    file.write_bytes(b"no image")  # which is told by who reads it
    refuse_unreadable([file, tmp_path])


def test_the_limit_of_a_group_of_processes_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(seg.peaks, "CGROUPS", tmp_path)
    free = available_memory()
    assert free > 1000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 300\nfile 600\n")
    assert available_memory() > 1000
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_memory() == 1000 - 900 + 600


def test_an_image_that_is_given_goes_before_the_network_runs(tmp_path):
    make_model(tmp_path / "m")
    model, seen, spacing = seg.load(tmp_path / "m", device="cpu"), [], (1.0, 1.0, 2.0)
    array = np.random.default_rng(0).standard_normal((1, 9, 15, 14)).astype(np.float32)
    expected, _ = model.predict_volume(array.copy(), spacing)
    there, image = weakref.ref(array), Given(array)
    model.networks["3d"][0].register_forward_pre_hook(lambda *_: seen.append(there()))
    del array
    found, _ = model.predict_volume(image, spacing)
    np.testing.assert_array_equal(found, expected)
    assert seen
    assert all(one is None for one in seen)
    with pytest.raises(ValueError, match="taken"):
        image.take()


def test_a_model_refuses_before_anything_is_computed(tmp_path, monkeypatch):
    make_model(tmp_path / "m")
    model = seg.load(tmp_path / "m", device="cpu")
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: 1000)
    monkeypatch.setattr("seg.model.prepare", None)
    with pytest.raises(SegError, match="SEG-R04") as caught:
        model.predict_volume(np.ones((1, 9, 15, 14), np.float32), SPACING)
    assert caught.value.exit_code == Exit.RESOURCES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is told by Linux")
def test_a_real_prediction_takes_what_was_said(tmp_path):
    """A process of its own says its peak; the image is large beside what libraries take for themselves."""
    make_model(tmp_path / "m")
    code = f"""
import re
from pathlib import Path
import numpy as np, torch, seg
from seg.device import keep_freed_memory, return_freed_memory
from seg.preprocessing import Given
from seg.settings import PredictOptions

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
keep_freed_memory()
model = seg.load({str(tmp_path / "m")!r}, device="cpu",
                 options=PredictOptions(mirroring=False, step=1.0, autocast="off"))
model.predict_volume(np.ones((1, 20, 20, 20), np.float32), (1.0, 1.0, 1.0))
array = np.full((1, 128, 160, 160), 2, np.float32)
array[:, 0, 0, 0] = array[:, -1, -1, -1] = 1
demand = model._demand("3d", goes=True, probabilities=False)
said = demand.peak(array.shape, (1.0, 1.0, 1.0), ((0, 0, 0), array.shape[1:])).bytes
return_freed_memory()
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
given = Given(array)
del array
model.predict_volume(given, (1.0, 1.0, 1.0))
print(said, 1024 * (kilobytes("VmHWM") - before))
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    said, found = map(int, out.split())
    assert 0.7 * found <= said <= 2 * found
