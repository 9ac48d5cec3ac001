"""Ensembles by STAPLE.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_ensemblers() -> Iterable[Offer]:
    """Offer STAPLE."""
    yield Offer("staple", "segplug_staple.ensembler:Staple",
                "Where networks disagree, those that proved reliable decide (STAPLE, Warfield et al. 2004).")
