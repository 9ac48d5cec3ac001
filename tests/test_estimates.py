"""What a run will take is said before, and grows with what it is for."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from attrs import evolve

from seg import Configuration, Description, Fingerprint, Labels, Plan, SegError
from seg.estimates import Estimate, _step_bytes, estimate, format_bytes, format_seconds, too_large
from seg.settings import Settings
from seg_nnunet.loss import DiceCrossEntropy
from seg_unet.unet import UNet

ESTIMATE = Estimate(length="20 min", trainings=5, train_s=1200.0, disk_bytes=3_000_000, memory_bytes=2_500_000_000,
                    device="cpu (2 threads)", folder="runs/x")
TOPOLOGY = UNet().topology([(3, 3, 3)] * 3, [(1, 1, 1), (2, 2, 2), (2, 2, 2)], 2, 2)
FULL = Configuration(name="3d_fullres", spacing=(1.0, 1.0, 1.0), median_shape=(40.0,) * 3, patch=(32, 32, 32), batch=2,
                     topology=TOPOLOGY, normalization=("zscore",) * 2, use_mask_for_norm=(False,) * 2, mirror_axes=())
LOW = evolve(FULL, name="3d_lowres", spacing=(2.0, 2.0, 2.0))
FINGERPRINT = Fingerprint(cases=("a", "b"), shapes=((40, 40, 40), (20, 40, 40)), intensities=(),
                          spacings=((1.0, 1.0, 1.0), (2.0, 1.0, 1.0)), relative_size_after_cropping=1.0)
PLAN = Plan(description=Description(name="d", channel_names=("T1", "T2"), training_cases=2,
                                    labels=Labels(values={"background": 0, "a": 1})),
            planner="p", architecture="unet", transpose_forward=(0, 1, 2), original_median_spacing=(1.0, 1.0, 1.0),
            original_median_shape=(40.0, 40.0, 40.0), intensities=(),
            configurations={"3d_fullres": FULL, "3d_lowres": LOW})
SETTINGS = Settings(configurations=("3d_fullres",), folds=("0",), epochs=10, device="cpu")


class Planner:
    vram_gb = 8.0

    def reductions(self, configuration):
        yield evolve(configuration, batch=1), "half the batch"


def of(settings=SETTINGS, plan=PLAN, training="nowhere", elsewhere="", **loss):
    folder = SimpleNamespace(plan=lambda: plan, fingerprint=lambda: FINGERPRINT, path="runs/d",
                             splits=lambda: [{}] * 5, training=lambda name, fold: Path(training) / name / fold)
    return estimate(folder, settings, components(**loss), elsewhere)


def components(**loss):
    return SimpleNamespace(planner=Planner(), architecture=UNet(), loss=DiceCrossEntropy(**loss))


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000, "2 MB"), (999_000_000, "999 MB"), (2.5e9, "2.5 GB"),
    (5e12, "5000.0 GB"),
])  # fmt: skip
def test_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s"), (89, "89 s"), (90, "2 min"), (1200, "20 min"), (5400, "1.5 h"), (360_000, "100.0 h"),
])  # fmt: skip
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_the_words():
    text = "\n".join(ESTIMATE.lines())
    for part in ("cpu (2 threads)", "runs/x", "5 trainings of 20 min", "1.7 h", "3 MB", "2.5 GB"):
        assert part in text
    assert "1 training of" in "\n".join(evolve(ESTIMATE, trainings=1, train_s=None).lines())


def test_the_device_is_that_of_the_trainings():
    here, there = of(), of(evolve(SETTINGS, executor="slurm"), elsewhere="cuda:0,cuda:1")
    assert there.lines()[0].startswith("device cuda:0,cuda:1, where the executor slurm has trainings run; ")
    assert here.lines()[0].startswith("device cpu (")
    assert of(elsewhere="cpu").memory_bytes == here.memory_bytes


def test_a_disk_that_is_too_small_is_exit_5(tmp_path, monkeypatch):
    ESTIMATE.refuse_without_space(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_999_999))
    with pytest.raises(SegError, match="3 MB free; expected about 3 MB") as caught:
        ESTIMATE.refuse_without_space(tmp_path)
    assert caught.value.exit_code == 5


def test_the_cases_are_in_it():
    voxels = 40**3 * 2  # the second case has half the slices, twice as far apart
    assert of().disk_bytes > voxels * (4 * 2 + 2)
    assert of().memory_bytes > voxels * (4 * 2 + 2)


def test_it_grows_with_configurations_and_folds():
    one = of()
    folds = of(evolve(SETTINGS, folds=("0", "1", "2")))
    both = of(evolve(SETTINGS, configurations=("3d_fullres", "3d_lowres")))
    assert (one.trainings, folds.trainings, both.trainings) == (1, 3, 2)
    assert one.disk_bytes < folds.disk_bytes
    assert one.disk_bytes < both.disk_bytes
    assert one.memory_bytes == folds.memory_bytes == both.memory_bytes
    low = of(evolve(SETTINGS, configurations=("3d_lowres",)))
    assert low.disk_bytes < one.disk_bytes


def test_it_grows_with_the_batch():
    larger = evolve(PLAN, configurations={"3d_fullres": evolve(FULL, batch=4)})
    assert of(plan=larger).memory_bytes > of().memory_bytes


def test_a_length_in_epochs_has_no_time_and_a_budget_has():
    assert of().train_s is None
    assert "10 epochs" in of().length
    budget = of(evolve(SETTINGS, epochs=0, budget_s=600.0))
    assert budget.train_s == 600
    assert budget.length == "10 min"
    assert budget.memory_bytes < of().memory_bytes  # the smallest form is what it may come to


def test_a_loss_that_takes_whole_batches_takes_their_memory():
    large = evolve(PLAN, configurations={"3d_fullres": evolve(FULL, batch=64)})
    assert of(plan=large, top_k=10).memory_bytes > of(plan=large).memory_bytes


VALUES = UNet().feature_map_size(TOPOLOGY, FULL.patch, 2)


@pytest.fixture
def device_of(monkeypatch):
    """Stub a device of so many bytes: the CPU, which the estimate then takes for one with a memory of its own."""
    return lambda total: monkeypatch.setattr("seg.estimates.total_memory", lambda _: total)


def test_what_a_device_can_never_hold_is_refused_with_the_option_that_helps(device_of, tmp_path):
    device_of(2 * 2 * VALUES // 2)
    found = of(training=tmp_path)
    with pytest.raises(SegError) as caught:
        found.refuse_without_memory()
    (record,) = caught.value.records
    assert (record.code, caught.value.exit_code) == ("SEG-R09", 5)
    assert "32×32×32, batch 2" in record.expected
    target = float(record.advice.partition("planner.vram_gb=")[2].partition(", ")[0])
    assert 0 < target < 8
    done = tmp_path / "3d_fullres" / "0"
    done.mkdir(parents=True)
    (done / "done.json").touch()  # what is trained asks for nothing
    of(training=tmp_path).refuse_without_memory()


def test_what_may_fit_is_not_refused(device_of):
    for total in (2 * 2 * VALUES * 2, 0):
        device_of(total)
        of().refuse_without_memory()
        assert too_large(components(), PLAN, FULL, SETTINGS) is None


def test_with_a_budget_the_smallest_form_is_what_must_fit_and_several_devices_share_a_batch(device_of):
    device_of(2 * 2 * VALUES - 1)
    assert too_large(components(), PLAN, FULL, SETTINGS)
    assert too_large(components(), PLAN, FULL, evolve(SETTINGS, epochs=0, budget_s=9.0)) is None
    assert too_large(components(), PLAN, FULL, evolve(SETTINGS, device="cpu,cpu")) is None


def test_the_memory_of_a_device_is_told_beside_what_it_has(device_of):
    device_of(80 * 10**9)
    assert "of its 80.0 GB" in of().lines()[-1]
    assert "device" not in ESTIMATE.lines()[-1]


def test_in_16_bits_a_feature_map_takes_half(monkeypatch):
    found = []
    for short in (False, True):
        monkeypatch.setattr("seg.estimates.is_16_bit", lambda *_, short=short: short)
        found.append(_step_bytes(components(), PLAN, FULL, SETTINGS, torch.device("cuda")))
    loss = 2 * 16 * 2 * 32**3
    assert found == [2 * 8 * VALUES + loss, 2 * 4 * VALUES + loss]
