"""Trainings as jobs of a Slurm cluster, by submitit; its extra is `slurm`."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_executors() -> Iterable[Offer]:
    """Offer Slurm."""
    yield Offer("slurm", "seg_slurm.executor:SlurmExecutor", "Each training a job of a Slurm cluster.")
