"""When a recorded pass takes the place of the plain one; who records is a fake here, so no device is needed."""

import pytest
import torch
from attrs import define, field
from torch import nn

from seg import Batch
from seg.graphs import Candidate, faster_pass, obstacle
from seg.phantom import write_phantom
from seg_cli.main import execute

CUDA = torch.device("cuda")
PLAIN_S = 1.0


@define
class Fake:
    """Records `change(the pass)`; the graph takes `graph_s`."""

    graph_s: float = 0.5
    change: object = None
    recovers: object = None
    calls: list = field(factory=list)

    def record(self, candidate):
        self.calls.append("record")
        return candidate.work if self.change is None else self.change(candidate)

    def seconds(self, work):
        work()
        self.calls.append("time")
        return PLAIN_S if self.calls.count("time") == 1 else self.graph_s

    def recover(self):
        self.calls.append("recover")
        if self.recovers:
            raise self.recovers


def make_candidate(bits=32, draws=False):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.0 if not draws else 1e-9), nn.Conv2d(2, 1, 1))

    def work(batch):
        network.zero_grad(set_to_none=True)
        loss = network(batch.image).square().mean()
        loss.backward()
        return torch.stack([loss.detach(), torch.ones(())])

    batch = Batch(image=torch.randn(2, 1, 8, 8), label=torch.zeros(2, 8, 8, dtype=torch.int64))
    return Candidate(work=work, network=network, batch=batch, bits=bits)


def recorded(after):
    """A recording that does what the pass does, and then `after(network, loss)`, which gives the loss."""
    return lambda candidate: lambda batch: after(candidate.network, candidate.work(batch))


def shifted(by, what):
    """A recording whose loss or gradient is off by a part of its size."""
    def after(network, loss):
        for parameter in network.parameters():
            parameter.grad *= 1 + by if what == "gradient" else 1
        return loss * (1 + by if what == "loss" else 1)

    return recorded(after)


def chosen(candidate, recorder, *, forced=False):
    """Whether the recorded pass was taken, and what was said."""
    said = []
    found = faster_pass(candidate, recorder, said.append, forced=forced)
    (line,) = said
    assert line.startswith("CUDA graph: ")
    used = recorder.calls[-1] != "recover"
    assert used or found is candidate.work
    assert recorder.calls.count("recover") == (not used)
    return used, line.removeprefix("CUDA graph: ")


def test_one_that_is_right_and_faster_is_used():
    used, said = chosen(make_candidate(), Fake(graph_s=0.5, change=recorded(lambda network, loss: loss)))
    assert used
    assert said == "used, 2.00 times as fast"


@pytest.mark.parametrize(("graph_s", "wins"), [(0.96, True), (0.98, False), (1.5, False)])
def test_three_percent_are_asked_of_it_unless_it_is_forced(graph_s, wins):
    same = recorded(lambda network, loss: loss)
    used, said = chosen(make_candidate(), Fake(graph_s=graph_s, change=same))
    assert used is wins
    assert f"{1 / graph_s:.2f} times as fast" in said
    assert chosen(make_candidate(), Fake(graph_s=graph_s, change=same), forced=True)[0]


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("bits", "by", "right"), [(32, 1e-6, True), (32, 1e-3, False), (16, 1e-3, True),
                                                   (16, 0.1, False), (32, float("nan"), False)])
def test_one_that_is_wrong_is_not_used_however_fast_it_is_or_forced(what, bits, by, right):
    for forced in (False, True):
        used, said = chosen(make_candidate(bits), Fake(graph_s=0.01, change=shifted(by, what)), forced=forced)
        assert used is right
        assert right or what in said


def test_one_that_leaves_a_parameter_out_is_not_used():
    def after(network, loss):
        network[0].weight.grad = None
        return loss

    used, said = chosen(make_candidate(), Fake(change=recorded(after)))
    assert not used
    assert "other parameters" in said


@pytest.mark.parametrize("error", [
    RuntimeError("CUDA error: operation not permitted when stream is capturing"), torch.OutOfMemoryError("too much"),
    ValueError("anything"), NotImplementedError()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["recording", "replay"])
def test_whatever_it_raises_the_plain_pass_is_there(error, when):
    def fail(*_):
        raise error

    candidate = make_candidate()
    used, said = chosen(candidate, Fake(change=fail if when == "recording" else recorded(fail)))
    assert not used
    assert said.startswith(f"not used: {type(error).__name__}")
    assert all(parameter.grad is None for parameter in candidate.network.parameters())


def test_a_device_that_does_not_answer_afterwards_is_not_passed_over():
    gone = RuntimeError("CUDA error: unspecified launch failure")

    def fail(_):
        raise RuntimeError("capture failed")

    said = []
    with pytest.raises(RuntimeError) as caught:
        faster_pass(make_candidate(), Fake(change=fail, recovers=gone), said.append, forced=False)
    assert caught.value is gone
    assert said == []


def test_neither_weights_nor_random_numbers_are_touched():
    candidate = make_candidate(draws=True)
    weights = [parameter.detach().clone() for parameter in candidate.network.parameters()]
    state = torch.get_rng_state()
    chosen(candidate, Fake(change=recorded(lambda network, loss: loss), graph_s=2.0))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(*pair) for pair in zip(weights, candidate.network.parameters(), strict=True))


def test_what_keeps_a_graph_from_being_tried():
    plain = nn.Conv2d(1, 1, 1)
    assert not obstacle(CUDA, plain, parts=1, ranks=1)
    assert "cpu" in obstacle(torch.device("cpu"), plain, parts=1, ranks=1)
    assert "parts" in obstacle(CUDA, plain, parts=2, ranks=1)
    assert "devices" in obstacle(CUDA, plain, parts=1, ranks=2)
    assert "buffers" in obstacle(CUDA, nn.Sequential(plain, nn.BatchNorm2d(1)), parts=1, ranks=1)


TINY = ["--device", "cpu", "--epochs", "2", "--fold", "0", "--set", "train.steps_per_epoch=3",
        "--set", "architecture.features=4"]  # fmt: skip


class Recording:
    """Stands for the CUDA recorder: its recording does what the pass does, and counts."""

    used = 0

    def __init__(self, device):
        self.timed = 0

    def record(self, candidate):
        def replay(batch):
            type(self).used += 1
            return candidate.work(batch)

        return replay

    def seconds(self, work):
        self.timed += 1
        return 1 / self.timed

    def recover(self):
        raise AssertionError("it was to be used")


def test_a_training_with_a_recorded_pass_ends_with_the_same_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("seg.stages.report.write_report", lambda *_: None)
    write_phantom(tmp_path / "data", cases=5, shape=(16, 20, 18))
    weights = []
    for name in ("plain", "recorded"):
        if name == "recorded":
            monkeypatch.setattr("seg.training.obstacle", lambda *_, **__: "")
            monkeypatch.setattr("seg.training.CudaRecorder", Recording)
        assert execute(["run", str(tmp_path / "data"), "-o", str(tmp_path / name), *TINY]) == 0
        assert ("CUDA graph: used, 2.00 times as fast" in capsys.readouterr().err) is (name == "recorded")
        weights.append((tmp_path / name / "training/3d_fullres/fold_0/weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert Recording.used == 1 + 6  # compared once, then each step


def test_asked_for_where_it_cannot_be_it_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("seg.stages.report.write_report", lambda *_: None)
    write_phantom(tmp_path / "data", cases=5, shape=(16, 20, 18))
    words = [str(tmp_path / "data"), "-o", str(tmp_path / "run"), *TINY, "--set", "train.graph=on"]
    assert execute(["run", *words]) == 0
    assert "CUDA graph: not used: the device is cpu" in capsys.readouterr().err
