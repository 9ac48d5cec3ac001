"""Each training a job of a Slurm cluster: submitit writes the batch script, submits it and asks how the job is.

The run itself waits where it was started. The folder of the run, the data and this installation must be seen by the
nodes under the same paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from attrs import frozen

from seg import Exit, Progress, Record, SegError, TrainingJob, option
from seg_slurm._command import Command

LOST = -9  # the exit code of a job of which no result came back, as if it had been killed


@frozen(kw_only=True)
class SlurmExecutor:
    """All trainings are submitted at once; Slurm decides when each runs. A job that is out of time is queued again."""

    partition: str = option("", "the partition; empty: the cluster's own")
    account: str = option("", "the account; empty: the user's own")
    hours: float = option(24.0, "time of one job; one that needs more goes on in another", ge=0.05)
    gpus: int = option(1, "GPUs of a job; one on the CPU gets none", ge=0)
    cpus: int = option(8, "processor cores of a job", ge=1)
    memory_gb: float = option(32.0, "memory of a job", ge=1)
    cluster: str = option("slurm", "local: the same jobs as processes of this machine, to try it",
                          choices=("slurm", "local"))

    def training_device(self, asked: str) -> str:
        """The device of trainings, as `seg.RemoteExecutor` says."""
        if asked != "auto" or self.cluster == "local":
            return asked
        return "cuda" if self.gpus else "cpu"

    def run(self, jobs: Sequence[TrainingJob], work: Callable[[TrainingJob], None], progress: Progress) -> None:  # noqa: ARG002
        """Do every job, as `seg.Executor` says."""
        if not find_spec("submitit"):
            raise SegError(Record(code="SEG-P04", found="the package submitit is not installed",
                                  advice="pip install 'segplug[slurm]'"), Exit.PLUGIN)
        from seg import supervise

        supervise(jobs, lambda job, _: _Submitted(self._cluster(job), job), progress, limit=len(jobs))

    def _cluster(self, job: TrainingJob) -> Any:
        """Submitit's executor, whose files lie beside the log."""
        import submitit

        try:
            found = submitit.AutoExecutor(folder=job.log.parent / "slurm", cluster=self.cluster)
        except RuntimeError as error:
            raise SegError(Record(code="SEG-R08", found=f"no jobs can be submitted here: {error}",
                                  expected="a machine of the cluster, with sbatch"), Exit.RESOURCES) from error
        gpus = 0 if job.device == "cpu" else self.gpus
        chosen = {"slurm_partition": self.partition, "slurm_account": self.account}
        found.update_parameters(name="seg", timeout_min=round(60 * self.hours), gpus_per_node=gpus,
                                cpus_per_task=self.cpus, mem_gb=self.memory_gb,
                                **{name: value for name, value in chosen.items() if value})
        return found


class _Submitted:
    """A job in Slurm's hands, as `seg.supervise` looks at processes."""

    def __init__(self, cluster: Any, job: TrainingJob) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._job, self._log = cluster.submit(Command(job.command, str(job.log))), job.log

    def poll(self) -> int | None:
        """The exit code of the command once the job has ended."""
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception:  # noqa: BLE001 - submitit has several ways to say that no result came
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"job {self._job.job_id}: {self._job.state}, see {self._job.paths.stderr}\n")
            return LOST

    def terminate(self) -> None:
        """Cancel the job: Slurm sends SIGTERM, and waits for a while."""
        self._job.cancel()

    def kill(self) -> None:
        """Slurm does that by itself."""
        self._job.cancel()
