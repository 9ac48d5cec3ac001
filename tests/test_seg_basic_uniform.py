"""The uniform sampler."""

from __future__ import annotations

import numpy as np

from seg import CaseIndex, Configuration, Sampler, Topology
from seg_basic.uniform import UniformSampler


def configuration(patch: tuple[int, ...], batch: int) -> Configuration:
    dims = len(patch)
    topology = Topology(in_channels=1, outputs=2, features=(4,), kernels=((3,) * dims,), strides=((1,) * dims,),
                        blocks=(1,), decoder_blocks=())
    return Configuration(name="x", spacing=(1.0, 1.0, 1.0), median_shape=patch, patch=patch, batch=batch,
                         topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                         mirror_axes=tuple(range(dims)))


def test_patches_lie_inside_or_around_the_case() -> None:
    index = [CaseIndex(case="a", shape=(3, 9, 8), locations={0: np.zeros((1, 3), np.int32)}),
             CaseIndex(case="b", shape=(4, 8, 8), locations={})]
    sampler = UniformSampler()
    assert isinstance(sampler, Sampler)
    found = sampler.positions(index, configuration((5, 6, 8), 100), (4, 4, 4), np.random.default_rng(0))
    assert len(found) == 100
    assert all(one.forced_class is None for one in found)
    assert {one.start for one in found if one.case == 0} == {(-1, y, 0) for y in range(4)}
    assert {one.start for one in found if one.case == 1} == {(-1, y, 0) for y in range(3)}


def test_the_same_seed_gives_the_same_positions() -> None:
    index = [CaseIndex(case="a", shape=(9, 9, 8), locations={})]
    first, second = (
        UniformSampler().positions(index, configuration((4, 4), 10), (0, 0, 0), np.random.default_rng(2))
        for _ in range(2)
    )
    assert first == second
