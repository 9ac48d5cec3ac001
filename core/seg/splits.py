"""Which cases a fold trains on, and which it is validated with.

The rule and the shuffle are those of nnU-Net 2.8: five consecutive chunks of a shuffle seeded with 12345, so that
results can be compared case by case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg.convert import load_json
from seg.errors import Exit, Record, SegError
from seg.models import Case

FOLDS = 5
SHUFFLE_SEED = 12345
Split = dict[str, list[str]]


def make_splits(cases: Sequence[Case], file: str = "") -> list[Split]:
    """The folds of a data set: from a file if one is named, else by chance, with the cases of a group kept together.

    Raises:
        SegError: the file names unknown cases, or a case both for training and validation (exit 3).
    """
    if file:
        return read_splits(Path(file), [case.id for case in cases])
    if any(case.group for case in cases):
        groups = sorted({case.group or case.id for case in cases})
        chunks = [set(fold["val"]) for fold in kfold(groups)]
        return [_split([case.id for case in cases], [case.id for case in cases if (case.group or case.id) in chunk])
                for chunk in chunks]
    return kfold([case.id for case in cases])


def kfold(names: Sequence[str], folds: int = FOLDS) -> list[Split]:
    """`folds` disjoint parts of the sorted `names`, each in turn left out for validation.

    With fewer names than folds there is one fold a name.
    """
    ordered = sorted(names)
    shuffled = np.arange(len(ordered))
    np.random.RandomState(SHUFFLE_SEED).shuffle(shuffled)
    chunks = np.array_split(shuffled, min(folds, len(ordered)))
    return [_split(ordered, [ordered[index] for index in sorted(chunk)]) for chunk in chunks]


def read_splits(path: Path, names: Iterable[str]) -> list[Split]:
    """Folds from a file like nnU-Net's `splits_final.json`: a list of `{"train": [...], "val": [...]}`.

    Raises:
        SegError: no such list; unknown cases; cases in both parts (all faults at once).
    """
    data, known = load_json(path), set(names)
    if not isinstance(data, list) or not data or not all(_is_split(fold) for fold in data):
        raise SegError(Record(code="SEG-C09", found="no list of folds", file=str(path),
                              expected='[{"train": [case, …], "val": [case, …]}, …]'), Exit.USAGE)
    faults = []
    for index, fold in enumerate(data):
        unknown = sorted({*fold["train"], *fold["val"]} - known)
        both = sorted({*fold["train"]} & {*fold["val"]})
        if unknown:
            faults.append(Record(code="SEG-D23", found=f"fold {index} names {len(unknown)} cases that the data set has "
                                 f"not: {', '.join(unknown[:5])}", file=str(path)))
        if both:
            faults.append(Record(code="SEG-D23", found=f"fold {index} validates with {len(both)} cases it trains on: "
                                 f"{', '.join(both[:5])}", file=str(path)))
    if faults:
        raise SegError(faults)
    return [{"train": list(fold["train"]), "val": list(fold["val"])} for fold in data]


def members(splits: Sequence[Split], fold: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold, by name.

    `all` is every case for both. A number beyond the last fold is a random 80:20 split of its own (nnU-Net 2.8).
    """
    ordered = sorted(names)
    if fold == "all":
        return ordered, ordered
    index = int(fold)
    if index < len(splits):
        return list(splits[index]["train"]), list(splits[index]["val"])
    rng = np.random.RandomState(SHUFFLE_SEED + index)
    training = {ordered[place] for place in rng.choice(len(ordered), int(0.8 * len(ordered)), replace=False)}
    return [name for name in ordered if name in training], [name for name in ordered if name not in training]


def _split(names: Sequence[str], validation: Sequence[str]) -> Split:
    left_out = set(validation)
    return {"train": sorted(name for name in names if name not in left_out), "val": sorted(validation)}


def _is_split(fold: Any) -> bool:
    return isinstance(fold, dict) and all(isinstance(fold.get(part), list) for part in ("train", "val"))
