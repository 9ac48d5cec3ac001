"""On a CUDA device batches of the side stream are those of the main one, wherever the cases lie. Skipped elsewhere."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seg import CaseArrays, Configuration, Position, Topology, to_device
from seg.feeding import SideStream, batches, lane_beside
from seg_basic.plain import NoAugmenter
from seg_nnunet.augmenter import NnUNetAugmenter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PATCH, STEPS = (24, 28, 20), 5
AUGMENTERS = [NnUNetAugmenter(p_rotation=0.5), NoAugmenter()]


@pytest.fixture(scope="module")
def device():
    return torch.device("cuda")


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    return [CaseArrays(image=torch.from_numpy(rng.standard_normal((1, 40, 48, 44)).astype(np.float32)),
                       label=torch.from_numpy(rng.integers(-1, 3, (40, 48, 44)).astype(np.int16))) for _ in range(3)]


def on(cases, device):
    return [CaseArrays(image=case.image.to(device), label=case.label.to(device)) for case in cases]


def configuration():
    topology = Topology(in_channels=1, outputs=3, features=(4,), kernels=((3,) * 3,), strides=((1,) * 3,), blocks=(1,),
                        decoder_blocks=())
    return Configuration(name="3d", spacing=(1.0,) * 3, median_shape=(40.0,) * 3, patch=PATCH, batch=2,
                         topology=topology, normalization=("zscore",), use_mask_for_norm=(False,),
                         mirror_axes=(0, 1, 2))


def maker(augmenter, cases, device):
    """What makes the batch of a step, as a training does."""

    def make(step):
        rng = np.random.default_rng((7, step))
        positions = [Position(case=int(rng.integers(len(cases))), start=tuple(rng.integers(-8, 24, 3).tolist()))
                     for _ in range(2)]
        return augmenter.batch(cases, positions, configuration(), rng, device)

    return make


@contextmanager
def in_between(make):
    with batches(make, 0, None) as take:
        yield take


@contextmanager
def beside(make, device):
    with batches(make, 0, lane_beside(device)) as take:
        yield take


def test_it_has_a_stream_of_its_own(device):
    lane = lane_beside(device)
    assert isinstance(lane, SideStream)
    assert lane.stream != torch.cuda.current_stream(device)


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=["nnunet", "none"])
@pytest.mark.parametrize("pinned", [False, True], ids=["on the device", "in the machine"])
def test_the_batches_are_the_same_in_the_same_order(cases, device, augmenter, pinned):
    with in_between(maker(augmenter, on(cases, device), device)) as take:
        expected = [take() for _ in range(STEPS)]
    with beside(maker(augmenter, cases if pinned else on(cases, device), device), device) as take:
        found = [take() for _ in range(STEPS)]
    for one, other in zip(found, expected, strict=True):
        assert one.image.device.type == one.label.device.type == "cuda"
        torch.testing.assert_close(one.image, other.image)
        assert float((one.label != other.label).float().mean()) < 1e-4  # ties of rotated labels


def weights(take, device):
    """A small network after some steps; its work is long enough for the next batches to come in between."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv3d(32, 3, 3, padding=1)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(STEPS):
        batch = take()
        optimizer.zero_grad()
        F.cross_entropy(network(batch.image), batch.label).backward()
        optimizer.step()
        del batch  # its memory may go back while the device still works on it
    return [parameter.detach().cpu() for parameter in network.parameters()]


@pytest.mark.parametrize("pinned", [False, True], ids=["on the device", "in the machine"])
def test_the_weights_are_the_same(cases, device, pinned):
    make = maker(AUGMENTERS[0], cases if pinned else on(cases, device), device)
    with in_between(make) as take:
        expected = weights(take, device)
    with beside(make, device) as take:
        found = weights(take, device)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_what_is_sent_is_what_arrives_though_the_buffers_are_used_again(device):
    sent = [torch.randn(1 << 20) for _ in range(8)]
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        arrived = [to_device(tensor, device) for tensor in sent]
    stream.synchronize()
    assert all(torch.equal(one.cpu(), other) for one, other in zip(arrived, sent, strict=True))


def test_a_mistake_on_the_side_comes_out(device):
    def broken(step):
        raise ValueError("a bad case")

    with batches(broken, 0, lane_beside(device)) as take, pytest.raises(ValueError, match="a bad case"):
        take()
