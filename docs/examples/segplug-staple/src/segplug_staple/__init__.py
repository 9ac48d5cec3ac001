"""Every configuration that is nearly as good as the best.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_ensemblers() -> Iterable[Offer]:
    """Offer staple."""
    yield Offer("staple", "segplug_staple.ensembler:Staple",
                "Every configuration that is nearly as good as the best.")
