"""States written beside the training: each is that of its step, one at a time, and faults are told."""

import threading

import pytest
import torch

from seg import SegError, saving
from seg.checkpoint import load_state, newest_state, save_state
from seg.saving import Saver

LONG = 60.0  # a wait that ends at once where nothing is broken


@pytest.fixture
def disk(monkeypatch):
    """A disk that writes only when it is told to go on."""
    goes_on, threads = threading.Event(), []

    def slow(*state):
        threads.append(threading.current_thread())
        assert goes_on.wait(LONG)
        return save_state(*state)

    monkeypatch.setattr(saving, "save_state", slow)
    goes_on.threads = threads
    yield goes_on
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "states":
            thread.join(LONG)


def saved(folder):
    tensors, numbers = load_state(newest_state(folder))
    return tensors["a"].tolist(), numbers["step"]


def save(saver, step, **how):
    tensor = torch.full((3,), float(step))
    saver.save(step, {"a": tensor}, {"step": step}, **how)
    return tensor


def fail_after(folder, step):
    """A training that fails while its state is written."""
    with Saver(folder) as saver:
        save(saver, step, aside=True)
        raise ValueError("mine")


def test_it_is_on_the_disk_when_save_returns(tmp_path):
    save(Saver(tmp_path), 4)
    assert saved(tmp_path) == ([4.0] * 3, 4)


def test_aside_it_is_the_state_of_its_step_whatever_comes_after(tmp_path, disk):
    with Saver(tmp_path) as saver:
        tensor = save(saver, 4, aside=True)
        tensor.zero_()  # the training goes on
        assert newest_state(tmp_path) is None
        assert not saver.wait(0)
        disk.set()
    assert saved(tmp_path) == ([4.0] * 3, 4)
    assert threading.current_thread() not in disk.threads


@pytest.mark.parametrize("aside", [False, True])
def test_the_next_save_waits_for_the_one_before(tmp_path, disk, aside):
    with Saver(tmp_path) as saver:
        save(saver, 4, aside=True)
        release = threading.Timer(0.05, disk.set)
        release.start()
        save(saver, 5, aside=aside)
        assert len(list(tmp_path.glob("state_00000004_*"))) == 1
    assert saved(tmp_path) == ([5.0] * 3, 5)
    release.join()


def test_while_one_is_written_none_is_due(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(saving, "SAVE_SHARE", 1e9)  # so that it is otherwise
    with Saver(tmp_path) as saver:
        assert saver.due
        save(saver, 4, aside=True)
        assert not saver.due
        disk.set()
        assert saver.wait(LONG)
        assert saver.due


def test_a_young_one_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "SAVE_SHARE", 1e-9)
    with Saver(tmp_path) as saver:
        save(saver, 4)
        assert not saver.due


@pytest.fixture
def full(tmp_path):
    """A folder that cannot be written."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file"


def test_a_fault_of_the_disk_comes_out_once_at_the_next_save(full):
    saver = Saver(full)
    save(saver, 4, aside=True)
    with pytest.raises(SegError) as caught:
        save(saver, 5, aside=True)
    assert (caught.value.exit_code, caught.value.records[0].code) == (5, "SEG-R01")
    assert saver.wait(LONG)


def test_a_fault_of_the_disk_comes_out_at_the_end(full):
    with pytest.raises(SegError, match="SEG-R01"), Saver(full) as saver:
        save(saver, 4, aside=True)


def test_what_ended_the_training_counts_more_than_the_disk(full):
    with pytest.raises(ValueError, match="mine"):
        fail_after(full, 4)


def test_an_error_waits_for_what_is_written_but_not_for_ever(tmp_path, disk, monkeypatch):
    disk.set()
    with pytest.raises(ValueError, match="mine"):
        fail_after(tmp_path, 4)
    assert saved(tmp_path)[1] == 4
    disk.clear()
    monkeypatch.setattr(saving, "LAST_S", 0.0)
    with pytest.raises(ValueError, match="mine"):
        fail_after(tmp_path, 5)
    assert saved(tmp_path)[1] == 4


def test_tied_and_strided_tensors_are_saved_as_they_are(tmp_path):
    one = torch.arange(6.0).view(2, 3)
    with Saver(tmp_path) as saver:
        saver.save(1, {"a": one, "b": one.t()}, {}, aside=True)
    tensors, _ = load_state(newest_state(tmp_path))
    assert torch.equal(tensors["a"], one)
    assert torch.equal(tensors["b"], one.t())
