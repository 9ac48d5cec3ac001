import contextlib

import pytest
import torch

from seg import SegError, device
from seg.device import (
    autocast,
    choose_device,
    choose_devices,
    describe_device,
    has_bfloat16,
    is_device_failure,
    is_out_of_memory,
    return_freed_memory,
    total_memory,
    training_arithmetic,
    unfuse_where_needed,
)


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


def accelerator_error(text):
    return getattr(torch, "AcceleratorError", RuntimeError)(text)


@pytest.mark.parametrize(("error", "memory", "device"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True, False),
    (MemoryError(), True, False),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), True, False),
    (accelerator_error("CUDA error: out of memory"), True, False),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
    (accelerator_error("CUDA error: unspecified launch failure"), False, True),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), False, True),
    (RuntimeError("CUDA error: device-side assert triggered"), False, True),
    (RuntimeError("No CUDA GPUs are available: no CUDA-capable device is detected"), False, True),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
    (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False, False),
    (ValueError("CUDA error in a file name"), False, False),
    (SegError([]), False, False),
], ids=lambda value: str(value)[:40])
def test_what_an_error_says_of_memory_and_device(error, memory, device):
    assert is_out_of_memory(error) is memory
    assert is_device_failure(error) is device


def test_cudnn_is_tuned_while_a_training_lasts_on_cuda_alone():
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    with training_arithmetic(torch.device("cpu")):
        assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == before
    with contextlib.suppress(ValueError), training_arithmetic(torch.device("cuda")):
        assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == (True, "high")
        raise ValueError("also where it is left so")
    assert (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()) == before


def test_memory_of_what_shares_the_machines_is_not_known():
    assert total_memory(torch.device("cpu")) == 0


@pytest.mark.parametrize(("change", "fits"), [
    (lambda network: network, True),
    (lambda network: network.to(memory_format=torch.channels_last), True),
    (lambda network: setattr(network[0].weight, "grad", None), True),
    (lambda network: setattr(network[0].weight, "grad", network[0].weight.grad.to(memory_format=torch.channels_last)),
     False),
    (lambda network: setattr(network[0].weight, "data", network[0].weight.data.transpose(2, 3)), False),
], ids=["plain", "channels last", "no gradient", "another layout", "turned"])  # fmt: skip
def test_a_fused_optimiser_is_left_where_it_would_refuse(change, fits):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Conv2d(4, 1, 1))
    if fits:
        change(network)
    network(torch.ones(1, 3, 5, 5)).sum().backward()
    if not fits:
        change(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    unfuse_where_needed(optimizer)
    assert optimizer.param_groups[0]["fused"] is (True if fits else None)
    optimizer.step()


def test_freed_memory_can_be_returned_anywhere(monkeypatch):
    return_freed_memory()

    def none(_):
        raise OSError("no C library")

    monkeypatch.setattr("ctypes.CDLL", none)
    return_freed_memory()
