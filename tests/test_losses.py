"""A criterion over all outputs of a network, and what criteria are made of."""

import pytest
import torch
from torch.nn import functional as F

from seg import Labels
from seg.losses import DeepSupervision, masked_mean, one_hot, region_maps

REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))
LABEL = torch.zeros((2, 8, 8), dtype=torch.int64)
LABEL[:, 4:] = 1
LABEL[0, :, 6:] = 2


class Parted:
    """Cross-entropy that says what it was asked."""

    takes_sums = True

    def __init__(self):
        self.asked = []

    def __call__(self, logits, ids):
        return F.cross_entropy(logits, ids)

    def part(self, logits, ids, share, sums):
        self.asked.append((share, sums))
        return share * F.cross_entropy(logits, ids)

    def sums(self, logits, ids):
        return torch.tensor([len(ids), ids.shape[1]])


def logits(size, seed=0):
    return torch.randn((2, 3, size, size), generator=torch.Generator().manual_seed(seed))


def test_deep_supervision_is_the_weighted_sum_of_its_levels():
    outputs = [logits(size, seed) for seed, size in enumerate((8, 4, 2))]
    resized = [LABEL, LABEL[:, 1::2, 1::2], LABEL[:, 2::4, 2::4]]
    weights = (0.5, 0.3, 0.2)
    expected = sum(weight * F.cross_entropy(output, target)
                   for weight, output, target in zip(weights, outputs, resized, strict=True))
    found = DeepSupervision(criterion=F.cross_entropy, weights=weights)(outputs, LABEL)
    assert (found.dtype, found.shape) == (torch.float32, ())
    torch.testing.assert_close(found, expected)


def test_an_output_of_weight_0_counts_nowhere():
    found = DeepSupervision(criterion=F.cross_entropy, weights=(1.0, 0.0))([logits(8), logits(8) * torch.nan], LABEL)
    torch.testing.assert_close(found, F.cross_entropy(logits(8), LABEL))


def test_as_many_weights_as_outputs():
    with pytest.raises(ValueError, match="zip"):
        DeepSupervision(criterion=F.cross_entropy, weights=(0.5, 0.5))([logits(8)], LABEL)


def test_half_precision_is_taken_to_single():
    loss = DeepSupervision(criterion=F.cross_entropy, weights=(1.0,))
    half = loss([logits(8).bfloat16()], LABEL)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss([logits(8).bfloat16().float()], LABEL))


def test_a_plain_criterion_works_in_no_parts():
    loss = DeepSupervision(criterion=F.cross_entropy, weights=(1.0,))
    assert not loss.takes_parts
    assert not loss.takes_sums
    with pytest.raises(TypeError, match="parts"):
        loss.sums([logits(8)], LABEL)


def test_a_parted_one_is_handed_the_share_and_the_sums_of_each_output():
    criterion = Parted()
    loss = DeepSupervision(criterion=criterion, weights=(0.5, 0.5))
    assert loss.takes_parts
    assert loss.takes_sums
    outputs = [logits(8), logits(4)]
    sums = loss.sums(outputs, LABEL)
    assert [one.tolist() for one in sums] == [[2, 8], [2, 4]]
    whole, half = loss(outputs, LABEL), loss(outputs, LABEL, share=0.5, sums=sums)
    torch.testing.assert_close(half, whole / 2)
    assert criterion.asked == [(0.5, sums[0]), (0.5, sums[1])]


def test_maps():
    label = torch.tensor([[0, 1, 2]])
    assert one_hot(label, 3)[0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert region_maps(label, REGIONS)[0].tolist() == [[0, 1, 1], [0, 0, 1]]


def test_the_mean_of_some():
    values, valid = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])
    assert masked_mean(values, valid) == 3.5
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool)) == 0
