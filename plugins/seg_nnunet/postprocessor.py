"""nnU-Net's post-processing: only the largest component stays, where that raises the Dice in validation.

Isensee et al. 2021; nnU-Net 2.8. First all foreground is taken as one, then each class or region by itself. Components
are joined over faces, edges and corners; largest ones of equal size all stay; what goes becomes background.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from seg import Exit, Labels, Record, SegError

ALL = "all"
CLASS = "class "

Ids = tuple[int, ...]
Read = Callable[[], tuple[NDArray[Any], NDArray[Any]]]
Boxes = dict[int, tuple[slice, ...]]
Counts = dict[str, tuple[int, int, int]]
"""Class → voxels in truth and prediction both, in the truth, in the prediction."""


@frozen(kw_only=True)
class NnUNetPostprocessor:
    """Keeps the largest component of all foreground, then of each class; each step only where it helps.

    The first step is `all`: taken if the mean Dice over the classes rises and that of no class falls. Where there are
    several classes, steps `class NAME` follow in declared order, each on top of what was taken: taken if the mean Dice
    of this class rises. Means are over the cases in which truth or prediction has the class, and over the classes that
    any case has. Voxels of the ignore label count nowhere.
    """

    def learn(self, cases: Sequence[Read], labels: Labels) -> tuple[str, ...]:
        """The steps that help on `cases`; see the class.

        A case is read once, and again only if a step that was taken changed what a later one would do to it.
        """
        steps, seen = _steps(labels), [_Seen(read=read) for read in cases]
        taken: list[str] = []
        for step, ids in steps.items():
            for case in seen:
                if step not in case.changes:
                    case.look(labels, taken)
            watched = list(labels.foreground) if step == ALL else [step.removeprefix(CLASS)]
            if _helps(seen, step, watched):
                taken.append(step)
                for case in seen:
                    case.forget(step, (later for later, others in steps.items() if set(ids) & set(others)))
        return tuple(taken)

    def apply(self, predicted: NDArray[Any], labels: Labels, steps: Sequence[str]) -> NDArray[Any]:
        """A copy of `predicted`, ids (Z, Y, X), without the components that `steps` take away.

        Raises:
            SegError: a step is none of ours, or its class none of `labels` (exit 7).
        """
        known = _steps(labels)
        unknown = [step for step in steps if step not in known]
        if unknown:
            raise SegError(Record(code="SEG-M06", found=f"the step of post-processing {unknown[0]!r}",
                                  expected=f"one of {', '.join(known)}"), Exit.UNSAFE)
        return _without(predicted, [known[step] for step in steps])


@define
class _Seen:
    """What is known of a case, without its voxels: its counts, and what each step would take from them.

    A step that would take no voxel has None.
    """

    read: Read
    counts: Counts = field(factory=dict)
    changes: dict[str, Counts | None] = field(factory=dict)

    def look(self, labels: Labels, taken: Sequence[str]) -> None:
        """Read the case, and find out what the steps would do to it that are not known, on top of those `taken`."""
        truth, predicted = self.read()
        steps = _steps(labels)
        predicted = _without(predicted, [steps[step] for step in taken])
        self.counts = _counts(truth, predicted, labels)
        boxes = _boxes(predicted)
        for step, ids in steps.items():
            if step not in self.changes:
                gone = _islands(predicted, ids, boxes)
                self.changes[step] = _counts(truth[gone], predicted[gone], labels) if gone[0].size else None

    def forget(self, step: str, others: Iterable[str]) -> None:
        """`step` was taken: if that changed the case, what `others` would do to it must be looked at again."""
        if self.changes[step] is not None:
            for other in others:
                self.changes.pop(other, None)

    def dice(self, name: str, step: str = "") -> float | None:
        """The Dice of a class, as it is or after `step`; None where truth and prediction lack it."""
        both, truth, predicted = self.counts.get(name, (0, 0, 0))
        if change := self.changes.get(step):
            gone = change.get(name, (0, 0, 0))
            both, predicted = both - gone[0], predicted - gone[2]
        return 2 * both / (truth + predicted) if truth + predicted else None


def _steps(labels: Labels) -> dict[str, Ids]:
    """Every step there may be, in order, with the ids that it takes as one."""
    foreground = labels.foreground
    steps = {ALL: tuple(sorted({label_id for ids in foreground.values() for label_id in ids}))}
    return steps | {CLASS + name: ids for name, ids in foreground.items() if len(foreground) > 1}


def _helps(cases: Sequence[_Seen], step: str, watched: Sequence[str]) -> bool:
    """Whether the mean Dice over the `watched` classes rises by `step`, and none of theirs falls."""
    if all(case.changes[step] is None for case in cases):
        return False
    before = [_mean(case.dice(name) for case in cases) for name in watched]
    after = [_mean(case.dice(name, step) for case in cases) for name in watched]
    falls = any(one is not None and two is not None and two < one for one, two in zip(before, after, strict=True))
    first, second = _mean(before), _mean(after)
    return not falls and first is not None and second is not None and second > first


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are defined, without an error that depends on their order."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _counts(truth: NDArray[Any], predicted: NDArray[Any], labels: Labels) -> Counts:
    """Exact counts of each class in two arrays of ids, of one shape; classes without a voxel are left out."""
    known = np.array(labels.ids)
    place = np.zeros(known[-1] + 1, np.intp)
    place[known] = np.arange(known.size)
    valid = (truth != 0) | (predicted != 0)
    if labels.ignore is not None:
        valid &= truth != labels.ignore
    pairs = place[truth[valid]] * known.size + place[predicted[valid]]
    table = np.bincount(pairs, minlength=known.size**2).reshape(known.size, known.size)  # truth by prediction
    found = {}
    for name, ids in labels.foreground.items():
        own = table[np.isin(known, ids)], table[:, np.isin(known, ids)]
        found[name] = (int(own[0][:, np.isin(known, ids)].sum()), int(own[0].sum()), int(own[1].sum()))
    return {name: counts for name, counts in found.items() if any(counts)}


def _without(predicted: NDArray[Any], taken: Iterable[Ids]) -> NDArray[Any]:
    """A copy of `predicted` in which only the largest component of each of `taken` is left, one after the other."""
    found, boxes = predicted.copy(), _boxes(predicted)
    for ids in taken:
        found[_islands(found, ids, boxes)] = 0
    return found


def _islands(array: NDArray[Any], ids: Ids, boxes: Boxes) -> tuple[NDArray[np.intp], ...]:
    """Indices (z, y, x) of the voxels of `ids` that lie in none of the largest components; empty if there are none."""
    from scipy import ndimage

    own = [boxes[label_id] for label_id in ids if label_id in boxes]
    if not own:
        return (np.empty(0, np.intp),) * 3
    box = tuple(slice(min(one.start for one in axis), max(one.stop for one in axis)) for axis in zip(*own, strict=True))
    mask = array[box] == ids[0] if len(ids) == 1 else np.isin(array[box], ids)
    parts = ndimage.label(mask, structure=np.ones((3, 3, 3)))[0][mask]  # of the foreground alone, to spare memory
    sizes = np.bincount(parts)
    gone = np.zeros_like(mask)
    gone[mask] = (sizes < sizes.max(initial=0))[parts]
    return tuple(indices + side.start for indices, side in zip(np.nonzero(gone), box, strict=True))


def _boxes(array: NDArray[Any]) -> Boxes:
    """The box around each id in `array`, found in one pass."""
    from scipy import ndimage

    return {label_id: box for label_id, box in enumerate(ndimage.find_objects(array), start=1) if box}
