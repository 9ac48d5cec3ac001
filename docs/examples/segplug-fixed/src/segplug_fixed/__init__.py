"""A planner that does as it is told.

This module is imported whenever `seg` looks for plugins: nothing heavy at top.
"""

from collections.abc import Iterable

from seg import Offer, hookimpl


@hookimpl
def seg_planners() -> Iterable[Offer]:
    """Offer the fixed plan."""
    yield Offer("fixed", "segplug_fixed.planner:Fixed", "Spacing, patch and batch as the user says.")
