"""Where maps are gathered makes no difference to what they are."""

import pytest
import torch

import seg.room
from seg.errors import SegError
from seg.room import FileMaps, Room, find_room, parts
from seg.sliding_window import Window, sliding_window

CPU = torch.device("cpu")


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def outputs(tiles):
    return [torch.cat([tiles[:, :1] * 2 + 1, tiles[:, -1:].square(), tiles[:, :1] - 3], 1)]


@pytest.mark.parametrize(("shape", "patch"), [
    ((12, 14, 17), (8, 6, 10)), ((9, 20, 12), (9, 12)), ((3, 5, 4), (8, 6, 10)),
])  # fmt: skip
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_prediction_in_a_file_is_that_in_memory(shape, patch, half, batch):
    window = Window(patch=patch, mirror_axes=(0, 1), half_sums=half, batch=batch)
    image = noise(2, *shape)
    there = sliding_window(outputs, image, window, 3)
    found = sliding_window(outputs, image, window, 3, Room(device=None))
    assert isinstance(found, FileMaps)
    assert found.shape == there.shape
    assert found[:].dtype == there.dtype == (torch.float16 if half else torch.float32)
    assert torch.equal(found[:], there)
    assert torch.equal(found[1:2], there[1:2])


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_what_was_written_stays_when_its_pages_are_given_back(kind):
    maps = FileMaps.zeros((3, 40, 50, 60), kind)
    assert not maps[:].any()
    maps.tensor[1] = 7
    maps.rest()
    maps.tensor[2, 5] = 3
    maps.rest()
    assert (maps[1:2] == 7).all()
    assert maps[2:3].sum() == 3 * 50 * 60
    assert not maps[:1].any()


@pytest.mark.parametrize("part", [
    (slice(1, 2), slice(10, 20)), (slice(1, 2), slice(None), slice(3, 5)), slice(2, 3), slice(0, 0),
])  # fmt: skip
def test_a_part_is_read_without_loss_to_what_lies_beside_it(part):
    maps = FileMaps.zeros((3, 40, 50, 60), torch.float32)
    values = noise(3, 40, 50, 60)
    maps.tensor.copy_(values)
    assert torch.equal(maps[part], values[part])
    assert torch.equal(maps[:], values)


@pytest.mark.parametrize("shape", [(3, 7, 4, 5), (1, 6, 2, 2), (9, 2, 3, 3), (2, 1, 3, 3)])
@pytest.mark.parametrize("whole", [False, True])
def test_parts_have_every_value_once_and_are_about_one_map(shape, whole):
    maps = FileMaps.zeros(shape, torch.float32)
    for part in parts(shape, whole_voxels=whole):
        assert maps[part].shape[0] == (shape[0] if whole else 1)
        assert 0 < maps[part].numel() < 2 * max(maps[:1].numel(), maps[:, :1].numel())
        maps.tensor[part] += 1
    assert (maps[:] == 1).all()


def test_the_room_is_found_by_size():
    assert find_room(1000, CPU) == Room(device=CPU)
    assert find_room(1000, CPU, limit=999) == Room(device=None)
    assert find_room(1000, CPU, limit=1000) == Room(device=CPU)


def test_what_fits_nowhere_is_refused_before_anything_is_taken():
    with pytest.raises(SegError, match="SEG-R07") as caught:
        find_room(1 << 60, CPU)
    assert caught.value.exit_code == 5
    assert "TMPDIR" in caught.value.records[0].advice


def test_a_disk_that_is_too_small_is_a_refusal(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seg.room.os, "posix_fallocate", full)
    with pytest.raises(SegError, match="SEG-R01"):
        FileMaps.zeros((1, 2, 3, 4), torch.float32)
