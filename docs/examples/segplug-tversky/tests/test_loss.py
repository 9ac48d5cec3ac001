"""The Tversky losses keep the contract of their kind, and weigh as they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import seg.testing
import torch
from seg import Configuration, Labels, Topology
from segplug_tversky.loss import FocalTversky, Tversky

LABELS = Labels(values={"background": 0, "lesion": 1})
PLAN = Configuration(
    name="2d", spacing=(1.0, 1.0, 1.0), median_shape=(8.0, 8.0), patch=(8, 8), batch=1, normalization=("zscore",),
    use_mask_for_norm=(False,), mirror_axes=(),
    topology=Topology(in_channels=1, outputs=2, features=(4, 8), kernels=((3, 3),) * 2, strides=((1, 1), (2, 2)),
                      blocks=(1, 1), decoder_blocks=(1,)))


def loss(component: Tversky | FocalTversky, found: torch.Tensor, truth: torch.Tensor) -> float:
    """Of hard maps of the lesion."""
    logits = torch.stack([~found, found], 1).float() * 200 - 100
    return float(component.build(LABELS, PLAN)(logits, truth.long()))


def maps(found: int, truth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first voxels of a patch: so many found, so many true."""
    voxels = torch.arange(64).view(1, 8, 8)
    return voxels < found, voxels < truth


def test_the_value_is_that_of_the_formula() -> None:
    component = Tversky(alpha=0.3, beta=0.7, smooth=1e-5)
    assert loss(component, *maps(10, 20)) == pytest.approx(1 - 10 / (10 + 0.7 * 10), abs=1e-4)
    assert loss(component, *maps(20, 10)) == pytest.approx(1 - 10 / (10 + 0.3 * 10), abs=1e-4)
    assert loss(FocalTversky(gamma=2.0, smooth=1e-5), *maps(10, 20)) == pytest.approx((7 / 17) ** 0.5, abs=1e-4)


def test_equal_weights_are_the_dice_loss() -> None:
    component = Tversky(alpha=0.5, beta=0.5, smooth=1e-5)
    assert loss(component, *maps(10, 30)) == pytest.approx(1 - 2 * 10 / 40, abs=1e-4)


def test_what_is_missed_weighs_more_than_what_is_too_much() -> None:
    assert loss(Tversky(), *maps(10, 20)) > loss(Tversky(), *maps(30, 20))


@seg.testing.parametrize("loss", Tversky())
def test_tversky_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


@seg.testing.parametrize("loss", FocalTversky())
def test_focal_tversky_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_tversky")
