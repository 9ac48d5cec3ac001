"""Where trainings run: in this process, or side by side in processes of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence

from attrs import frozen

from seg import Progress, SegError, TrainingJob, option, usage_error

STALLED = "SEG-R10"  # a read of this process hangs, and the next training would wait for its end


@frozen(kw_only=True)
class LocalExecutor:
    """One after the other, in the process of the run. One that is refused is told at the end."""

    def run(self, jobs: Sequence[TrainingJob], work: Callable[[TrainingJob], None], progress: Progress) -> None:
        """Do every job, as `seg.Executor` says."""
        refused: list[SegError] = []
        for job in jobs:
            try:
                work(job)
            except SegError as error:
                progress.say(f"{job.name}: {error}")
                refused.append(error)
                if any(record.code == STALLED for record in error.records):
                    break
        if refused:
            records = dict.fromkeys(record for error in refused for record in error.records)
            raise SegError(list(records), refused[0].exit_code)


@frozen(kw_only=True)
class DevicesExecutor:
    """Side by side in processes of their own, one for each device at a time; they share the processor's cores."""

    devices: tuple[str, ...] = option(("auto",), "what trains at the same time: cuda:0,cuda:1, or cpu,cpu; auto: every "
                                      "CUDA device, else the CPU")

    def run(self, jobs: Sequence[TrainingJob], work: Callable[[TrainingJob], None], progress: Progress) -> None:  # noqa: ARG002
        """Do every job, as `seg.Executor` says."""
        import torch

        from seg import lifeline, supervise

        names = self._names()
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // len(names)))}
        with lifeline() as line:

            def start(job: TrainingJob, slot: int) -> subprocess.Popen[bytes]:
                job.log.parent.mkdir(parents=True, exist_ok=True)
                with job.log.open("ab") as log:
                    return subprocess.Popen(  # noqa: S603 - our own command
                        [*job.command, "--device", names[slot], "--with-parent"], stdin=line, stdout=log,
                        stderr=subprocess.STDOUT, env=environment, start_new_session=True)  # Ctrl-C is ours to pass on

            supervise(jobs, start, progress, limit=len(names))

    def _names(self) -> tuple[str, ...]:
        if not self.devices:
            raise usage_error("executor.devices without a device", expected="auto, or names such as cuda:0,cuda:1")
        if self.devices != ("auto",):
            return self.devices
        import torch

        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)
