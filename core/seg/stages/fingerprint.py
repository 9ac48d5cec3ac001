"""The stage that looks at every case once, and keeps what a planner may know."""

from __future__ import annotations

from attrs import evolve

from seg.errors import Exit, Record, SegError
from seg.kinds import Fingerprinter
from seg.models import Dataset, Fingerprint
from seg.progress import Progress, Silent


def make_fingerprint(
    dataset: Dataset, fingerprinter: Fingerprinter, *, source: str = "", progress: Progress | None = None
) -> Fingerprint:
    """The fingerprint of `dataset`, whose files have passed the check.

    Args:
        dataset: the data set.
        fingerprinter: the component that makes it.
        source: digest of what it is made from, kept in it.
        progress: told after each case.

    Raises:
        SegError: there are no cases, or whatever the fingerprinter refuses (exit 3); a fingerprint that does not fit
            the data set (SEG-P05, exit 6).
    """
    progress = progress or Silent()
    if not dataset.cases:
        raise SegError(Record(code="SEG-D13", found="no cases", expected="at least one", file=str(dataset.root)))
    progress.start("fingerprint", len(dataset.cases))
    found = evolve(fingerprinter.fingerprint(dataset, progress), source=source)
    cases, channels = len(dataset.cases), len(dataset.description.channel_names)
    counts = {"cases": (len(found.cases), cases), "shapes": (len(found.shapes), cases),
              "spacings": (len(found.spacings), cases), "intensities": (len(found.intensities), channels)}
    faults = [f"{given} {name}, expected {wanted}" for name, (given, wanted) in counts.items() if given != wanted]
    orientation = dataset.description.orientation
    others = set(found.orientations) - {orientation, "2D"} if orientation else set()
    faults += [f"images of orientation {other}, expected {orientation}" for other in sorted(others)]
    if faults:
        who = f"the fingerprinter {type(fingerprinter).__name__} gave"
        raise SegError([Record(code="SEG-P05", found=f"{who} {fault}") for fault in faults], Exit.PLUGIN)
    return found
