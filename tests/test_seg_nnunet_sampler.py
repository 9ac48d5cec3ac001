"""nnU-Net's sampler: how many are forced, where the boxes may lie, what a forced patch shows."""

from __future__ import annotations

import numpy as np
import pytest

from seg import CaseIndex, Configuration, Sampler, Topology
from seg_nnunet.sampler import ANNOTATED, NnUNetSampler


def configuration(patch: tuple[int, ...], batch: int) -> Configuration:
    dims = len(patch)
    topology = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3,) * dims,), strides=((1,) * dims,),
                        blocks=(1,), decoder_blocks=())
    return Configuration(name="x", spacing=(1.0, 1.0, 1.0), median_shape=patch, patch=patch, batch=batch,
                         topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                         mirror_axes=tuple(range(dims)))


def case(shape: tuple[int, int, int], locations: dict[int, list[tuple[int, int, int]]]) -> CaseIndex:
    arrays = {key: np.array(voxels, dtype=np.int32).reshape(-1, 3) for key, voxels in locations.items()}
    return CaseIndex(case="case", shape=shape, locations=arrays)


def test_it_is_a_sampler() -> None:
    assert isinstance(NnUNetSampler(), Sampler)


@pytest.mark.parametrize(("batch", "forced"), [(2, 1), (3, 1), (4, 1), (5, 2), (8, 3), (9, 3), (10, 3), (12, 4),
                                               (16, 5), (50, 16), (366, 121)])
def test_the_last_third_is_forced(batch: int, forced: int) -> None:
    index = [case((9, 9, 9), {0: [(1, 2, 3)]})]
    found = NnUNetSampler().positions(index, configuration((4, 4, 4), batch), (0, 0, 0), np.random.default_rng(0))
    assert [one.forced_class is not None for one in found] == [False] * (batch - forced) + [True] * forced


@pytest.mark.parametrize("margin", [(0, 0, 0), (3, 4, 5), (9, 0, 1)])
@pytest.mark.parametrize("patch", [(4, 6, 5), (12, 11, 9), (7, 6)])
def test_a_forced_patch_contains_a_voxel_of_its_class(patch: tuple[int, ...], margin: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    shape = (8, 10, 9)
    voxels = {name: [tuple(int(rng.integers(n)) for n in shape)] for name in range(4)}
    plan = configuration(patch, 30)
    margin = margin if len(patch) == 3 else (0, *margin[1:])
    for one in NnUNetSampler(foreground=1.0).positions([case(shape, voxels)], plan, margin, rng):
        assert one.forced_class is not None
        voxel = voxels[one.forced_class][0]
        assert all(s <= v < s + p for s, v, p in zip(one.start, voxel, plan.patch3, strict=True))


def test_only_the_lower_side_is_clamped() -> None:
    index = [case((20, 20, 20), {0: [(0, 10, 19)]})]
    found = NnUNetSampler(foreground=1.0).positions(index, configuration((8, 8, 8), 5), (0, 0, 0),
                                                    np.random.default_rng(0))
    assert {one.start for one in found} == {(0, 6, 15)}


@pytest.mark.parametrize("margin", [0, 3, 6, 33])
@pytest.mark.parametrize("size", [3, 8, 9, 30])
def test_random_patches_stay_inside_or_around_the_case(size: int, margin: int) -> None:
    plan = configuration((8, 8, 8), 200)
    found = NnUNetSampler(foreground=0.0).positions([case((size,) * 3, {})], plan, (margin,) * 3,
                                                    np.random.default_rng(1))
    starts = {one.start[0] for one in found}
    odd = margin % 2 if size >= 8 else 1
    assert min(starts) >= min(0, size - 8) - odd
    assert max(starts) <= max(0, size - 8)
    if size == 30:
        assert len(starts) >= 22  # every place is found


def test_cases_without_foreground_are_cut_at_random() -> None:
    found = NnUNetSampler(foreground=1.0).positions([case((9, 9, 9), {0: []})], configuration((4, 4, 4), 6),
                                                    (0, 0, 0), np.random.default_rng(0))
    assert all(one.forced_class is None for one in found)


def test_where_something_is_ignored_the_other_patches_show_annotated_voxels() -> None:
    index = [case((30, 30, 30), {0: [(2, 2, 2)], ANNOTATED: [(20, 20, 20)]})]
    found = NnUNetSampler().positions(index, configuration((4, 4, 4), 9), (0, 0, 0), np.random.default_rng(0))
    assert [one.start for one in found] == [(18, 18, 18)] * 6 + [(0, 0, 0)] * 3


def test_slices_are_drawn_in_two_dimensions() -> None:
    plan = configuration((6, 6), 300)
    found = NnUNetSampler(foreground=0.0).positions([case((5, 9, 9), {})], plan, (0, 2, 2), np.random.default_rng(0))
    assert {one.start[0] for one in found} == {0, 1, 2, 3, 4}


def test_the_same_seed_gives_the_same_positions() -> None:
    index = [case((9, 9, 9), {0: [(1, 2, 3)]}), case((12, 9, 9), {1: [(1, 2, 3), (4, 4, 4)]})]
    first, second = (
        NnUNetSampler().positions(index, configuration((4, 4, 4), 8), (2, 2, 2), np.random.default_rng(5))
        for _ in range(2)
    )
    assert first == second
    assert {one.case for one in first} == {0, 1}


def test_a_batch_of_one_is_forced_a_third_of_the_time() -> None:
    index, rng = [case((9, 9, 9), {0: [(1, 2, 3)]})], np.random.default_rng(0)
    found = [NnUNetSampler().positions(index, configuration((4, 4, 4), 1), (0, 0, 0), rng)[0] for _ in range(600)]
    assert 0.27 < sum(one.forced_class is not None for one in found) / 600 < 0.39


def test_each_entry_may_be_forced_by_chance() -> None:
    index, rng = [case((9, 9, 9), {0: [(1, 2, 3)]})], np.random.default_rng(0)
    sampler = NnUNetSampler(probabilistic=True, foreground=0.4)
    found = [sampler.positions(index, configuration((4, 4, 4), 5), (0, 0, 0), rng) for _ in range(200)]
    forced = np.array([[one.forced_class is not None for one in batch] for batch in found])
    assert np.abs(forced.mean(axis=0) - 0.4).max() < 0.12
    assert set(forced.sum(axis=1)) == {0, 1, 2, 3, 4, 5}
