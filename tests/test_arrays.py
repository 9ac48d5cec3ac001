"""An array of a case on disk: what was written is read, whole or in parts, and damage is told."""

import pytest
import torch

from seg import SegError
from seg.arrays import load_array, open_array, write_array


@pytest.mark.parametrize("array", [torch.arange(60).reshape(3, 4, 5).to(torch.int16), torch.rand(2, 3, 4, 5).half()],
                         ids=["previous", "logits"])
def test_there_and_back(array, tmp_path):
    write_array(tmp_path / "new" / "a.h5", array, (2, 4, 4))
    assert torch.equal(load_array(tmp_path / "new" / "a.h5"), array)
    with open_array(tmp_path / "new" / "a.h5") as dataset:
        assert torch.equal(torch.from_numpy(dataset[..., 1:3, :2, 4]), array[..., 1:3, :2, 4])


def test_damage_is_told(tmp_path):
    file = tmp_path / "a.h5"
    write_array(file, torch.ones(4, 4, 4, dtype=torch.int16), (4, 4, 4))
    with open_array(file) as dataset:
        offset = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(file.read_bytes())
    content[offset + 3] ^= 4
    file.write_bytes(content)
    with pytest.raises(SegError, match="damaged"):
        load_array(file)
    file.write_bytes(content[:100])
    with pytest.raises(SegError, match="damaged"):
        load_array(file)
