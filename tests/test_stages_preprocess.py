"""The stage: every case once, only what is missing or stale again, one bad case harms no other."""

import json
import shutil
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from attrs import evolve, frozen

from seg.discovery import discover
from seg.errors import Exit, SegError
from seg.models import (
    Case,
    ComponentUse,
    Configuration,
    Dataset,
    Description,
    Intensities,
    Labels,
    Plan,
    Topology,
)
from seg.normalisation import Normalisers
from seg.preprocessing import Preparation
from seg.progress import Silent
from seg.stages.preprocess import case_digests, configuration_of, preprocess, settings_digest
from seg.store import Store

CASES = ("a", "b", "c", "d")
DIGESTS = {case: f"digest of {case}" for case in CASES}


class Counter(Silent):
    def __init__(self):
        self.total = self.done = 0

    def start(self, title, total):
        self.total = total

    def advance(self, steps=1):
        self.done += steps


def make_plan(**changes):
    topology = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3, 3, 3),), strides=((1, 1, 1),),
                        blocks=(1,), decoder_blocks=())
    values = {"name": "3d_fullres", "spacing": (1.0, 1.0, 1.0), "median_shape": (6, 8, 8), "patch": (4, 8, 8),
              "batch": 2, "topology": topology, "normalization": ("zscore",), "use_mask_for_norm": (False,),
              "mirror_axes": ()}
    description = Description(name="d", channel_names=("mr",), labels=Labels(values={"background": 0, "organ": 1}),
                              training_cases=4)
    return Plan(description=description, planner="p", architecture="unet", transpose_forward=(0, 1, 2),
                original_median_spacing=(1.0, 1.0, 1.0), original_median_shape=(6.0, 8.0, 8.0), intensities=(),
                configurations={"3d_fullres": Configuration(**(values | changes))})


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for name in CASES:
        image, label = tmp_path / f"{name}_0000.nrrd", tmp_path / f"{name}.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(rng.uniform(1, 2, (6, 8, 8)).astype(np.float32)), str(image))
        sitk.WriteImage(sitk.GetImageFromArray(rng.integers(0, 2, (6, 8, 8)).astype(np.uint8)), str(label))
        cases.append(Case(id=name, images=(image,), label=label))
    return Dataset(description=make_plan().description, root=tmp_path, layout="test", cases=tuple(cases))


def how(plan):
    configuration = configuration_of(plan, "3d_fullres")
    return Preparation(plan=plan, configuration=configuration,
                       normalisers=Normalisers.resolve([configuration], discover()))


def run(dataset, folder, plan=None, digests=DIGESTS, progress=None):
    return preprocess(dataset, how(plan or make_plan()), folder, digests=digests, progress=progress)


def times(folder):
    return {file.stem: file.stat().st_mtime_ns for file in folder.glob("[a-z].h5")}


def test_every_case_is_stored(dataset, tmp_path):
    plan, progress = make_plan(), Counter()
    assert run(dataset, tmp_path / "cases", plan, progress=progress) == []
    assert (progress.done, progress.total) == (4, 4)
    store = Store(tmp_path / "cases")
    assert store.cases == CASES
    assert store.manifest.source == settings_digest(how(plan))
    store.require(case_digests(how(plan), DIGESTS))
    loaded = store.load("a")
    assert tuple(loaded.arrays.image.shape) == (1, 6, 8, 8)
    assert (loaded.arrays.label.numpy()[tuple(loaded.index.locations[0].T)] == 1).all()


def test_nothing_is_done_twice(dataset, tmp_path):
    folder = tmp_path / "cases"
    run(dataset, folder)
    before, progress = times(folder), Counter()
    assert run(dataset, folder, progress=progress) == []
    assert times(folder) == before
    assert progress.done == 4


@pytest.mark.parametrize("lost", ["entry", "file", "digest"])
def test_only_what_is_missing_is_done_again(dataset, tmp_path, lost):
    folder, digests = tmp_path / "cases", dict(DIGESTS)
    run(dataset, folder)
    before = times(folder)
    if lost == "entry":  # killed between the file and the manifest
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["cases"]["b"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif lost == "file":
        (folder / "b.h5").unlink()
    else:
        digests["b"] = "the image was changed"
    assert run(dataset, folder, digests=digests) == []
    after = times(folder)
    assert {case for case in CASES if after[case] != before[case]} == {"b"}
    assert Store(folder).cases == CASES


def test_a_store_after_a_kill_equals_a_straight_one(dataset, tmp_path):
    run(dataset, tmp_path / "straight")
    run(evolve(dataset, cases=dataset.cases[:2]), tmp_path / "killed")
    run(dataset, tmp_path / "killed")
    straight, killed = Store(tmp_path / "straight"), Store(tmp_path / "killed")
    assert straight.manifest == killed.manifest
    for case in CASES:
        assert straight.path(case).read_bytes() == killed.path(case).read_bytes()


@pytest.mark.parametrize(("changes", "redone"), [
    ({"spacing": (2.0, 1.0, 1.0)}, True),
    ({"normalization": ("none",)}, True),
    ({"order_label": 0}, True),
    ({"batch": 7}, False),
    ({"order_logits": 0}, False),
])
def test_a_changed_plan_redoes_what_it_touches(dataset, tmp_path, changes, redone):
    folder = tmp_path / "cases"
    run(dataset, folder)
    before = times(folder)
    run(dataset, folder, make_plan(**changes))
    assert (times(folder) != before) is redone


def test_an_orientation_turns_image_and_label_and_another_redoes_them(dataset, tmp_path):
    plan = make_plan()
    turned = evolve(plan, description=evolve(plan.description, orientation="SAR"))
    run(dataset, tmp_path / "lying", plan)
    run(dataset, tmp_path / "turned", turned)
    for case in CASES:
        lying, found = (Store(tmp_path / name).load(case).arrays for name in ("lying", "turned"))
        for name in ("image", "label"):  # the files are LPS
            one, other = (np.asarray(getattr(arrays, name)) for arrays in (lying, found))
            np.testing.assert_allclose(np.flip(np.swapaxes(one, -1, -3), (-3, -2)), other, atol=1e-6)
    before = times(tmp_path / "turned")
    run(dataset, tmp_path / "turned", turned)
    assert times(tmp_path / "turned") == before
    run(dataset, tmp_path / "turned", plan)
    assert times(tmp_path / "turned") != before


def test_a_case_that_left_the_data_set_leaves_the_store(dataset, tmp_path):
    run(dataset, tmp_path / "cases")
    run(evolve(dataset, cases=dataset.cases[1:]), tmp_path / "cases")
    assert Store(tmp_path / "cases").cases == CASES[1:]
    assert not (tmp_path / "cases" / "a.h5").exists()


def test_one_bad_case_does_not_stop_the_others(dataset, tmp_path):
    (dataset.root / "b_0000.nrrd").write_bytes(b"no image")
    small = sitk.GetImageFromArray(np.zeros((6, 8, 7), np.uint8))
    sitk.WriteImage(small, str(dataset.root / "c.nrrd"))
    progress = Counter()
    records = run(dataset, tmp_path / "cases", progress=progress)
    assert [record.case for record in records] == ["b", "c"]
    assert progress.done == 4
    assert Store(tmp_path / "cases").cases == ("a", "d")


def test_a_full_disk_is_seen_at_the_start(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(SegError, match="GB") as caught:
        run(dataset, tmp_path / "cases")
    assert caught.value.exit_code == Exit.RESOURCES
    assert Store(tmp_path / "cases").cases == ()


def test_an_unknown_configuration_is_refused():
    with pytest.raises(SegError, match="3d_fullres") as caught:
        configuration_of(make_plan(), "3d")
    assert caught.value.exit_code == Exit.USAGE


@frozen(kw_only=True)
class Mine:
    uses_intensities: ClassVar[bool] = True
    gives: object = None

    def normalise(self, channel, inside, intensities):
        return channel if self.gives is None else self.gives


def mine(version="1", **options):
    use = ComponentUse(kind="normaliser", name="mine", distribution="segplug-mine", version=version)
    plan = make_plan(normalization=("mine",))
    return Preparation(plan=plan, configuration=plan.configurations["3d_fullres"],
                       normalisers=Normalisers(built={"mine": Mine(**options)}, uses={"mine": use}))


def test_another_version_of_a_strangers_normaliser_redoes_the_cases(dataset, tmp_path):
    folder = tmp_path / "cases"
    preprocess(dataset, mine(), folder, digests=DIGESTS)
    before = times(folder)
    preprocess(dataset, mine(), folder, digests=DIGESTS)
    assert times(folder) == before
    preprocess(dataset, mine("2"), folder, digests=DIGESTS)
    assert times(folder) != before


def test_intensities_count_where_a_normaliser_uses_them():
    some = Intensities(mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2)

    def changes(preparation):
        other = evolve(preparation, plan=evolve(preparation.plan, intensities=(some,)))
        return settings_digest(other) != settings_digest(preparation)

    assert changes(mine())
    assert not changes(how(make_plan()))


def test_a_normaliser_that_fails_stops_at_once_with_exit_6(dataset, tmp_path):
    with pytest.raises(SegError, match="'mine' of segplug-mine 1") as caught:
        preprocess(dataset, mine(gives="nothing"), tmp_path / "cases", digests=DIGESTS)
    assert caught.value.exit_code == Exit.PLUGIN
