import pytest
import torch

from seg import SegError, device
from seg.device import autocast, choose_device, choose_devices, describe_device, has_bfloat16, return_freed_memory


def test_the_cpu_is_always_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    assert "threads" in describe_device(torch.device("cpu"))


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu,cuda"])
def test_what_is_no_device_is_exit_2(name):
    with pytest.raises(SegError) as caught:
        choose_device(name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps", "xpu"])
def test_a_device_that_is_not_in_this_machine_is_exit_5(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    if name in ("mps", "xpu") and getattr(torch, name).is_available():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(SegError, match="no device") as caught:
        choose_device(name)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(("flags", "expected"), [
    ({"avx512_bf16", "sse"}, True), ({"amx_bf16"}, True), ({"avx512f"}, False), (set(), False),
])  # fmt: skip
def test_bfloat16_where_the_processor_has_it(monkeypatch, flags, expected):
    monkeypatch.setattr(device, "_cpu_flags", lambda: flags)
    cpu = torch.device("cpu")
    assert has_bfloat16(cpu) is expected
    assert not has_bfloat16(torch.device("meta"))
    for mode, wanted in (("on", True), ("off", False), ("auto", expected)):
        with autocast(cpu, mode):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert (product.dtype == torch.bfloat16) is wanted


def test_several_devices_stand_with_commas_between():
    assert [str(one) for one in choose_devices("cpu, cpu")] == ["cpu", "cpu"]
    with pytest.raises(SegError, match="no device is called 'gpu'"):
        choose_devices("cpu,gpu")


def test_freed_memory_can_be_returned_anywhere(monkeypatch):
    return_freed_memory()

    def none(_):
        raise OSError("no C library")

    monkeypatch.setattr("ctypes.CDLL", none)
    return_freed_memory()
