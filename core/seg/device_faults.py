"""What is said where a device has too little memory for a training, or fails in one; nothing is asked of it then."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from seg.checkpoint import newest_state
from seg.device import is_device_failure, is_out_of_memory
from seg.errors import Exit, Record, SegError, tell


@contextmanager
def told(folder: Path, device: str, where: Callable[[], str]) -> Iterator[None]:
    """Tell of a device that fails or has too little memory meanwhile; `where` says at what, in a training in `folder`.

    Raises:
        SegError: it did (exit 5); the record names the last state in `folder` that is whole.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise SegError(_too_small(folder, device, where(), error), Exit.RESOURCES) from error
        if is_device_failure(error):
            raise device_failed(error, f"{device} failed {where()}", _going_on(folder), str(folder)) from error
        raise


def device_failed(error: BaseException, found: str, going_on: str, file: str | None = None) -> SegError:
    """The refusal to go on with a device that failed (SEG-R11); `going_on` says what is kept and how to go on."""
    return SegError(Record(
        code="SEG-R11", found=f"{found}: {_said(error)}", file=file, advice=f"{going_on} If it fails at the same place "
        "again, look for its faults (`nvidia-smi`, `dmesg`), or take another one with --device."), Exit.RESOURCES)


def less_memory(device: str, target: str = "…") -> str:
    """What to do where a plan is too large for a device; `target`: the GB to plan for."""
    elsewhere = "" if device == "cpu" else " Or take --device cpu."
    return (f"In another folder (-o), plan for less, with --set planner.vram_gb={target}, or for a smaller network, "
            f"with --set architecture.features=16 or another --arch.{elsewhere}")


def let_go(error: BaseException) -> None:
    """Drop what the frames of an error hold, networks and cases, so that their memory serves what is done next."""
    one: BaseException | None = error
    seen = set[BaseException]()
    while one is not None and one not in seen:
        seen.add(one)
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # a device that failed has nothing to give back
            torch.cuda.empty_cache()


def _too_small(folder: Path, device: str, where: str, error: BaseException) -> Record:
    free = "other programs" if device == "cpu" else "what else uses the device (`nvidia-smi` shows it)"
    return Record(code="SEG-R09", found=f"{device} has too little memory {where}: {_said(error)}", file=str(folder),
                  advice=f"Close {free}: {_going_on(folder, small=True)} {less_memory(device)}")


def _said(error: BaseException) -> str:
    return tell(error).rstrip(".")


def _going_on(folder: Path, *, small: bool = False) -> str:
    state, done = newest_state(folder), (folder / "done.json").exists()
    again = "the same command goes on" if small else "The same command goes on"
    if done:
        return f"{again} with what is not validated yet."
    if state is None:
        return f"{again} from the beginning, for no state was saved yet."
    return f"{again} after step {int(state.stem.split('_')[1])}, whose state is whole ({state.name})."
