"""Where training cases lie: the fastest place that holds them, said aloud; the same voxels wherever it is."""

import threading
from contextlib import ExitStack
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from seg import SegError, Silent, cut_patch, cut_previous
from seg.arrays import write_array
from seg.models import CaseProperties, ComponentUse
from seg.preprocessing import Prepared
from seg.stages import _cases
from seg.stages._cases import case_files, place_for, size_of, training_data
from seg.stages.cascade import Handed
from seg.store import Store

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")
SHAPE = (5, 9, 7)
CASES = ("a", "b", "c")


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def free(monkeypatch):
    """Sets how much memory of each type of device is free."""
    return lambda **sizes: monkeypatch.setattr(_cases, "free_memory", lambda device: sizes[device.type])


@pytest.fixture
def fold(tmp_path):
    store = Store(tmp_path)
    rng = np.random.default_rng(0)
    for case in CASES:
        properties = CaseProperties(case=case, spacing=(1.0,) * 3, shape=SHAPE, crop_start=(0,) * 3, crop_stop=SHAPE)
        prepared = Prepared(image=torch.from_numpy(rng.standard_normal((2, *SHAPE)).astype(np.float32)),
                            label=torch.from_numpy(rng.integers(-1, 3, SHAPE).astype(np.int16)), properties=properties)
        store.write(case, prepared, {}, (4, 4, 4), "digest")
    uses = {kind: ComponentUse(kind=kind, name="x", distribution="d", version="1") for kind in ("sampler", "augmenter")}
    settings = SimpleNamespace(train=SimpleNamespace(stall_s=60.0))
    components = SimpleNamespace(sampler=None, augmenter=None, uses=uses)
    return SimpleNamespace(store=store, fold="0", settings=settings, components=components,
                           folder=SimpleNamespace(splits=lambda: [{"train": ["a", "c"], "val": ["b"]}]),
                           planned=SimpleNamespace(normalization=("zscore",) * 2, previous_stage=None))


def test_the_size_is_that_of_the_voxels(fold):
    voxels = np.prod(SHAPE)
    assert size_of(fold.store.manifest, ["a"], 2, 1) == voxels * (2 * 4 + 2)
    assert size_of(fold.store.manifest, CASES, 1, 2) == 3 * voxels * (4 + 2 * 2)
    with fold.store.open("b") as stored:
        assert size_of(fold.store.manifest, ["b"], 2, 1) == stored.arrays.image.nbytes + stored.arrays.label.nbytes


@pytest.mark.parametrize(("device", "memory", "place", "words"), [
    (CPU, {"cpu": 300}, CPU, "in the machine's memory"),
    (CPU, {"cpu": 150}, None, "read from the disk patch by patch: 150 B of memory free"),
    (CUDA, {"cuda": 300, "cpu": 0}, CUDA, "in the memory of cuda:1"),
    (CUDA, {"cuda": 150, "cpu": 300}, CPU, "in the machine's memory, sent through page-locked buffers"),
    (CUDA, {"cuda": 150, "cpu": 150}, None, "read from the disk patch by patch: 150 B of memory free"),
])  # fmt: skip
def test_the_fastest_place_that_has_room(free, device, memory, place, words):
    free(**memory)
    found = place_for(100, device)
    assert (found.device, found.words) == (place, words)


@pytest.mark.parametrize(("memory", "where"), [
    (10**9, "in the machine's memory"), (3000, "read from the disk patch by patch: 3 kB of memory free")])
def test_cases_are_the_same_wherever_they_lie_and_that_is_said(fold, free, memory, where):
    free(cpu=memory)
    said = Said()
    with ExitStack() as files:
        data = training_data(fold, CPU, files, said)
        assert said.lines == [f"cases: 2, 6 kB, {where}"]
        assert [case.case for case in data.index] == ["a", "c"]
        assert [isinstance(case.image, torch.Tensor) for case in data.cases] == [memory == 10**9] * 2
        assert data.read_from == (None if memory == 10**9 else fold.store.folder)
        for case, arrays in zip(("a", "c"), data.cases, strict=True):
            expected = fold.store.load(case).arrays
            box = (-1, 2, 3), (4, 6, 5)
            for found, whole in zip(cut_patch(arrays, *box), cut_patch(expected, *box), strict=True):
                assert torch.equal(found, whole)
    assert not any(isinstance(case.image, h5py.Dataset) and case.image for case in data.cases)  # all are closed


@pytest.mark.parametrize(("memory", "kind"), [(10**9, torch.Tensor), (3000, h5py.Dataset)])
def test_the_previous_stage_lies_beside_its_case_and_counts(fold, free, monkeypatch, tmp_path, memory, kind):
    free(cpu=memory)
    maps = {case: torch.full(SHAPE, number, dtype=torch.int16) for number, case in enumerate(CASES)}
    handed = {case: Handed(file=tmp_path / "previous" / f"{case}.h5", digest="d") for case in CASES}
    for case in CASES:
        write_array(handed[case].file, maps[case], (4, 4, 4))
    monkeypatch.setattr(_cases, "previous_predictions", lambda _: handed)
    said = Said()
    with ExitStack() as files:
        data = training_data(fold, CPU, files, said)
        assert said.lines[0].startswith("cases: 2, 8 kB, ")
        assert all(isinstance(case.previous, kind) for case in data.cases)
        for case, arrays in zip(("a", "c"), data.cases, strict=True):
            assert torch.equal(cut_previous(arrays, (0, 0, 0), SHAPE), maps[case])


@pytest.mark.parametrize(("memory", "reading"), [(10**9, "load"), (3000, "open")])
def test_a_disk_that_does_not_answer_ends_it_and_says_which_case(fold, free, monkeypatch, memory, reading):
    free(cpu=memory)
    answers, read = threading.Event(), getattr(Store, reading)

    def hanging(store, case):
        if case == "c":
            answers.wait()
        return read(store, case)

    monkeypatch.setattr(Store, reading, hanging)
    fold.settings.train.stall_s = 0.5
    try:
        with ExitStack() as files, pytest.raises(SegError, match=r"not read after 0\.5 s") as caught:
            training_data(fold, CPU, files, Silent())
    finally:
        answers.set()
    (record,) = caught.value.records
    assert (record.code, record.file, caught.value.exit_code) == ("SEG-R10", str(fold.store.path("c")), 5)


def test_files_of_cases_are_closed_at_the_end_and_not_waited_for_where_one_hangs(monkeypatch):
    closed, released = threading.Event(), threading.Event()
    with case_files() as files:
        files.callback(closed.set)
    assert closed.is_set()
    closed.clear()
    monkeypatch.setattr(_cases, "CLOSE_S", 0.01)
    with case_files() as files:
        files.callback(closed.set)
        files.callback(released.wait)
    assert not closed.is_set()
    released.set()
    assert closed.wait(60)


@pytest.mark.parametrize("count", [10, 400, 10**7])
def test_many_files_may_be_open_as_far_as_the_system_lets_them(count):
    resource = pytest.importorskip("resource")
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 10**7 if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        _cases._allow_open(min(count, most))
        found, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    assert found == (512 if count == 10 else min(count + _cases.OTHER_FILES, most))
