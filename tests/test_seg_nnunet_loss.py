"""Dice and cross-entropy against a calculation written out in numpy."""

import numpy as np
import pytest
import torch

from seg import Configuration, Labels, Loss, PartedCriterion, SegError, Topology, one_hot, region_maps
from seg.discovery import discover
from seg_nnunet.loss import DiceCrossEntropy

PLAIN = Labels(values={"background": 0, "a": 1, "b": 2})
IGNORE = Labels(values={"background": 0, "a": 1, "b": 2, "ignore": 3})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))
REGIONS_IGNORE = Labels(values={"background": 0, "whole": (1, 2), "core": (2,), "ignore": 3},
                        regions_class_order=(1, 2))
ALL = [PLAIN, IGNORE, REGIONS, REGIONS_IGNORE]


def criterion(labels, batch_dice=False, **options):
    topology = Topology(in_channels=1, outputs=3, features=(4,), kernels=((3, 3),), strides=((1, 1),), blocks=(1,),
                        decoder_blocks=())
    configuration = Configuration(name="2d", spacing=(1.0, 1.0, 1.0), median_shape=(8.0, 8.0), patch=(8, 8), batch=2,
                                  topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=(), batch_dice=batch_dice)
    return DiceCrossEntropy(**options).build(labels, configuration)


def some(labels, shape=(2, 5, 6, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((shape[0], labels.outputs, *shape[1:]), generator=generator)
    top = 4 if labels.ignore else 3
    return logits, torch.randint(0, top, shape, generator=generator)


def written_out(logits, label, labels, batch_dice):
    """Voxel by voxel, float64."""
    logits, label = logits.double().numpy(), label.numpy()
    valid = np.ones(label.shape, bool) if labels.ignore is None else label != labels.ignore
    if labels.has_regions:
        targets = np.stack([np.isin(label, ids) for ids in labels.foreground.values()], 1).astype(float)
        p = 1 / (1 + np.exp(-logits))
        entropy = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(1)
    else:
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        targets = np.stack([label == index for index in range(logits.shape[1])], 1).astype(float)
        entropy = -(targets * np.log(p)).sum(1)
        p, targets = p[:, 1:], targets[:, 1:]
    scores = []
    for samples in ([slice(None)] if batch_dice else [slice(i, i + 1) for i in range(len(label))]):
        for k in range(p.shape[1]):
            pp, tt = p[samples, k][valid[samples]], targets[samples, k][valid[samples]]
            scores.append((2 * (pp * tt).sum() + 1e-5) / (pp.sum() + tt.sum() + 1e-5))
    return entropy[valid].mean() - np.mean(scores)


def perfect(label, labels, scale=20.0):
    if labels.has_regions:
        return (region_maps(label, labels) * 2 - 1) * scale
    return one_hot(label.clamp(max=labels.outputs - 1), labels.outputs) * scale


@pytest.mark.parametrize("labels", ALL)
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (3, 8, 9)])
def test_the_loss_is_what_it_is_by_hand(labels, batch_dice, shape):
    logits, label = some(labels, shape)
    loss = criterion(labels, batch_dice)(logits, label)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == pytest.approx(written_out(logits, label, labels, batch_dice), abs=1e-5)


@pytest.mark.parametrize("labels", ALL)
@pytest.mark.parametrize("batch_dice", [False, True])
def test_the_perfect_prediction_has_the_lowest_loss(labels, batch_dice):
    logits, label = some(labels)
    loss = criterion(labels, batch_dice)
    best = loss(perfect(label, labels), label)
    assert best.item() == pytest.approx(-1, abs=1e-4)
    found = [loss(logits * share + perfect(label, labels) * (1 - share), label).item() for share in (0.8, 0.9, 1)]
    assert best < found[0] < found[1] < found[2]


@pytest.mark.parametrize("labels", [IGNORE, REGIONS_IGNORE])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_ignored_voxels_count_nowhere(labels, batch_dice):
    logits, label = some(labels)
    loss = criterion(labels, batch_dice)
    other = torch.where((label == 3).unsqueeze(1), torch.randn_like(logits) * 10, logits)
    torch.testing.assert_close(loss(other, label), loss(logits, label))
    logits.requires_grad_()
    loss(logits, label).backward()
    assert (logits.grad * (label == 3).unsqueeze(1)).count_nonzero() == 0
    assert logits.grad.count_nonzero() > 0


@pytest.mark.parametrize("labels", [IGNORE, REGIONS_IGNORE])
def test_a_batch_of_ignored_voxels_alone_is_finite(labels):
    logits, label = some(labels)
    logits.requires_grad_()
    loss = criterion(labels)(logits, torch.full_like(label, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad.isfinite().all()


def test_the_dice_of_a_batch_is_not_the_mean_of_its_samples():
    logits, label = some(PLAIN)
    label[0] = 0  # a class is absent in one sample
    one, other = (criterion(PLAIN, batch)(logits, label)
                  for batch in (False, True))
    assert abs(one - other) > 0.05
    single = [criterion(PLAIN, batch)(logits[:1], label[:1])
              for batch in (False, True)]
    torch.testing.assert_close(*single)


@pytest.mark.parametrize("labels", ALL)
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_the_gradient_is_finite_however_sure_the_network_is(labels, scale):
    logits, label = some(labels)
    logits = (logits * scale).requires_grad_()
    criterion(labels)(logits, label).backward()
    assert logits.grad.isfinite().all()


def test_an_empty_class_that_is_not_predicted_has_dice_1():
    label = torch.zeros((1, 4, 4), dtype=torch.int64)
    loss = criterion(PLAIN)(perfect(label, PLAIN, 100), label)
    assert loss.item() == pytest.approx(-1, abs=1e-4)


def test_it_is_a_loss_that_is_found_by_name():
    found, use = discover().build("loss", "dice_ce", {"top_k": 10})
    assert isinstance(found, Loss)
    assert found == DiceCrossEntropy(top_k=10)
    assert (use.distribution, use.options["top_k"]) == ("segplug", 10)


@pytest.mark.parametrize("options", [{"top_k": 0.0}, {"top_k": 101.0}, {"dice": -1.0}, {"batch": "maybe"},
                                     {"dice": 0.0, "entropy": 0.0}, {"top": 10}, {"label_smoothing": 1.0}])
def test_bad_options_are_refused(options):
    with pytest.raises(SegError) as caught:
        discover().build("loss", "dice_ce", options)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("labels", ALL)
@pytest.mark.parametrize("batch_dice", [False, True])
def test_it_is_the_weighted_sum_of_its_two_terms(labels, batch_dice):
    logits, label = some(labels)
    both, dice, entropy = (criterion(labels, batch_dice, dice=one, entropy=other)(logits, label)
                           for one, other in ((0.3, 2.0), (1.0, 0.0), (0.0, 1.0)))
    torch.testing.assert_close(both, 0.3 * dice + 2 * entropy)
    assert -1 <= dice < 0 < entropy
    if not labels.has_regions:
        ignored = -100 if labels.ignore is None else labels.ignore
        torch.testing.assert_close(entropy, torch.nn.functional.cross_entropy(logits, label, ignore_index=ignored))


@pytest.mark.parametrize(("option", "over_batch"), [("on", True), ("off", False)])
def test_batch_overrules_the_plan(option, over_batch):
    logits, label = some(PLAIN)
    for planned in (False, True):
        assert criterion(PLAIN, planned, batch=option)(logits, label) == criterion(PLAIN, over_batch)(logits, label)


@pytest.mark.parametrize("labels", ALL)
def test_top_k_is_the_mean_of_the_hardest_voxels(labels):
    logits, label = some(labels)
    each = criterion(labels, dice=0, top_k=100)
    single = [each(logits[:1, :, z : z + 1, y : y + 1, x : x + 1], label[:1, z : z + 1, y : y + 1, x : x + 1]).item()
              for z, y, x in np.ndindex(*label.shape[1:])]
    hardest = sorted(single, reverse=True)[: int(len(single) * 0.1)]
    found = criterion(labels, dice=0, top_k=10)(logits[:1], label[:1])
    assert found.item() == pytest.approx(np.mean(hardest), rel=1e-5)
    assert found > each(logits[:1], label[:1])


def test_top_k_of_a_patch_that_is_nearly_all_ignored_is_the_mean_of_the_rest():
    logits, label = some(IGNORE)
    label[:] = 3
    label[0, 0, 0, :2] = 1
    whole, top = (criterion(IGNORE, dice=0, top_k=k)(logits, label) for k in (100, 10))
    torch.testing.assert_close(whole, top)


@pytest.mark.parametrize("labels", [PLAIN, IGNORE])
def test_smoothing_is_that_of_torch(labels):
    logits, label = some(labels)
    ignored = -100 if labels.ignore is None else labels.ignore
    expected = torch.nn.functional.cross_entropy(logits, label, ignore_index=ignored, label_smoothing=0.1)
    torch.testing.assert_close(criterion(labels, dice=0, label_smoothing=0.1)(logits, label), expected)


def test_smoothing_of_regions_moves_their_targets_towards_a_half():
    logits, label = some(REGIONS)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, region_maps(label, REGIONS) * 0.8 + 0.1)
    torch.testing.assert_close(criterion(REGIONS, dice=0, label_smoothing=0.2)(logits, label), expected)


def test_without_smoothing_of_the_dice_an_absent_class_has_dice_0():
    label = torch.zeros((1, 4, 4), dtype=torch.int64)
    logits = perfect(label, PLAIN, 1000)
    assert criterion(PLAIN, entropy=0)(logits, label) == -1
    assert criterion(PLAIN, entropy=0, smooth=0)(logits, label) == 0


@pytest.mark.parametrize(("labels", "options", "parted"), [
    (PLAIN, {}, True), (REGIONS, {}, True), (PLAIN, {"dice": 0}, True), (IGNORE, {}, False),
    (PLAIN, {"top_k": 10}, False),
])  # fmt: skip
def test_it_works_in_parts_where_that_is_the_same(labels, options, parted):
    assert isinstance(criterion(labels, **options), PartedCriterion) is parted


@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("weights", [(1, 1), (0, 2), (3, 0.5)])
def test_the_parts_of_a_batch_add_up_to_the_whole(labels, batch_dice, weights):
    logits, label = some(labels, (3, 5, 6))
    found = criterion(labels, batch_dice, dice=weights[0], entropy=weights[1])
    assert found.takes_sums is (batch_dice and weights[0] > 0)
    whole = logits.clone().requires_grad_()
    found(whole, label).backward()
    parts, total = logits.clone().requires_grad_(), 0.0
    slices = [slice(0, 2), slice(2, 3)]
    sums = sum(found.sums(logits[rows], label[rows]) for rows in slices) if found.takes_sums else None
    for rows, share in zip(slices, (2 / 3, 1 / 3), strict=True):
        loss = found.part(parts[rows], label[rows], share, sums)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(found(logits, label).item(), rel=1e-5)
    torch.testing.assert_close(parts.grad, whole.grad)
