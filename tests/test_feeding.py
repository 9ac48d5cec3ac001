"""Batches one step ahead: which, in which order, by whom; what happens when one is wrong or does not come."""

import threading
from contextlib import contextmanager
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
import torch

from seg import Batch, feeding
from seg.feeding import AHEAD, InOrder, NoBatch, SideStream, batches, lane_beside

LONG = 60.0  # a wait that ends at once where nothing is broken


def batch_of(step):
    return Batch(image=torch.full((1, 1, 2, 2), float(step)), label=torch.full((1, 2, 2), step))


def numbers(found):
    return [int(batch.label[0, 0, 0]) for batch in found]


class Maker:
    """Makes batches, and tells of each when it is begun."""

    def __init__(self):
        self.begun, self.threads = SimpleQueue(), set()

    def __call__(self, step):
        self.begun.put(step)
        self.threads.add(threading.current_thread())
        return batch_of(step)


class Hanging(Maker):
    """Comes to a step at which it hangs until it is released."""

    def __init__(self, at):
        super().__init__()
        self.at, self.released, self.done = at, threading.Event(), []

    def __call__(self, step):
        found = super().__call__(step)
        if step == self.at:
            assert self.released.wait(LONG)
        self.done.append(step)
        return found


@pytest.fixture
def hanging():
    makers = []

    def make(at):
        makers.append(Hanging(at))
        return makers[-1]

    yield make
    for maker in makers:
        maker.released.set()
    for thread in threading.enumerate():
        if thread.name == "batches":
            thread.join(LONG)


class Recorder:
    """A stub of a stream: notes what is asked of it, and gives marks that can be told apart."""

    def __init__(self):
        self.calls, self.marks = [], 0

    @contextmanager
    def making(self):
        self.calls.append(("begin", threading.current_thread().name))
        yield
        self.calls.append(("end", threading.current_thread().name))

    def made(self):
        self.marks += 1
        self.calls.append((f"mark {self.marks}", threading.current_thread().name))
        return self.marks

    def take(self, batch, mark):
        self.calls.append((f"take {numbers([batch])[0]} after {mark}", threading.current_thread().name))


def test_without_a_lane_each_is_made_in_between_and_none_in_vain():
    maker = Maker()
    with batches(maker, 3, None) as take:
        assert numbers([take(), take()]) == [3, 4]
    assert maker.threads == {threading.current_thread()}
    assert [maker.begun.get() for _ in range(2)] == [3, 4]
    assert maker.begun.empty()


def test_one_other_thread_makes_the_same_in_the_same_order():
    maker = Maker()
    with batches(maker, 3, InOrder()) as take:
        found = [take() for _ in range(20)]
    assert numbers(found) == list(range(3, 23))
    assert len(maker.threads) == 1
    assert threading.current_thread() not in maker.threads


def test_it_is_one_ahead_and_never_more():
    maker = Maker()
    with batches(maker, 0, InOrder()) as take:
        for step in range(5):
            assert maker.begun.get(timeout=LONG) == step  # before it is asked for
            assert maker.begun.empty()
            take()
        assert maker.begun.get(timeout=LONG) == 5
    assert maker.begun.empty()


def test_the_next_one_is_made_while_this_one_is_worked_on(hanging):
    maker = hanging(at=1)
    with batches(maker, 0, InOrder()) as take:
        take()
        assert [maker.begun.get(timeout=LONG) for _ in range(2)] == [0, 1]  # and we are not held up
        maker.released.set()
        assert numbers([take()]) == [1]


def test_the_network_takes_each_batch_behind_its_own_mark():
    lane = Recorder()
    with batches(batch_of, 7, lane) as take:
        for _ in range(3):
            take()
    making = [what for what, thread in lane.calls if thread == "batches"]
    taking = [what for what, thread in lane.calls if thread != "batches"]
    assert taking == ["take 7 after 1", "take 8 after 2", "take 9 after 3"]
    assert making[:9] == ["begin", "mark 1", "end", "begin", "mark 2", "end", "begin", "mark 3", "end"]


def test_a_mistake_is_told_with_its_place_when_its_batch_is_asked_for():
    def broken(step):
        if step == 1:
            raise ValueError("a bad case")
        return batch_of(step)

    with batches(broken, 0, InOrder()) as take:
        take()
        with pytest.raises(ValueError, match="a bad case") as caught:
            take()
    assert caught.traceback[-1].name == "broken"


def test_a_fault_that_looks_like_a_long_wait_is_the_readers():
    def broken(step):
        raise TimeoutError("of the network")

    with batches(broken, 0, InOrder(), limit_s=LONG) as take, pytest.raises(TimeoutError, match="of the network"):
        take()


def test_a_batch_that_does_not_come_is_waited_for_so_long_and_left(hanging, monkeypatch):
    monkeypatch.setattr(feeding, "CLOSE_S", LONG)
    maker = hanging(at=1)
    with batches(maker, 0, InOrder(), limit_s=0.05) as take:
        take()
        with pytest.raises(NoBatch) as caught:
            take()
    assert caught.value.seconds >= 0.05
    assert maker.done == [0]  # the end did not wait for it
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "batches"] == [True]


def test_a_signal_ends_the_wait(hanging, monkeypatch):
    monkeypatch.setattr(feeding, "POLL_S", 0.01)
    stopped = []
    maker = hanging(at=1)
    with batches(maker, 0, InOrder(), stopped=stopped) as take:
        stopped.append(15)
        assert numbers([take()]) == [0]  # what is there is not given up
        with pytest.raises(NoBatch):
            take()


def test_the_end_waits_for_the_batch_in_the_making(hanging):
    maker = hanging(at=1)
    with batches(maker, 0, InOrder()) as take:
        take()
        assert [maker.begun.get(timeout=LONG) for _ in range(2)] == [0, 1]
        maker.released.set()
    assert maker.done == [0, 1]


def test_the_end_does_not_wait_for_ever(hanging, monkeypatch):
    monkeypatch.setattr(feeding, "CLOSE_S", 0.01)
    maker = hanging(at=0)
    with batches(maker, 0, InOrder()):
        pass
    assert maker.done == []


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_only_cuda_has_streams(device):
    assert lane_beside(torch.device(device)) == InOrder()


class Noting:
    """Notes what it is asked, under its name: for the streams and tensors of a device that is not there."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def __getattr__(self, what):
        return lambda *given: self.calls.append((self.name, what, *given))


def test_the_networks_stream_waits_and_the_allocator_is_told_of_both_tensors(monkeypatch):
    calls = []
    network, side, event = (Noting(name, calls) for name in ("network", "side", "event"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: network)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: event)
    lane = lane_beside(torch.device("cuda:1"))
    mark = lane.made()
    lane.take(Batch(image=Noting("image", calls), label=Noting("label", calls)), mark)
    assert calls == [
        ("side", "wait_stream", network), ("event", "record", side),
        ("event", "record", network), ("network", "wait_event", event),
        ("image", "record_stream", network), ("label", "record_stream", network)]


class Event:
    """Stands for one of CUDA's; notes which are waited for, by the order in which they were recorded."""

    recorded, waited = 0, None  # of all

    def __init__(self, *, blocking):
        assert blocking  # or the wait keeps a core busy

    def record(self, _):
        self.number, Event.recorded = Event.recorded, Event.recorded + 1

    def synchronize(self):
        Event.waited = self.number


def test_the_host_is_few_steps_ahead_of_the_device(monkeypatch):
    """Each batch lies in memory until its step is done."""
    stream = SimpleNamespace(wait_event=lambda _: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "recorded", 0)
    map_ = SimpleNamespace(record_stream=lambda _: None)
    lane = SideStream(device=torch.device("cuda:0"), stream=None)
    for step in range(10):
        lane.take(SimpleNamespace(image=map_, label=map_), None)
        assert Event.waited == (step - AHEAD if step >= AHEAD else None)
        assert len(lane.called) == min(step + 1, AHEAD)
