"""A state is whole or it is not taken."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from seg import SegError
from seg.checkpoint import load_state, newest_state, optimizer_state, restore_optimizer, save_state


def states(folder):
    return sorted(folder.glob("*"))


def some(value):
    return {"network.weight": torch.full((3, 2), float(value)), "steps": torch.tensor(value)}


def test_there_and_back(tmp_path):
    tensors = {"a": torch.randn(2, 3).bfloat16(), "b": torch.arange(4), "empty": torch.zeros(0),
               "turned": torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)}
    numbers = {"step": 7, "seconds": 0.1 + 0.2, "list": [1, None]}
    path = save_state(tmp_path / "deep", 7, tensors, numbers)
    assert newest_state(tmp_path / "deep") == path
    found, told = load_state(path)
    assert told == numbers
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_tensors_that_share_memory_are_saved(tmp_path):
    weight = torch.arange(6.0)
    found, _ = load_state(save_state(tmp_path, 1, {"a": weight, "b": weight}, {}))
    assert torch.equal(found["a"], found["b"])


def test_what_is_left_of_a_killed_run_is_removed_at_the_next(tmp_path):
    (tmp_path / "state_00000002.safetensors").write_bytes(b"")
    (tmp_path / ".state_00000002-abc.safetensors").write_bytes(b"")
    assert states(tmp_path) != [save_state(tmp_path, 3, some(3), {})] == states(tmp_path)


def test_the_two_newest_are_kept(tmp_path):
    assert newest_state(tmp_path) is None
    paths = [save_state(tmp_path, step, some(step), {"step": step}) for step in (1, 9, 10, 100)]
    assert states(tmp_path) == sorted(paths[-2:])
    assert newest_state(tmp_path) == paths[-1]
    again = save_state(tmp_path, 100, some(100), {"step": 100})
    assert again == paths[-1]
    assert states(tmp_path) == sorted(paths[-2:])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def flip_header(path):
    data = bytearray(path.read_bytes())
    data[9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, empty, flip, flip_header])
def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path, damage):
    before, newest = (save_state(tmp_path, step, some(step), {"step": step}) for step in (1, 2))
    damage(newest)
    assert newest_state(tmp_path) == before
    damage(before)
    assert newest_state(tmp_path) is None


def test_leftovers_of_a_killed_run_are_no_states(tmp_path):
    path = save_state(tmp_path, 1, some(1), {})
    (tmp_path / "state_00000002.safetensors").write_bytes(path.read_bytes())
    (tmp_path / ".state_00000002-abc.safetensors").write_bytes(b"")
    assert newest_state(tmp_path) == path


def test_a_full_disk_keeps_what_was_there(tmp_path):
    path = save_state(tmp_path, 1, some(1), {"step": 1})
    code = f"""
import resource, sys
from pathlib import Path
import torch
from seg import SegError
from seg.checkpoint import save_state
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_state(Path({str(tmp_path)!r}), 2, {{"a": torch.zeros(100_000)}}, {{}})
except SegError as error:
    sys.exit(int(error.exit_code))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert states(tmp_path) == [path]
    assert newest_state(tmp_path) == path


class Counting(torch.optim.SGD):
    """Keeps plain numbers, and makes ever smaller steps by them."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"], state["share"] = state.get("count", 0) + 1, state.get("share", 0.1) / 3
                parameter.data -= state["share"] / state["count"] * parameter.grad


@pytest.mark.parametrize("make", [
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.99, nesterov=True),
    lambda parameters: torch.optim.AdamW(parameters, lr=0.1), lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True), Counting, torch.optim.RAdam,
    torch.optim.Rprop, torch.optim.RMSprop,
], ids=["momentum", "AdamW", "SGD", "amsgrad", "numbers", "RAdam", "Rprop", "RMSprop"])  # fmt: skip
def test_an_optimiser_goes_on_as_if_nothing_had_been(tmp_path, make):
    def network():
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    def step(model, optimizer, index):
        optimizer.zero_grad()
        (model(torch.full((2, 3), index / 7)) ** 2).sum().backward()
        optimizer.step()

    straight = network()
    optimizer = make(straight.parameters())
    for index in range(3):
        step(straight, optimizer, index)
    tensors, numbers = optimizer_state(optimizer)
    path = save_state(tmp_path, 3, straight.state_dict() | tensors, {"optimizer": numbers})
    step(straight, optimizer, 3)

    resumed = network()
    optimizer = make(resumed.parameters())
    tensors, numbers = load_state(path)
    resumed.load_state_dict({name: tensors[name] for name in resumed.state_dict()})
    restore_optimizer(optimizer, tensors, numbers["optimizer"])
    step(resumed, optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_what_an_optimiser_kept_lies_as_its_parameters_do(tmp_path):
    def made():
        network = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
        return network, torch.optim.AdamW(network.parameters())

    network, optimizer = made()
    network(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    path = save_state(tmp_path, 1, optimizer_state(optimizer)[0], {})
    other, restored = made()
    restore_optimizer(restored, load_state(path)[0], {})
    for parameter, before in zip(other.parameters(), network.parameters(), strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            value = restored.state[parameter][key]
            assert value.stride() == parameter.stride()
            assert torch.equal(value, optimizer.state[before][key])
            assert not value.requires_grad


def test_an_optimiser_before_its_first_step(tmp_path):
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    assert optimizer_state(optimizer) == ({}, {})
    restore_optimizer(optimizer, {}, {})


def test_an_optimiser_that_keeps_more_than_tensors_and_numbers_is_refused():
    """L-BFGS keeps lists of past gradients."""
    network = nn.Linear(2, 2)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = (network(torch.ones(1, 2)) ** 4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(SegError, match="LBFGS keeps a list") as caught:
        optimizer_state(optimizer)
    assert caught.value.exit_code == 6


def test_a_folder_that_cannot_be_written_is_exit_5(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError) as caught:
        save_state(tmp_path / "file", 1, some(1), {})
    assert caught.value.exit_code == 5


def test_what_an_optimiser_keeps_lies_as_its_parameter():
    weight = torch.nn.Parameter(torch.randn(3, 4, 5, 6).contiguous(memory_format=torch.channels_last))
    before, after = (torch.optim.AdamW([weight]) for _ in range(2))
    weight.grad = torch.randn_like(weight)
    before.step()
    kept = {name: value.contiguous() for name, value in optimizer_state(before)[0].items()}
    restore_optimizer(after, kept, optimizer_state(before)[1])
    assert after.state[weight]["step"] == 1
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(after.state[weight][name], before.state[weight][name])
        assert after.state[weight][name].stride() == weight.stride()
