"""Which cases a fold trains on, and which it is validated with.

The rule and the shuffle are those of nnU-Net 2.8: five consecutive chunks of a shuffle seeded with 12345, so that
results can be compared case by case. Groups, strata and cases of the same image change that only where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg.convert import load_json
from seg.errors import Exit, Record, SegError
from seg.models import Case

FOLDS = 5
SHUFFLE_SEED = 12345
FULL = "full"  # the fold that trains on every case
Split = dict[str, list[str]]


def make_splits(cases: Sequence[Case], file: str = "", same_images: Iterable[Sequence[str]] = ()) -> list[Split]:
    """The folds of a data set: from a file if one is named, else by chance.

    By chance, the cases of a group and cases of the same image stay together, and each fold gets its share of every
    stratum; what stays together has the stratum of its first case by name.

    Args:
        cases: all cases of the data set.
        file: a file of folds, or nothing.
        same_images: names of cases whose images are the same (`CheckReport.same_images`).

    Raises:
        SegError: the file names unknown cases, or a case or group both for training and validation (exit 3).
    """
    if file:
        return read_splits(Path(file), [case.id for case in cases], {case.id: case.group for case in cases})
    unit, strata = units(cases, same_images), dict[str, str]()
    for case in sorted(cases, key=lambda case: case.id):
        strata.setdefault(unit[case.id], case.stratum or "")
    names = [case.id for case in cases]
    chunks = [set(fold["val"]) for fold in kfold(list(strata), strata=strata)]
    return [_split(names, [name for name in names if unit[name] in chunk]) for chunk in chunks]


def units(cases: Sequence[Case], same_images: Iterable[Sequence[str]] = ()) -> dict[str, str]:
    """Case → the name of what must stay in one fold: its group or itself, joined where images are the same."""
    unit = {case.id: case.group or case.id for case in cases}
    for alike in same_images:
        joined = {unit[name] for name in alike}
        unit = {name: min(joined) if own in joined else own for name, own in unit.items()}
    return unit


def kfold(names: Sequence[str], folds: int = FOLDS, strata: Mapping[str, str] | None = None) -> list[Split]:
    """`folds` disjoint parts of the sorted `names`, each in turn left out for validation.

    With fewer names than folds there is one fold a name. With several `strata` (name → stratum) the names are dealt out
    one after the other, stratum by stratum, in the order of the shuffle: the folds differ by one name at most, in all
    and in each stratum.
    """
    ordered = sorted(names)
    shuffled = np.arange(len(ordered))
    np.random.RandomState(SHUFFLE_SEED).shuffle(shuffled)
    count = min(folds, len(ordered))
    chunks = np.array_split(shuffled, count)
    if strata and len(set(strata.values())) > 1:
        shuffled = np.array(sorted(shuffled, key=lambda index: strata[ordered[index]]))
        chunks = [shuffled[first::count] for first in range(count)]
    return [_split(ordered, [ordered[index] for index in sorted(chunk)]) for chunk in chunks]


def read_splits(path: Path, names: Iterable[str], groups: Mapping[str, str | None] | None = None) -> list[Split]:
    """Folds from a file like nnU-Net's `splits_final.json`: a list of `{"train": [...], "val": [...]}`, however many.

    Args:
        path: the file.
        names: all cases of the data set.
        groups: case → its group, where it has one.

    Raises:
        SegError: no such list; unknown cases; no case to train on or to validate with; cases or groups in both parts
            (all faults at once).
    """
    data, known = load_json(path), set(names)
    if not isinstance(data, list) or not data or not all(_is_split(fold) for fold in data):
        raise SegError(Record(code="SEG-C09", found="no list of folds", file=str(path),
                              expected='[{"train": [case, …], "val": [case, …]}, …]'), Exit.USAGE)
    faults = [Record(code="SEG-D23", found=f"fold {index} {fault}", file=str(path), advice=advice)
              for index, fold in enumerate(data) for fault, advice in _faults(fold, known, groups or {})]
    if faults:
        raise SegError(faults)
    return [{"train": list(fold["train"]), "val": list(fold["val"])} for fold in data]


def _faults(fold: Split, known: set[str], groups: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """What is wrong with a fold, and what to do."""
    train, val = set(fold["train"]), set(fold["val"])
    if unknown := sorted((train | val) - known):
        yield f"names {len(unknown)} cases that the data set has not: {_first(unknown)}", ""
    if both := sorted(train & val):
        yield f"validates with {len(both)} cases it trains on: {_first(both)}", ""
    if not train or not val:
        yield f"has no case to {'validate with' if train else 'train on'}", "--fold full trains on every case."
    parted = {group for name in train - val if (group := groups.get(name))} & {groups.get(name) for name in val - train}
    if parted:
        there = sorted(name for name in val if groups.get(name) in parted)
        yield (f"validates with {len(there)} cases of groups it trains on ({_first(sorted(parted))}): {_first(there)}",
               "Cases of one group (the patient) must be on one side.")


def parted_images(splits: Sequence[Split], same_images: Iterable[Sequence[str]]) -> list[Record]:
    """A warning for each fold that validates with images it trains on, under other names.

    No error, unlike a group on both sides: published folds are such on data sets with copies, and results are compared
    on them; nobody declared these cases to belong together, as he who fills the column `group` does.
    """
    records, alike = [], [set(names) for names in same_images]
    for index, fold in enumerate(splits):
        train, val = set(fold["train"]), set(fold["val"])
        there = sorted(name for names in alike if names & train for name in names & val - train)
        if there:
            records.append(Record(code="SEG-D23", severity="warning", found=f"fold {index} validates with "
                                  f"{len(there)} cases whose images it trains on under other names: {_first(there)}",
                                  advice="Validation looks too good. Without --splits such cases stay together."))
    return records


def members(splits: Sequence[Split], fold: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold, by name.

    `full` is every case for both (nnU-Net calls it `all`). A number beyond the last fold is a random 80:20 split of its
    own (nnU-Net 2.8).
    """
    ordered = sorted(names)
    if fold == FULL:
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
    return isinstance(fold, dict) and all(
        isinstance(fold.get(part), list) and all(isinstance(name, str) for name in fold[part])
        for part in ("train", "val"))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
