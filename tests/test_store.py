"""The case store: what goes in comes out, what is damaged is not read, what is missing is known."""

import json

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.errors import SegError
from seg.models import CaseProperties
from seg.patches import cut_patch
from seg.preprocessing import Prepared
from seg.store import Store

SHAPE = (6, 20, 30)
LOCATIONS = {0: np.argwhere(np.ones((2, 3, 4))).astype(np.int32), 1: np.zeros((0, 3), np.int32)}


def prepared(case, seed=0, label=None):
    rng = np.random.default_rng(seed)
    properties = CaseProperties(case=case, spacing=(3.0, 1.0, 0.7), shape=(7, 20, 30), crop_start=(1, 0, 0),
                                crop_stop=(7, 20, 30))
    image = torch.from_numpy(rng.standard_normal((2, *SHAPE)).astype(np.float32))
    label = torch.from_numpy(rng.integers(-1, 3, SHAPE).astype(np.int16)) if label is None else label
    return Prepared(image=image, label=label, properties=properties)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    for seed, case in enumerate(["b", "a.1"]):
        store.write(case, prepared(case, seed), LOCATIONS, (4, 16, 16), f"digest {case}")
    return store


def test_what_goes_in_comes_out(store):
    given_case, loaded = prepared("a.1", 1), store.load("a.1")
    torch.testing.assert_close(loaded.arrays.image, given_case.image, rtol=0, atol=0)
    torch.testing.assert_close(loaded.arrays.label, given_case.label, rtol=0, atol=0)
    assert loaded.properties == given_case.properties
    assert loaded.index.case == "a.1"
    assert loaded.index.shape == SHAPE
    for key, voxels in LOCATIONS.items():
        np.testing.assert_array_equal(loaded.index.locations[key], voxels)


@settings(max_examples=20, deadline=None)
@given(st.integers(-1, 32767))
def test_every_label_is_kept(tmp_path_factory, value):
    store = Store(tmp_path_factory.mktemp("store"))
    label = torch.full(SHAPE, value, dtype=torch.int16)
    store.write("a", prepared("a", label=label), {}, (4, 4, 4), "d")
    assert (store.load("a").arrays.label == value).all()


def test_open_reads_patches_from_the_disk(store):
    with store.open("b") as stored:
        image, label = cut_patch(stored.arrays, (-1, 5, 20), (4, 8, 16))
    expected = cut_patch(store.load("b").arrays, (-1, 5, 20), (4, 8, 16))
    torch.testing.assert_close((image, label), expected, rtol=0, atol=0)


def test_plain_h5py_reads_it(store):
    with h5py.File(store.path("b")) as file:
        assert file["image"].shape == (2, *SHAPE)
        assert file["image"].fletcher32
        assert file["label"].dtype == np.int16
        assert json.loads(file.attrs["properties"])["case"] == "b"


def test_another_process_finds_what_was_written(store):
    again = Store(store.folder)
    assert again.cases == ("a.1", "b")
    assert again.manifest == store.manifest
    assert again.is_complete({"b": "digest b", "a.1": "digest a.1"})


def test_missing_stale_and_deleted_cases_are_known(store):
    store.path("b").unlink()
    assert store.missing({"b": "digest b", "a.1": "another", "c": "digest c"}) == ["b", "a.1", "c"]
    with pytest.raises(SegError, match="2 cases are missing or stale: b, c"):
        store.require({"b": "digest b", "a.1": "digest a.1", "c": "digest c"})


def test_a_file_without_its_entry_is_no_case(store):
    (store.folder / "c.h5").write_bytes(store.path("b").read_bytes())
    assert Store(store.folder).cases == ("a.1", "b")
    with pytest.raises(SegError, match="not in the case store"):
        store.load("c")


def test_begin_deletes_only_what_was_the_stores(store):
    (store.folder / "mine.h5").write_bytes(b"of somebody else")
    (store.folder / ".b-xyz.h5").write_bytes(b"left by a killed run")
    assert store.begin("settings", {"a.1": "digest a.1", "c": "digest c"}) == ["c"]
    assert sorted(path.name for path in store.folder.iterdir()) == ["a.1.h5", "manifest.json", "mine.h5"]
    assert Store(store.folder).manifest.source == "settings"


@pytest.mark.parametrize("length", [0, 100, 0.5, 0.99])
def test_a_cut_file_is_refused(store, length):
    path = store.path("b")
    data = path.read_bytes()
    path.write_bytes(data[: int(length * len(data)) if length < 1 else length])
    with pytest.raises(SegError, match=r"b\.h5.*damaged.*seg preprocess"):
        store.load("b")


def test_no_flipped_bit_is_read(store):
    path, expected = store.path("b"), store.load("b")
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            got = store.load("b")
        except SegError:
            refused += 1
            continue  # a flip in unused space changes nothing, and must not
        assert torch.equal(got.arrays.image, expected.arrays.image)
        assert torch.equal(got.arrays.label, expected.arrays.label)
        assert got.properties == expected.properties
        for key, voxels in expected.index.locations.items():
            np.testing.assert_array_equal(got.index.locations[key], voxels)
    assert refused > 100


def test_a_damaged_chunk_is_found_by_a_patch(store):
    path = store.path("b")
    with h5py.File(path) as file:
        offset = file["image"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 5] ^= 1
    path.write_bytes(data)
    with store.open("b") as stored, pytest.raises(SegError, match=r"b\.h5"):
        cut_patch(stored.arrays, (0, 0, 0), (2, 2, 2))


def test_a_fault_of_the_caller_stays_what_it_is(store):
    with pytest.raises(ValueError, match="mine"), store.open("b"):
        raise ValueError("mine")


def test_a_failed_write_leaves_the_old_case(store):
    before = store.path("b").read_bytes()
    with pytest.raises(ValueError, match="argument"):
        store.write("b", prepared("b", 5), LOCATIONS, (4, 16), "new")
    assert store.path("b").read_bytes() == before
    assert Store(store.folder).manifest.cases["b"].digest == "digest b"
