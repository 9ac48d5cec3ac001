"""From logits back to the case's grid: round trips with `prepare`, and agreement of the two ways to labels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import seg.restoring
from seg.discovery import discover
from seg.models import Configuration, Description, Labels, Plan, Topology
from seg.normalisation import Normalisers
from seg.preprocessing import Preparation, prepare
from seg.resampling import resample
from seg.restoring import (
    labels_for_next_stage,
    labels_from_probabilities,
    restore_labels,
    restore_probabilities,
)

PLAIN = Labels(values={"background": 0, "b": 2, "a": 1})
REGIONS = Labels(values={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))


def how(plan, configuration):
    return Preparation(plan=plan, configuration=configuration,
                       normalisers=Normalisers.resolve([configuration], discover()))


def make_plan(spacing, labels=PLAIN, transpose=(0, 1, 2), patch=(4, 4, 4)):
    topology = Topology(in_channels=1, outputs=labels.outputs, features=(4,), kernels=((3,) * len(patch),),
                        strides=((1,) * len(patch),), blocks=(1,), decoder_blocks=())
    configuration = Configuration(name="some", spacing=spacing, median_shape=patch, patch=patch, batch=2,
                                  topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                                  mirror_axes=())
    description = Description(name="d", channel_names=("a",), labels=labels, training_cases=4)
    plan = Plan(description=description, planner="p", architecture="unet", transpose_forward=transpose,
                original_median_spacing=(1.0, 1.0, 1.0), original_median_shape=(4.0, 4.0, 4.0), intensities=(),
                configurations={"some": configuration})
    return plan, configuration


def blobs(shape=(20, 24, 28)):
    """A smooth image with an empty border, and a label of two smooth classes inside it."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.standard_normal(shape), 4)
    label = np.digitize(field, np.quantile(field, [0.6, 0.8]))
    image = rng.uniform(1, 2, shape).astype(np.float32)[None]
    for axis in range(3):
        for end in (0, 1, -1):
            np.moveaxis(label, axis, 0)[end] = 0
            np.moveaxis(image[0], axis, 0)[end] = 0
    return image, label


def one_hot(label, labels):
    if labels.has_regions:
        return torch.stack([torch.isin(label, torch.tensor(ids)) for ids in labels.foreground.values()]) * 20.0 - 10
    return torch.stack([label.clamp(min=0) == label_id for label_id in labels.ids]) * 20.0


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
def test_round_trip_on_the_same_grid_is_exact(transpose, labels):
    image, label = blobs()
    plan, configuration = make_plan((1.0, 1.0, 1.0), labels, transpose)
    case = prepare(image, (1.0, 1.0, 1.0), how(plan, configuration), label)
    restored = restore_labels(one_hot(case.label, labels), case.properties, plan, configuration)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, label)


@pytest.mark.parametrize(("spacing", "patch"), [((0.8, 0.7, 0.9), (4, 4, 4)), ((999.0, 0.7, 0.8), (4, 4))])
@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
def test_round_trip_over_a_finer_grid(spacing, patch, labels):
    image, label = blobs()
    plan, configuration = make_plan(spacing, labels, (1, 0, 2), patch)
    case = prepare(image, (1.0, 1.1, 0.9), how(plan, configuration), label)
    restored = restore_labels(one_hot(case.label, labels), case.properties, plan, configuration)
    assert restored.shape == label.shape
    assert (restored == label).mean() > 0.98


@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
@pytest.mark.parametrize("half", [False, True])
def test_probabilities_agree_with_labels(labels, half):
    image, label = blobs()
    plan, configuration = make_plan((1.3, 0.9, 1.2), labels, (2, 1, 0))
    case = prepare(image, (1.0, 1.0, 1.0), how(plan, configuration), label)
    logits = torch.randn((labels.outputs, *case.image.shape[1:]), generator=torch.Generator().manual_seed(0))
    logits = logits.half() if half else logits
    probabilities = restore_probabilities(logits, case.properties, plan, configuration)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (labels.outputs, *label.shape)
    restored = restore_labels(logits, case.properties, plan, configuration)
    np.testing.assert_array_equal(labels_from_probabilities(probabilities, labels), restored)
    outside = probabilities[:, 0, 0, 0]
    if labels.has_regions:
        np.testing.assert_array_equal(outside, 0)
    else:
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(outside, [1, 0, 0])


@pytest.mark.parametrize("labels", [PLAIN, REGIONS])
@pytest.mark.parametrize("spacing", [(1.3, 0.9, 1.2), (4.0, 0.9, 1.2), (1.3, 0.9, 4.0)])
def test_the_size_of_the_slabs_decides_nothing(labels, spacing, monkeypatch):
    image, label = blobs()
    plan, configuration = make_plan(spacing, labels, (2, 1, 0))
    case = prepare(image, (1.0, 1.0, 1.0), how(plan, configuration), label)
    logits = torch.randn((labels.outputs, *case.image.shape[1:]), generator=torch.Generator().manual_seed(0))
    given = (logits, case.properties, plan, configuration)
    whole = restore_labels(*given), restore_probabilities(*given), labels_for_next_stage(*given, configuration)
    monkeypatch.setattr(seg.restoring, "SLAB_VOXELS", 700)
    found = restore_labels(*given), restore_probabilities(*given), labels_for_next_stage(*given, configuration)
    assert (found[0] == whole[0]).mean() > 0.999  # but where rounding decides
    np.testing.assert_allclose(found[1], whole[1], atol=1e-5)
    assert torch.equal(found[2], whole[2])


def test_later_regions_are_painted_over_earlier_ones():
    both = torch.tensor([0.9, 0.9]).reshape(2, 1, 1, 1)
    assert labels_from_probabilities(both, REGIONS).item() == 2
    first = torch.tensor([0.9, 0.5]).reshape(2, 1, 1, 1)
    assert labels_from_probabilities(first, REGIONS).item() == 1  # more than a half, not just a half


def test_a_tie_is_the_first_class():
    assert labels_from_probabilities(np.full((3, 1, 1, 1), 1 / 3, np.float32), PLAIN).item() == 0


def test_maps_of_16_bits_are_compared_in_16_bits():
    """As nnU-Net does: of maps that differ by less than that can tell, the first wins."""
    plan, configuration = make_plan((1.3, 0.9, 1.2))
    image = np.random.default_rng(0).uniform(1, 2, (1, 20, 24, 28)).astype(np.float32)
    case = prepare(image, (1.0, 1.0, 1.0), how(plan, configuration))
    logits = torch.ones((3, *case.image.shape[1:]))
    logits[1, ::2] += 2**-10
    fine = resample(logits[1:2], (20, 24, 28), configuration.spacing, (1.0, 1.0, 1.0), configuration.order_logits)[0]
    found = [restore_labels(given, case.properties, plan, configuration) for given in (logits.half(), logits)]
    for labels, higher in zip(found, (fine.half() > 1, fine > 1), strict=True):
        np.testing.assert_array_equal(labels == PLAIN.ids[1], higher)
    assert (found[0] != found[1]).mean() > 0.1


def test_ids_over_255_fit():
    labels = Labels(values={"background": 0, "a": 300, "ignore": 301})
    result = labels_from_probabilities(torch.tensor([0.2, 0.8]).reshape(2, 1, 1, 1), labels)
    assert result.item() == 300


def test_input_logits_are_left_alone():
    image, label = blobs()
    plan, configuration = make_plan((1.0, 1.0, 1.0))
    case = prepare(image, (1.0, 1.0, 1.0), how(plan, configuration), label)
    logits = one_hot(case.label, PLAIN)
    before = logits.clone()
    restore_labels(logits, case.properties, plan, configuration)
    restore_probabilities(logits, case.properties, plan, configuration)
    assert torch.equal(logits, before)
