"""The stage that looks at every case once, and keeps what a planner may know."""

from __future__ import annotations

from attrs import evolve

from seg.contracts import blamed, expect, unnamed
from seg.errors import Exit, Record, SegError
from seg.kinds import Fingerprinter
from seg.models import ComponentUse, Dataset, Fingerprint
from seg.progress import Progress, Silent


def make_fingerprint(
    dataset: Dataset, fingerprinter: Fingerprinter, *, source: str = "", progress: Progress | None = None,
    use: ComponentUse | None = None,
) -> Fingerprint:  # fmt: skip
    """The fingerprint of `dataset`, whose files have passed the check.

    Args:
        dataset: the data set.
        fingerprinter: the component that makes it.
        source: digest of what it is made from, kept in it.
        progress: told after each case.
        use: the record of the fingerprinter, which says whose fault is told.

    Raises:
        SegError: there are no cases, or whatever the fingerprinter refuses (exit 3); a fingerprint that does not fit
            the data set (SEG-P05, exit 6) or is none (SEG-P10, exit 6).
    """
    progress = progress or Silent()
    if not dataset.cases:
        raise SegError(Record(code="SEG-D13", found="no cases", expected="at least one", file=str(dataset.root)))
    progress.start("fingerprint", len(dataset.cases))
    use = use or unnamed("fingerprinter", fingerprinter)
    with blamed(use, "fingerprint"):
        given = fingerprinter.fingerprint(dataset, progress)
    found = evolve(expect(given, Fingerprint, use, "fingerprint"), source=source)
    cases, channels = len(dataset.cases), len(dataset.description.channel_names)
    counts = {"cases": (len(found.cases), cases), "shapes": (len(found.shapes), cases),
              "spacings": (len(found.spacings), cases), "intensities": (len(found.intensities), channels)}
    faults = [f"{count} {name}, expected {wanted}" for name, (count, wanted) in counts.items() if count != wanted]
    orientation = dataset.description.orientation
    others = set(found.orientations) - {orientation, "2D"} if orientation else set()
    faults += [f"images of orientation {other}, expected {orientation}" for other in sorted(others)]
    if faults:
        who = f"the fingerprinter {type(fingerprinter).__name__} gave"
        raise SegError([Record(code="SEG-P05", found=f"{who} {fault}") for fault in faults], Exit.PLUGIN)
    return found
