"""The median spacing and the largest patch up to a limit.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_planners() -> Iterable[Offer]:
    """Offer fixed."""
    yield Offer("fixed", "segplug_fixed.planner:Fixed",
                "The median spacing and the largest patch up to a limit.")
