"""The plainest component of some kinds: useful as they are, and as a control in comparisons."""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_samplers() -> Iterable[Offer]:
    """Offer uniform sampling."""
    yield Offer("uniform", "seg_basic.uniform:UniformSampler", "Cases and places uniformly, no foreground forced.")


@hookimpl
def seg_augmenters() -> Iterable[Offer]:
    """Offer plain patches."""
    yield Offer("none", "seg_basic.plain:NoAugmenter", "Patches as they are.")


@hookimpl
def seg_ensemblers() -> Iterable[Offer]:
    """Offer the mean of all candidates, and no ensemble at all."""
    yield Offer("mean", "seg_basic.ensemblers:MeanEnsembler", "The mean of all candidates.")
    yield Offer("none", "seg_basic.ensemblers:NoEnsembler", "The single best candidate.")


@hookimpl
def seg_postprocessors() -> Iterable[Offer]:
    """Offer no post-processing."""
    yield Offer("none", "seg_basic.postprocessor:NoPostprocessor", "Predictions as they are.")


@hookimpl
def seg_recipes() -> Iterable[Offer]:
    """Offer a recipe for little time."""
    yield Offer("budget", "seg_basic.budget:BudgetRecipe", "AdamW, one cycle, averaged weights, for short trainings.")


@hookimpl
def seg_executors() -> Iterable[Offer]:
    """Offer trainings in this process, and side by side on several devices."""
    yield Offer("local", "seg_basic.executors:LocalExecutor", "One after the other, in the process of the run.")
    yield Offer("devices", "seg_basic.executors:DevicesExecutor", "Side by side, a process for each device.")
