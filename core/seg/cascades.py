"""Which configurations depend on which: a stage of a cascade needs the one before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from seg.models import Configuration


def with_previous_stages(chosen: Iterable[str], configurations: Mapping[str, Configuration]) -> list[str]:
    """`chosen` and the stages before them, each before those that need it, else in the order of `configurations`."""
    asked, found = set(chosen), list[str]()

    def add(name: str) -> None:
        stage = configurations[name].previous_stage
        if stage and stage not in found:
            add(stage)
        if name not in found:
            found.append(name)

    for name in configurations:
        if name in asked:
            add(name)
    return found


def trainings(
    chosen: Sequence[str], folds: Sequence[str], configurations: Mapping[str, Configuration], count: int
) -> dict[str, tuple[str, ...]]:
    """Configuration → folds to train, in the order of training.

    A stage that hands on its predictions is trained on all `count` folds of the data set, so that each case has one of
    a network that did not see it.
    """
    needed = with_previous_stages(chosen, configurations)
    before = {configurations[name].previous_stage for name in needed}
    every = tuple(dict.fromkeys((*map(str, range(count)), *folds)))
    return {name: every if name in before else tuple(folds) for name in needed}
