"""Plain patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attrs import evolve

from seg import Augmenter, CaseArrays, Configuration, Position, Topology
from seg_basic.plain import NoAugmenter


def configuration(patch: tuple[int, ...], batch: int) -> Configuration:
    dims = len(patch)
    topology = Topology(in_channels=2, outputs=2, features=(4,), kernels=((3,) * dims,), strides=((1,) * dims,),
                        blocks=(1,), decoder_blocks=())
    return Configuration(name="x", spacing=(1.0, 1.0, 1.0), median_shape=patch, patch=patch, batch=batch,
                         topology=topology, normalization=("zscore",) * 2, use_mask_for_norm=(False,) * 2,
                         mirror_axes=tuple(range(dims)))


@pytest.mark.parametrize("patch", [(3, 4, 5), (4, 5)])
def test_the_patch_is_what_lies_at_the_position(patch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(2, 6, 7, 8)).astype(np.float32))
    label = torch.from_numpy(rng.integers(0, 3, (6, 7, 8)).astype(np.int16))
    augmenter = NoAugmenter()
    plan = configuration(patch, 2)
    assert isinstance(augmenter, Augmenter)
    assert augmenter.margin(plan) == (0, 0, 0)
    positions = [Position(case=0, start=(1, 2, 3)), Position(case=0, start=(5, 6, 7))]
    batch = augmenter.batch([CaseArrays(image=image, label=label)], positions, plan, rng, torch.device("cpu"))
    z, y, x = plan.patch3
    assert batch.image.shape == (2, 2, *patch)
    assert batch.label.shape == (2, *patch)
    assert batch.label.dtype == torch.int64
    assert torch.equal(batch.image[0].view(2, z, y, x), image[:, 1:1 + z, 2:2 + y, 3:3 + x])
    assert torch.equal(batch.label[0].view(z, y, x), label[1:1 + z, 2:2 + y, 3:3 + x].long())
    assert torch.count_nonzero(batch.image[1]) == 2  # one voxel of each channel, the rest is outside
    assert batch.label[1].min() == 0


def test_a_previous_stage_comes_as_further_channels() -> None:
    previous = torch.tensor([[[0, 1, 2, 1]]], dtype=torch.int16)
    case = CaseArrays(image=torch.zeros(2, 1, 1, 4), label=previous * 0, previous=previous)
    plan = configuration((1, 1, 4), 1)
    plan = evolve(plan, previous_stage="first", topology=evolve(plan.topology, in_channels=4))
    batch = NoAugmenter().batch([case], [Position(case=0, start=(0, 0, 1))], plan, np.random.default_rng(0),
                                torch.device("cpu"))
    assert batch.image[0, 2:].view(2, 4).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
