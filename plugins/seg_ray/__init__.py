"""Trainings as tasks of a Ray cluster; its extra is `ray`."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_executors() -> Iterable[Offer]:
    """Offer Ray."""
    yield Offer("ray", "seg_ray.executor:RayExecutor", "Each training a task of a Ray cluster.")
