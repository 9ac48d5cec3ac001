"""TorchIO's augmenter keeps the contract of its kind, and leaves torch's own random numbers alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import seg.testing
import torch
from seg import Batch, CaseArrays, Configuration, Position, Topology
from segplug_torchio.augmenter import TorchIO

EVERYTHING = TorchIO(p_affine=1.0, p_flip=0.5, p_noise=1.0, p_blur=1.0, p_gamma=1.0, p_bias=1.0)
NOTHING = TorchIO(p_affine=0.0, p_flip=0.0, p_noise=0.0, p_blur=0.0, p_gamma=0.0, p_bias=0.0)


def batch(augmenter: TorchIO, patch: tuple[int, ...], seed: int = 0) -> Batch:
    dims = len(patch)
    topology = Topology(in_channels=2, outputs=2, features=(4, 8), kernels=((3,) * dims,) * 2,
                        strides=((1,) * dims, (2,) * dims), blocks=(1, 1), decoder_blocks=(1,))
    plan = Configuration(name="x", spacing=(1.0, 1.0, 1.0), median_shape=tuple(map(float, patch)), patch=patch,
                         batch=1, topology=topology, normalization=("zscore",) * 2, use_mask_for_norm=(False,) * 2,
                         mirror_axes=tuple(range(dims)))
    image = torch.arange(2 * 10 * 20 * 20).view(2, 10, 20, 20).float() / 1000
    case = CaseArrays(image=image, label=(image[0] > 1).to(torch.int16))
    return augmenter.batch([case], [Position(case=0, start=(3, 4, 5))], plan, np.random.default_rng(seed),
                           torch.device("cpu"))


@pytest.mark.parametrize("patch", [(4, 8, 8), (8, 8)])
def test_without_transforms_it_is_the_patch(patch: tuple[int, ...]) -> None:
    found = batch(NOTHING, patch)
    assert found.image[0, 0].flatten()[0] == (3 * 400 + 4 * 20 + 5) / 1000
    assert found.label.equal((found.image[:, 0] > 1).long())


@pytest.mark.parametrize("patch", [(4, 8, 8), (8, 8)])
def test_torchs_own_generator_goes_on_as_if_nothing_was(patch: tuple[int, ...]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = batch(EVERYTHING, patch, 1)
    assert torch.rand(3).equal(expected)
    assert batch(EVERYTHING, patch, 1).image.equal(first.image)
    assert not batch(EVERYTHING, patch, 2).image.equal(first.image)


@seg.testing.parametrize("augmenter", TorchIO())
def test_it_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


@seg.testing.parametrize("augmenter", TorchIO(p_affine=1.0, p_flip=0.5))
def test_turning_always_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_torchio")
