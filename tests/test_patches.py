"""Patches inside, across and outside a case; the same from memory and from HDF5."""

import h5py
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.kinds import CaseArrays
from seg.patches import cut_patch, to_device

SHAPE = (5, 6, 7)
RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((2, *SHAPE)).astype(np.float32)
LABEL = RNG.integers(0, 4, SHAPE).astype(np.int16)
starts = st.tuples(*(st.integers(-8, 9) for _ in range(3)))
sizes = st.tuples(*(st.integers(1, 9) for _ in range(3)))


@settings(deadline=None)
@given(starts, sizes)
def test_a_patch_is_a_box_of_the_padded_case(start, size):
    case = CaseArrays(image=torch.from_numpy(IMAGE), label=torch.from_numpy(LABEL))
    image, label = cut_patch(case, start, size)
    box = tuple(slice(20 + first, 20 + first + length) for first, length in zip(start, size, strict=True))
    np.testing.assert_array_equal(image, np.pad(IMAGE, [(0, 0)] + [(20, 20)] * 3)[:, *box])
    np.testing.assert_array_equal(label, np.pad(LABEL, 20, constant_values=-1)[box])
    assert (image.dtype, label.dtype) == (torch.float32, torch.int16)


def test_hdf5_gives_the_same_as_memory(tmp_path):
    in_memory = CaseArrays(image=torch.from_numpy(IMAGE), label=torch.from_numpy(LABEL))
    with h5py.File(tmp_path / "case.h5", "w") as file:
        image, label = file.create_dataset("image", data=IMAGE), file.create_dataset("label", data=LABEL)
        on_disk = CaseArrays(image=image, label=label)
        for start in [(0, 0, 0), (-2, 3, 1), (4, 5, 6), (9, 9, 9)]:
            for ours, expected in zip(cut_patch(on_disk, start, (3, 4, 5)), cut_patch(in_memory, start, (3, 4, 5)),
                                      strict=True):
                torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def test_a_patch_is_a_copy():
    case = CaseArrays(image=torch.from_numpy(IMAGE.copy()), label=torch.from_numpy(LABEL.copy()))
    image, label = cut_patch(case, (0, 0, 0), SHAPE)
    image.zero_()
    label.zero_()
    np.testing.assert_array_equal(case.image, IMAGE)
    np.testing.assert_array_equal(case.label, LABEL)


def test_of_a_case_larger_than_memory_only_the_box_is_read(tmp_path):
    """256 GB of image in a file of which one chunk was ever written."""
    shape = (4000, 4000, 4000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        image = file.create_dataset("image", (1, *shape), "float32", chunks=(1, 64, 64, 64), fletcher32=True)
        label = file.create_dataset("label", shape, "int16", chunks=(64, 64, 64), fletcher32=True)
        image[0, 3999, 3998, 3997] = 2.5
        label[3999, 3998, 3997] = 3
        case = CaseArrays(image=image, label=label)
        found = cut_patch(case, (3970, 3970, 3970), (40, 40, 40))
    assert [float(one[..., 29, 28, 27]) for one in found] == [2.5, 3]
    assert [int(torch.count_nonzero(one > 0)) for one in found] == [1, 1]


def test_what_is_there_already_is_not_copied():
    tensor = torch.from_numpy(IMAGE)
    assert to_device(tensor, torch.device("cpu")) is tensor
    assert to_device(tensor, torch.device("meta")).device.type == "meta"


class Sent:
    """As much of a tensor in the machine's memory as `to_device` asks for, where there is no CUDA device to send to."""

    device = torch.device("cpu")

    def __init__(self, pinned=None):
        self.pinned = pinned

    def pin_memory(self):
        if self.pinned is None:
            raise RuntimeError("no pages left to lock")
        return self.pinned

    def to(self, device, **how):
        return self, device, how


def test_what_goes_to_cuda_goes_through_locked_pages_if_there_are_any():
    cuda, pinned = torch.device("cuda:1"), Sent()
    assert to_device(Sent(pinned), cuda) == (pinned, cuda, {"non_blocking": True})
    plain = Sent()
    assert to_device(plain, cuda) == (plain, cuda, {})
