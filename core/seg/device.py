"""The device a run computes on, and the arithmetic it has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from seg.errors import Exit, Record, SegError

NO_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED",
             "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory")
"""What torch says where the memory is too small, but raises no error of its own for it."""
FAILED = ("CUDA error", "HIP error", "unspecified launch failure", "device-side assert", "uncorrectable ECC",
          "no CUDA-capable device", "CUDNN_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_EXECUTION_FAILED")
"""What torch says of a device that failed; from 2.8 on it mostly raises `torch.AcceleratorError`."""


def choose_devices(name: str) -> tuple[torch.device, ...]:
    """The devices of a training: names with commas between, as `cuda:0,cuda:1`; the first one does all else.

    Raises:
        SegError: as `choose_device`.
    """
    return tuple(choose_device(part.strip()) for part in name.split(","))


def choose_device(name: str) -> torch.device:
    """The torch device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        SegError: no such device (exit 2), or none in this machine (exit 5).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = _named(name)
    if not _is_there(device):
        raise SegError(Record(code="SEG-R03", found=f"there is no device {name!r} in this machine",
                              expected=f"cpu, or one of {torch.cuda.device_count()} CUDA devices",
                              advice="Use --device cpu, or leave it out."), Exit.RESOURCES)
    return device


def named_devices(names: str) -> tuple[torch.device, ...]:
    """The torch devices of names with commas between, which may be in another machine.

    Raises:
        SegError: no device is called so (exit 2).
    """
    return tuple(_named(part.strip()) for part in names.split(","))


def _named(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        record = Record(code="SEG-C06", found=f"no device is called {name!r}", expected="auto, cpu, cuda, cuda:1 …")
        raise SegError(record, Exit.USAGE) from None


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch was built without it
        return False
    return True


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        return any("avx512_bf16" in flag or "amx" in flag for flag in _cpu_flags())
    return False


def is_16_bit(device: torch.device, mode: str) -> bool:
    """Whether `mode` (on, off, auto) means 16-bit arithmetic; `auto` does where the device has bfloat16."""
    return mode == "on" or (mode == "auto" and has_bfloat16(device))


def autocast(device: torch.device, mode: str, *, cache: bool = True) -> AbstractContextManager[Any]:
    """16-bit arithmetic as `mode` (on, off, auto) says; `auto` is on where the device has bfloat16.

    Without `cache` weights are rounded wherever they are used, and not once for all uses.
    """
    if is_16_bit(device, mode):
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=cache)
    return nullcontext()


@contextmanager
def training_arithmetic(device: torch.device) -> Iterator[None]:
    """Meanwhile cuDNN tries which of its algorithms is the fastest for each shape, and float32 products are TF32.

    On CUDA alone. Convolutions in float32 are TF32 anyway, unless somebody told torch otherwise. Not for longer than a
    training: resampling is a matrix product too, and there TF32 would be seen.
    """
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings")  # torch 2.9, once, of what 2.13 keeps
        before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])


def unfuse_where_needed(optimizer: torch.optim.Optimizer) -> None:
    """Leave torch's fused optimisers for groups of parameters that they refuse: those laid out unlike their gradients.

    To be called once, with the first gradients there (ATen/native/ForeachUtils.h says what fits).
    """
    for group in optimizer.param_groups:
        if group.get("fused") and not all(one.grad is None or _alike(one, one.grad) for one in group["params"]):
            group["fused"] = None  # torch's own choice


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    layouts = [torch.contiguous_format, *{4: [torch.channels_last], 5: [torch.channels_last_3d]}.get(one.dim(), [])]
    dense = any(one.is_contiguous(memory_format=layout) for layout in layouts)
    strides = zip(one.shape, one.stride(), other.stride(), strict=True)
    return dense and one.dtype == other.dtype and all(size == 1 or a == b for size, a, b in strides)


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    from pathlib import Path

    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 4 << 30
    row = next((line for line in text.splitlines() if line.startswith("MemAvailable")), "MemAvailable: 4194304 kB")
    return int(row.split()[1]) * 1024


def total_memory(device: torch.device) -> int:
    """Bytes that a CUDA device has in all; 0 where that cannot be asked: for other devices, and without CUDA."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.mem_get_info(device)[1])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a device is too small."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY))


def is_device_failure(error: BaseException) -> bool:
    """Whether an error says that the device itself failed or is gone, so that nothing more can be computed on it.

    What it held is lost, and in this process CUDA mostly stays unusable. Too little memory is no such failure.
    """
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    kind = getattr(torch, "AcceleratorError", ())  # from torch 2.8 on
    return isinstance(error, kind) or any(text in str(error) for text in FAILED)


def keep_freed_memory() -> None:
    """Have the C library keep what tensors free for the next ones, where it can be told so (glibc).

    Otherwise every feature map comes as fresh pages from the system, which takes a tenth of a training's time.
    """
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    set_option(mmap_threshold, 32 << 20)
    set_option(trim_threshold, 512 << 20)


def return_freed_memory() -> None:
    """Have the C library give the system back what was freed, of all threads, where it can be told so (glibc).

    Between two parts of a work whose arrays have other sizes: what one frees is no use to the next.
    """
    import ctypes

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def _cpu_flags() -> set[str]:
    """What the processor can do, by Linux's names; nothing elsewhere."""
    from pathlib import Path

    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
