"""A cascade: which predictions of the previous stage a training of the next one sees.

Each case is given the prediction of the fold that did not train on it, so the second stage learns from mistakes as
large as it will meet (Isensee et al. 2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen
from torch import Tensor

from seg.arrays import load_array
from seg.errors import Record, SegError
from seg.stages._ledger import entries

if TYPE_CHECKING:
    from seg.stages.train import Fold

NEXT_STAGE = "next_stage"


@frozen(kw_only=True)
class Handed:
    """What the previous stage predicted for a case: its file, and the file's digest."""

    file: Path
    digest: str

    def load(self) -> Tensor:
        """Ids int16 (Z, Y, X) on the preprocessed grid of the next stage."""
        return load_array(self.file)


def previous_predictions(fold: Fold) -> dict[str, Handed]:
    """The previous stage's prediction of every case, by its name; empty where there is no previous stage.

    Raises:
        SegError: a case was not predicted by a fold that did not see it (exit 3).
    """
    stage = fold.planned.previous_stage
    if stage is None:
        return {}
    found: dict[str, Handed] = {}
    for index in range(len(fold.folder.splits())):
        folder = fold.folder.validation(stage, str(index))
        for case, done in entries(folder).items():
            name = f"{NEXT_STAGE}/{case}.h5"
            if name in done.files and case not in found:
                found[case] = Handed(file=folder / name, digest=done.files[name])
    missing = sorted({case.id for case in fold.folder.dataset().cases} - found.keys())
    if missing:
        raise SegError(Record(code="SEG-D33", found=f"{stage} predicted {len(missing)} cases in none of its folds: "
                              f"{', '.join(missing[:5])}", file=str(fold.folder.validation(stage, "0").parent),
                              expected=f"a prediction of every case by a fold of {stage} that did not train on it",
                              advice=f"Train and validate all folds of {stage}, or run `seg run` with --config "
                                     f"{fold.configuration}."))
    return found
