"""One training on several devices of this machine: a process (rank) for each, which works on its share of every batch.

Each makes the whole batch out of the same random numbers and takes its samples, so augmentation knows nothing of ranks;
making batches is therefore not shared out. Gradients are added up once a step, and every rank takes the same step.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from seg.executing import POLL_S, Running, end, failure
from seg.kinds import Batch
from seg.training_kinds import TrainingJob


@frozen(kw_only=True)
class Ranks:
    """Which of how many processes of a training this one is; the first one leads: it saves and tells."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one saves and tells."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This rank's samples of a batch; shares differ by one sample at most."""
        if self.count == 1:
            return batch
        return Batch(image=batch.image.tensor_split(self.count)[self.rank],
                     label=batch.label.tensor_split(self.count)[self.rank])

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes the sum over all ranks, to the bit the same in all of them."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def agree(self, seconds: float, stop: int) -> tuple[float, int]:
        """The leading rank's time, and the number of a signal that came to any rank (0: none)."""
        if self.count == 1:
            return seconds, stop
        said = torch.tensor([seconds if self.leads else 0.0, stop], dtype=torch.float64)
        torch.distributed.all_reduce(said, op=torch.distributed.ReduceOp.MAX)
        return float(said[0]), int(said[1])


@contextmanager
def meeting(ranks: Ranks, place: Path, device: torch.device) -> Iterator[None]:
    """Join the other ranks at the file `place`, and leave them at the end."""
    import_module("torch._dynamo")  # optimisers do: imported while there is a group it keeps that, with its threads
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    place.with_suffix(f".{ranks.rank}").touch()  # for `_all_there`
    torch.distributed.init_process_group(backend, init_method=place.resolve().as_uri(), rank=ranks.rank,
                                         world_size=ranks.count)
    try:
        yield
    finally:
        _leave()


def _leave() -> None:
    """End the group, and its threads with it: those that are left behind may abort the process."""
    torch.distributed.destroy_process_group()
    gc.collect()


@contextmanager
def leading(
    job: TrainingJob, devices: Sequence[torch.device], lifeline: int, environment: dict[str, str]
) -> Iterator[Ranks]:
    """Start the other ranks, and lead them; without others nothing happens.

    Args:
        job: whose command, with rank and device behind it, is another rank.
        devices: one for each rank, the first one for this process.
        lifeline: standard input of the others, which ends with this process.
        environment: of the others.

    Raises:
        SegError: another rank failed (SEG-T02), which ends all of them.
    """
    ranks = Ranks(count=len(devices))
    with tempfile.TemporaryDirectory() as folder:
        place, others = Path(folder) / "meeting", list[Running]()
        try:
            for rank, device in enumerate(devices[1:], 1):
                others.append(_start(job, (rank, ranks.count, str(device), str(place)), lifeline, environment))
            _all_there(others, place)
            with meeting(ranks, place, devices[0]):
                yield ranks
        except RuntimeError as error:  # so it is told here that another rank is gone
            if type(error).__name__ != "OutOfMemoryError":
                _tell_of_failed(others, error)
            raise
        finally:
            _wait(others)


def _start(job: TrainingJob, words: Sequence[Any], lifeline: int, environment: dict[str, str]) -> Running:
    rank, count, device, place = words
    log = job.log.with_name(f"rank_{rank}.txt")
    own = TrainingJob(configuration=job.configuration, fold=f"{job.fold} rank {rank}", command=(
        *job.command, "--device", device, "--rank", f"{rank}/{count}", "--meet", place, "--with-parent"), log=log)
    with log.open("ab") as stream:
        size = stream.tell()
        process = subprocess.Popen(own.command, stdin=lifeline, stdout=stream, stderr=subprocess.STDOUT,  # noqa: S603
                                   env=environment, start_new_session=True)
    return Running(own, process, size, size)


def _all_there(others: Sequence[Running], place: Path) -> None:
    """Wait for the others, as long as none of them has ended, with whatever code."""
    while not all(place.with_suffix(f".{rank}").exists() for rank in range(1, len(others) + 1)):
        time.sleep(POLL_S)
        for one in others:
            if (code := one.process.poll()) is not None:
                raise failure(one, code)


def _tell_of_failed(others: Sequence[Running], error: BaseException) -> None:
    """Raise what the first rank that failed died of, if one did."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        for one in others:
            if (code := one.process.poll()) and code not in (130, 143):
                raise failure(one, code) from error
        time.sleep(POLL_S)


def _wait(others: Sequence[Running]) -> None:
    """The others end by themselves when this one does; those that do not are ended."""
    until = time.monotonic() + (10 if sys.exc_info()[0] else 60)
    with suppress(KeyboardInterrupt):
        while any(one.process.poll() is None for one in others) and time.monotonic() < until:
            time.sleep(POLL_S)
    end([one.process for one in others if one.process.poll() is None])
