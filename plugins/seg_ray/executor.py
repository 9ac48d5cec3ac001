"""Each training a task of a Ray cluster, which runs its command as a process: nothing of ours is pickled but words.

The run itself waits where it was started. The folder of the run, the data and this installation must be seen by the
nodes under the same paths.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from attrs import frozen

from seg import Exit, Progress, Record, SegError, TrainingJob, option
from seg_ray._command import run_command

AUTO = "auto"
LOST = -9  # the exit code of a task of which no result came back, as if it had been killed
OBJECTS = 100_000_000  # bytes of shared memory for what tasks exchange, which is nothing; Ray would take 30 %


@frozen(kw_only=True)
class RayExecutor:
    """All trainings are handed over at once; Ray begins each where cores and GPUs are free for it."""

    address: str = option("", "the running cluster: auto, or where it is; empty: what RAY_ADDRESS says, else one that "
                          "is started on this machine and ends with the run")
    gpus: float = option(1.0, "GPUs of a training, or a part of one; a training on the CPU gets none", ge=0)
    cpus: int = option(1, "processor cores of a training", ge=1)

    def training_device(self, asked: str) -> str:
        """The device of trainings, as `seg.RemoteExecutor` says; of a cluster on this machine it is this machine's."""
        if asked != AUTO:
            return asked
        if not self.gpus:
            return "cpu"
        return "cuda" if self._running() else AUTO

    def run(self, jobs: Sequence[TrainingJob], work: Callable[[TrainingJob], None], progress: Progress) -> None:  # noqa: ARG002
        """Do every job, as `seg.Executor` says."""
        if not find_spec("ray"):
            raise SegError(Record(code="SEG-P04", found="the package ray is not installed",
                                  advice="pip install 'segplug[ray]'"), Exit.PLUGIN)
        from seg import supervise

        with self._cluster() as ray:
            self._compare(ray.cluster_resources(), max(map(self._gpus, jobs), default=0.0), progress)
            supervise(jobs, lambda job, _: _Task(ray, job, self.cpus, self._gpus(job)), progress, limit=len(jobs))

    def _running(self) -> str:
        """The address of a cluster that is there already; empty: there shall be one for this run."""
        return self.address or os.environ.get("RAY_ADDRESS", "")

    def _gpus(self, job: TrainingJob) -> float:
        name = job.device
        if name == AUTO:
            import torch

            name = "cuda" if torch.cuda.is_available() else "cpu"
        return self.gpus if name.startswith("cuda") else 0.0

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Ray, connected; what was started for it ends with the block."""
        import ray

        if ray.is_initialized():  # by the program that calls `seg.run`, whose business it stays
            yield ray
            return
        # in /tmp whatever TMPDIR says: Ray's sockets lie in it, and the system allows 107 characters for their path
        with TemporaryDirectory(prefix="seg-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
            try:
                self._connect(ray, folder)
                yield ray
            finally:
                ray.shutdown()

    def _connect(self, ray: Any, folder: str) -> None:
        where = self._running()
        words: dict[str, Any] = {"address": where} if where else {
            "address": "local", "include_dashboard": False, "object_store_memory": OBJECTS, "_temp_dir": folder}
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**words, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            place = f"at {where}" if where else "on this machine"
            raise SegError(Record(code="SEG-R08", found=f"no Ray cluster {place}: {_first_line(error)}",
                                  advice="`ray status` tells what is there; --set executor.address=… names another "
                                  "one."), Exit.RESOURCES) from error
        finally:
            if before and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray ends the process at it, without a word to anybody

    def _compare(self, there: dict[str, float], gpus: float, progress: Progress) -> None:
        """Refuse what a cluster of this machine will never have; other clusters may grow."""
        cores, devices = there.get("CPU", 0.0), there.get("GPU", 0.0)
        progress.say(f"ray: of {cores:g} CPU and {devices:g} GPU each training gets {self.cpus} CPU and {gpus:g} GPU")
        if self.cpus <= cores and gpus <= devices:
            return
        if not self._running():
            raise SegError(Record(code="SEG-R08", found=f"Ray finds {cores:g} CPU and {devices:g} GPU in this machine",
                                  expected=f"{self.cpus} CPU and {gpus:g} GPU for each training",
                                  advice="Ask for less: executor.cpus, executor.gpus, --device cpu."), Exit.RESOURCES)
        progress.say("ray: the trainings wait until the cluster has that")


class _Task:
    """A job in Ray's hands, as `seg.supervise` looks at processes."""

    def __init__(self, ray: Any, job: TrainingJob, cpus: int, gpus: float) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._ray, self._log = ray, job.log
        task = ray.remote(run_command).options(name=f"seg {job.name}", num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self._result = task.remote(job.command, str(job.log))

    def poll(self) -> int | None:
        """The exit code of the command once the task has ended."""
        try:
            done, _ = self._ray.wait([self._result], timeout=0)
            return int(self._ray.get(self._result)) if done else None
        except Exception as error:  # noqa: BLE001 - Ray has many ways to say that no result came
            raised = getattr(error, "cause", None)  # by the task itself, while its worker lives
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"{_first_line(raised or error)}\n")
            return int(Exit.RESOURCES) if raised else LOST

    def terminate(self) -> None:
        """Cancel the task, which tells its command to save its state."""
        self._ray.cancel(self._result)

    def kill(self) -> None:
        """End the worker, and with it the command."""
        self._ray.cancel(self._result, force=True)


def _first_line(error: BaseException) -> str:
    words = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {words[0]}"
