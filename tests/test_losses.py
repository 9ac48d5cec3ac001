"""Dice and cross-entropy against a calculation written out in numpy."""

import numpy as np
import pytest
import torch

from seg import Labels
from seg.losses import DiceCrossEntropy, one_hot, region_maps

PLAIN = Labels(values={"background": 0, "a": 1, "b": 2})
IGNORE = Labels(values={"background": 0, "a": 1, "b": 2, "ignore": 3})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))
REGIONS_IGNORE = Labels(values={"background": 0, "whole": (1, 2), "core": (2,), "ignore": 3},
                        regions_class_order=(1, 2))
ALL = [PLAIN, IGNORE, REGIONS, REGIONS_IGNORE]


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
    loss = DiceCrossEntropy(labels=labels, weights=(1.0,), batch_dice=batch_dice)([logits], label)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == pytest.approx(written_out(logits, label, labels, batch_dice), abs=1e-5)


@pytest.mark.parametrize("labels", ALL)
@pytest.mark.parametrize("batch_dice", [False, True])
def test_the_perfect_prediction_has_the_lowest_loss(labels, batch_dice):
    logits, label = some(labels)
    loss = DiceCrossEntropy(labels=labels, weights=(1.0,), batch_dice=batch_dice)
    best = loss([perfect(label, labels)], label)
    assert best.item() == pytest.approx(-1, abs=1e-4)
    found = [loss([logits * share + perfect(label, labels) * (1 - share)], label).item() for share in (0.8, 0.9, 1)]
    assert best < found[0] < found[1] < found[2]


@pytest.mark.parametrize("labels", [IGNORE, REGIONS_IGNORE])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_ignored_voxels_count_nowhere(labels, batch_dice):
    logits, label = some(labels)
    loss = DiceCrossEntropy(labels=labels, weights=(1.0,), batch_dice=batch_dice)
    other = torch.where((label == 3).unsqueeze(1), torch.randn_like(logits) * 10, logits)
    torch.testing.assert_close(loss([other], label), loss([logits], label))
    logits.requires_grad_()
    loss([logits], label).backward()
    assert (logits.grad * (label == 3).unsqueeze(1)).count_nonzero() == 0
    assert logits.grad.count_nonzero() > 0


@pytest.mark.parametrize("labels", [IGNORE, REGIONS_IGNORE])
def test_a_batch_of_ignored_voxels_alone_is_finite(labels):
    logits, label = some(labels)
    logits.requires_grad_()
    loss = DiceCrossEntropy(labels=labels, weights=(1.0,))([logits], torch.full_like(label, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad.isfinite().all()


def test_the_dice_of_a_batch_is_not_the_mean_of_its_samples():
    logits, label = some(PLAIN)
    label[0] = 0  # a class is absent in one sample
    one, other = (DiceCrossEntropy(labels=PLAIN, weights=(1.0,), batch_dice=batch)([logits], label)
                  for batch in (False, True))
    assert abs(one - other) > 0.05
    single = [DiceCrossEntropy(labels=PLAIN, weights=(1.0,), batch_dice=batch)([logits[:1]], label[:1])
              for batch in (False, True)]
    torch.testing.assert_close(*single)


def test_deep_supervision_is_the_weighted_sum_of_its_levels():
    label = torch.zeros((2, 8, 8), dtype=torch.int64)
    label[:, 4:] = 1
    label[0, :, 6:] = 2
    outputs = [some(PLAIN, (2, n, n), seed)[0] for seed, n in enumerate((8, 4, 2))]
    resized = [label, label[:, 1::2, 1::2], label[:, 2::4, 2::4]]
    alone = DiceCrossEntropy(labels=PLAIN, weights=(1.0,))
    expected = sum(weight * alone([output], target)
                   for weight, output, target in zip((0.5, 0.3, 0.2), outputs, resized, strict=True))
    found = DiceCrossEntropy(labels=PLAIN, weights=(0.5, 0.3, 0.2))(outputs, label)
    torch.testing.assert_close(found, expected)


def test_an_output_of_weight_0_counts_nowhere():
    logits, label = some(PLAIN)
    loss = DiceCrossEntropy(labels=PLAIN, weights=(1.0, 0.0))
    torch.testing.assert_close(loss([logits, torch.full_like(logits, torch.nan)], label),
                               DiceCrossEntropy(labels=PLAIN, weights=(1.0,))([logits], label))


def test_as_many_weights_as_outputs():
    logits, label = some(PLAIN)
    with pytest.raises(ValueError, match="zip"):
        DiceCrossEntropy(labels=PLAIN, weights=(0.5, 0.5))([logits], label)


@pytest.mark.parametrize("labels", ALL)
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_the_gradient_is_finite_however_sure_the_network_is(labels, scale):
    logits, label = some(labels)
    logits = (logits * scale).requires_grad_()
    DiceCrossEntropy(labels=labels, weights=(1.0,))([logits], label).backward()
    assert logits.grad.isfinite().all()


def test_half_precision_is_taken_to_single():
    logits, label = some(PLAIN)
    loss = DiceCrossEntropy(labels=PLAIN, weights=(1.0,))
    half = loss([logits.bfloat16()], label)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss([logits.bfloat16().float()], label))


def test_an_empty_class_that_is_not_predicted_has_dice_1():
    label = torch.zeros((1, 4, 4), dtype=torch.int64)
    loss = DiceCrossEntropy(labels=PLAIN, weights=(1.0,))([perfect(label, PLAIN, 100)], label)
    assert loss.item() == pytest.approx(-1, abs=1e-4)


def test_maps():
    label = torch.tensor([[0, 1, 2]])
    assert one_hot(label, 3)[0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert region_maps(label, REGIONS)[0].tolist() == [[0, 1, 1], [0, 0, 1]]
