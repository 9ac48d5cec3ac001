"""nnU-Net's augmenter: margins, what a draw holds, and that a batch is a function of the draw."""

from __future__ import annotations

from itertools import combinations as subsets
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve, fields

from seg import Augmenter, Batch, CaseArrays, Configuration, Position, SegError, Topology
from seg.options import fill
from seg_nnunet.augmenter import Draw, NnUNetAugmenter, apply

CPU = torch.device("cpu")
NOTHING: dict[str, Any] = {
    one.name: 0.0 for one in fields(NnUNetAugmenter) if one.name.startswith("p_")
} | {"mirror": False}
PATCHES = [(8, 10, 6), (2, 10, 9), (12, 10)]  # 3-D, dummy 2-D, 2-D


def configuration(patch: tuple[int, ...], **changes: Any) -> Configuration:
    dims = len(patch)
    topology = Topology(in_channels=2, outputs=3, features=(4,), kernels=((3,) * dims,), strides=((1,) * dims,),
                        blocks=(1,), decoder_blocks=())
    values = {"name": "x", "spacing": (1.0, 1.0, 1.0), "median_shape": patch, "patch": patch, "batch": 2,
              "topology": topology, "normalization": ("zscore",) * 2, "use_mask_for_norm": (False,) * 2,
              "mirror_axes": tuple(range(dims))}
    return Configuration(**(values | changes))


@pytest.fixture(scope="module")
def case() -> CaseArrays:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (6, 7, 6)).repeat(3, 0).repeat(3, 1).repeat(3, 2)[:16, :20, :18]
    label[:2] = -1
    image = rng.normal(size=(2, *label.shape)).astype(np.float32) + 1
    return CaseArrays(image=torch.from_numpy(image), label=torch.from_numpy(label.astype(np.int16)))


def positions(plan: Configuration) -> list[Position]:
    starts = [(3, 4, 5), (14, 9, 2), (7, 2, -3)]
    return [Position(case=0, start=start) for start in starts[: plan.batch]]


def make(case: CaseArrays, plan: Configuration, seed: int = 0, **options: Any) -> Batch:
    augmenter = NnUNetAugmenter(**options)
    return augmenter.batch([case], positions(plan), plan, np.random.default_rng(seed), CPU)


def test_an_empty_range_of_scales_is_refused() -> None:
    with pytest.raises(SegError, match="scaling_min"):
        fill(NnUNetAugmenter, {"scaling_min": 1.2, "scaling_max": 1.1}, "augmenter")


@pytest.mark.parametrize(("patch", "enlarged"), [
    ((128, 128, 128), (205, 205, 205)), ((40, 56, 40), (73, 80, 64)), ((20, 320, 256), (20, 376, 376)),
    ((40, 224, 224), (40, 263, 263)), ((512, 512), (1, 602, 602)), ((384, 640), (1, 631, 752)),
])  # fmt: skip
def test_margins_are_those_of_nnunet(patch: tuple[int, ...], enlarged: tuple[int, int, int]) -> None:
    plan = configuration(patch)
    margin = NnUNetAugmenter().margin(plan)
    assert tuple(m + p for m, p in zip(margin, plan.patch3, strict=True)) == enlarged


@pytest.mark.parametrize("patch", PATCHES)
def test_shapes_types_and_labels_of_a_batch(case: CaseArrays, patch: tuple[int, ...]) -> None:
    assert isinstance(NnUNetAugmenter(), Augmenter)
    plan = configuration(patch, batch=3)
    for seed in range(5):
        batch = make(case, plan, seed, p_rotation=0.7, p_scaling=0.7, p_blur=1.0, p_low_resolution=1.0)
        assert batch.image.shape == (3, 2, *patch)
        assert batch.image.dtype == torch.float32
        assert batch.label.shape == (3, *patch)
        assert batch.label.dtype == torch.int64
        assert bool(batch.image.isfinite().all())
        assert set(batch.label.unique().tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize("patch", PATCHES)
def test_without_anything_the_patch_is_plain(case: CaseArrays, patch: tuple[int, ...]) -> None:
    plan = configuration(patch, batch=1)
    batch = make(case, plan, **NOTHING)
    z, y, x = plan.patch3
    assert torch.equal(batch.image[0].view(2, z, y, x), case.image[:, 3:3 + z, 4:4 + y, 5:5 + x])
    assert torch.equal(batch.label[0].view(z, y, x), case.label[3:3 + z, 4:4 + y, 5:5 + x].clamp(min=0).long())


@pytest.mark.parametrize("patch", PATCHES)
def test_mirroring_alone_is_a_flip_along_allowed_axes(case: CaseArrays, patch: tuple[int, ...]) -> None:
    allowed = tuple(range(len(patch)))[1:]
    plan = configuration(patch, mirror_axes=allowed)
    plain = make(case, plan, **NOTHING)
    combinations = [[axis - len(patch) for axis in chosen] for count in range(3) for chosen in subsets(allowed, count)]
    seen = set()
    for seed in range(6):
        batch = make(case, plan, seed, **(NOTHING | {"mirror": True}))
        for entry in range(plan.batch):
            same = [
                torch.equal(batch.image[entry], plain.image[entry].flip(axes))
                and torch.equal(batch.label[entry], plain.label[entry].flip(axes))
                for axes in combinations
            ]
            assert sum(same) == 1
            seen.add(same.index(True))
    assert len(seen) > 1


@pytest.mark.parametrize("patch", PATCHES)
def test_the_same_seed_gives_the_same_batch_and_another_seed_another(case: CaseArrays, patch: tuple[int, ...]) -> None:
    plan = configuration(patch)
    first, second, third = (make(case, plan, seed, p_noise=1.0, p_rotation=1.0) for seed in (4, 4, 5))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.label, second.label)
    assert not torch.equal(first.image, third.image)


@pytest.mark.parametrize("patch", PATCHES)
def test_a_batch_equals_its_entries_made_one_by_one(case: CaseArrays, patch: tuple[int, ...]) -> None:
    plan = configuration(patch, batch=3)
    everything = {name: 0.8 for name in NOTHING if name != "mirror"}
    for seed in range(3):
        drawn = NnUNetAugmenter(**everything).draw(3, 2, plan, np.random.default_rng(seed))
        together = apply(drawn, [case], positions(plan), plan, CPU)
        for entry, position in enumerate(positions(plan)):
            single = apply(drawn.sample(entry), [case], [position], plan, CPU)
            torch.testing.assert_close(single.image[0], together.image[entry])
            assert torch.equal(single.label[0], together.label[entry])


def test_masked_channels_are_zero_outside(case: CaseArrays) -> None:
    plan = configuration((8, 10, 6), use_mask_for_norm=(True, False), batch=1)
    drawn = NnUNetAugmenter(**NOTHING).draw(1, 2, plan, np.random.default_rng(0))
    drawn = evolve(drawn, brightness=np.full((1, 2), 1.2))
    batch = apply(drawn, [case], [Position(case=0, start=(0, 4, 5))], plan, CPU)
    assert torch.count_nonzero(batch.image[0, 0, :2]) == 0
    assert torch.count_nonzero(batch.image[0, 1, :2]) == 120
    assert batch.label[0, :2].max() == 0


def test_all_draws_lie_in_their_ranges() -> None:
    everything = {name: 1.0 for name in NOTHING if name != "mirror"}
    drawn = NnUNetAugmenter(**everything).draw(500, 2, configuration((8, 10, 6)), np.random.default_rng(0))
    scale = np.cbrt(np.linalg.det(drawn.matrix))
    ranges = {"scale": (scale, 0.7, 1.4), "noise": (drawn.noise_std, 0, 0.1), "gamma": (drawn.gamma, 0.7, 1.5),
              "brightness": (drawn.brightness, 0.75, 1.25), "contrast": (drawn.contrast, 0.75, 1.25),
              "blur": (drawn.blur_sigma[drawn.blur_sigma > 0], 0.5, 1.0),
              "low resolution": (drawn.low_resolution[drawn.low_resolution < 1], 0.5, 1.0)}
    for name, (values, low, high) in ranges.items():
        assert low <= values.min() < low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) < values.max() <= high, name
    for factors in (drawn.brightness, drawn.gamma):
        assert 0.4 < (factors < 1).mean() < 0.6
    assert 0.4 < (drawn.low_resolution < 1).mean() < 0.6


def test_rotations_are_orthogonal_and_within_slices_where_patches_are_flat() -> None:
    options = NOTHING | {"p_rotation": 1.0}
    for patch, dims, limit in (((8, 10, 6), 3, 30), ((2, 10, 9), 2, 180), ((12, 10), 2, 180), ((20, 10), 2, 15)):
        drawn = NnUNetAugmenter(**options).draw(300, 1, configuration(patch), np.random.default_rng(0))
        assert drawn.matrix.shape == (300, dims, dims)
        np.testing.assert_allclose(drawn.matrix @ drawn.matrix.transpose(0, 2, 1),
                                   np.broadcast_to(np.eye(dims), drawn.matrix.shape), atol=1e-12)
        if dims == 2:
            angles = np.degrees(np.arctan2(drawn.matrix[:, 1, 0], drawn.matrix[:, 0, 0]))
            assert 0.95 * limit < np.abs(angles).max() <= limit


def test_probabilities_hold_on_average() -> None:
    drawn = NnUNetAugmenter().draw(4000, 1, configuration((8, 10, 6)), np.random.default_rng(0))
    identity = (drawn.matrix == np.eye(3)).all(axis=(1, 2)).mean()
    shares = {"spatial": (1 - identity, 0.36), "noise": ((drawn.noise_std > 0).mean(), 0.1),
              "blur": ((drawn.blur_sigma[..., 0] > 0).mean(), 0.1), "gamma": ((drawn.gamma != 1).mean(), 0.3),
              "brightness": ((drawn.brightness != 1).mean(), 0.15), "contrast": ((drawn.contrast != 1).mean(), 0.15),
              "low resolution": ((drawn.low_resolution != 1).mean(), 0.125), "mirror": (drawn.mirror.mean(), 0.5),
              "gamma inverted": ((drawn.gamma_inverted != 1).mean(), 0.1)}
    for name, (found, expected) in shares.items():
        assert abs(found - expected) < 0.03, name


def test_a_draw_knows_its_samples() -> None:
    drawn = NnUNetAugmenter().draw(5, 2, configuration((12, 10)), np.random.default_rng(0))
    one = drawn.sample(3)
    for field in fields(Draw):
        if field.name not in ("nearest_labels", "disturbance"):  # the one of all samples, the other of cascades
            np.testing.assert_array_equal(getattr(one, field.name)[0], getattr(drawn, field.name)[3])


def cascade(patch: tuple[int, ...]) -> Configuration:
    """A second stage: two channels of the image, and one for each of three labels."""
    plan = configuration(patch, batch=3)
    return evolve(plan, previous_stage="first", topology=evolve(plan.topology, in_channels=5))


@pytest.mark.parametrize("patch", PATCHES[:2])
def test_a_previous_stage_goes_where_the_label_goes(case: CaseArrays, patch: tuple[int, ...]) -> None:
    """A perfect first stage, not disturbed, is the label map itself after any turn and mirroring."""
    plan, told = cascade(patch), evolve(case, previous=case.label.clamp(min=0))
    sure = {"p_previous_operation": 0.0, "p_previous_removal": 0.0}
    batch = make(told, plan, p_rotation=1.0, p_scaling=1.0, **sure)
    assert batch.image.shape == (3, 5, *patch)
    for label in (1, 2, 3):
        differ = (batch.image[:, 1 + label] > 0) != (batch.label == label)
        assert differ.float().mean() < 0.01  # outside of the image the label is -1, which may win over a label
    plain = make(told, plan, p_rotation=0.0, p_scaling=0.0, **sure)
    assert torch.equal(plain.image[:, 2:].argmax(1) + 1, plain.label.where(plain.label > 0, 1))


@pytest.mark.parametrize("patch", PATCHES[:2])
def test_a_disturbed_batch_is_its_samples(case: CaseArrays, patch: tuple[int, ...]) -> None:
    plan, told = cascade(patch), evolve(case, previous=case.label.clamp(min=0))
    augmenter = NnUNetAugmenter(p_previous_operation=1.0, p_previous_removal=1.0, p_rotation=0.5)
    drawn = augmenter.draw(3, 2, plan, np.random.default_rng(1))
    places = positions(plan)
    batch = apply(drawn, [told], places, plan, CPU)
    for entry, place in enumerate(places):
        one = apply(drawn.sample(entry), [told], [place], plan, CPU)
        assert torch.equal(one.image[0, 2:], batch.image[entry, 2:])
        assert torch.equal(one.label[0], batch.label[entry])


def test_very_anisotropic_patches_are_turned_within_slices_unless_told_otherwise() -> None:
    plan, rng = configuration((2, 10, 9)), np.random.default_rng(0)
    inside, free = (NnUNetAugmenter(p_rotation=1.0, within_slices=within) for within in (True, False))
    assert inside.draw(2, 2, plan, rng).matrix.shape == (2, 2, 2)
    matrix = free.draw(200, 2, plan, rng).matrix
    assert matrix.shape == (200, 3, 3)
    assert abs(matrix[:, 0]).max(axis=0).min() > 0.1  # every axis is turned into the first
    assert inside.margin(plan)[0] == 0 < free.margin(plan)[0]
    for flat in PATCHES[::2]:
        drawn = (one.draw(2, 2, configuration(flat), np.random.default_rng(1)).matrix for one in (inside, free))
        np.testing.assert_array_equal(*drawn)


def test_the_low_resolution_of_a_patch_that_is_turned_freely_is_along_all_axes(case: CaseArrays) -> None:
    plan, options = configuration((2, 10, 9)), NOTHING | {"p_low_resolution": 1.0}
    inside, free = (make(case, plan, within_slices=within, **options).image for within in (True, False))
    assert not torch.equal(inside, free)


@pytest.mark.parametrize("patch", PATCHES)
def test_the_nearest_label_is_an_option_that_leaves_the_image_alone(case: CaseArrays, patch: tuple[int, ...]) -> None:
    options = NOTHING | {"p_rotation": 1.0, "p_scaling": 1.0}
    case = evolve(case, label=torch.from_numpy(np.random.default_rng(0).integers(0, 4, case.label.shape, np.int16)))
    linear, nearest = (make(case, configuration(patch), labels=labels, **options) for labels in ("linear", "nearest"))
    assert torch.equal(linear.image, nearest.image)
    differ = (linear.label != nearest.label).float().mean()
    assert 0 < differ < 0.5


class Counted:
    """An array of 256 GB, say, of which each box that is read is made up."""

    def __init__(self, shape: tuple[int, ...], kind: type) -> None:
        self.shape, self.kind, self.read = shape, kind, list[int]()

    def __getitem__(self, where: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        size = [len(range(*one.indices(length))) for one, length in zip(where[-3:], self.shape[-3:], strict=True)]
        self.read.append(int(np.prod(size)))
        return np.ones((*self.shape[:-3], *size), self.kind)


@pytest.mark.parametrize("patch", PATCHES)
def test_of_a_case_on_the_disk_only_what_the_patch_reaches_is_read(patch: tuple[int, ...]) -> None:
    shape = (4000, 4000, 4000)
    image, label = Counted((2, *shape), np.float32), Counted(shape, np.int16)
    augmenter = NnUNetAugmenter(p_rotation=1.0, p_scaling=1.0)
    positions = [Position(case=0, start=(2000, 2000, 2000)), Position(case=0, start=(0, 3995, 7))]
    batch = augmenter.batch([CaseArrays(image=image, label=label)], positions, configuration(patch),
                            np.random.default_rng(0), CPU)
    assert batch.image.shape == (2, 2, *patch)
    farthest = 2 * (1.4 * np.linalg.norm(patch) / 2 + 3)  # a diagonal at the largest scale, and a border
    assert len(image.read) == len(label.read) == 2
    assert max(image.read + label.read) <= farthest ** 3
