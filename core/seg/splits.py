"""Which cases train and which validate: the folds of a cross-validation, nnU-Net's own or a file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from seg.convert import load_json
from seg.errors import Record, SegError, nearest

Split = tuple[tuple[str, ...], tuple[str, ...]]
"""Cases to train on, cases to validate on."""
SEED = 12345


def kfold(case_ids: Sequence[str], folds: int = 5, groups: Mapping[str, str] | None = None) -> list[Split]:
    """The folds of nnU-Net 2.8: sorted, shuffled by a Mersenne generator with a fixed seed, cut into equal chunks.

    Args:
        case_ids: the cases, in any order.
        folds: how many.
        groups: case → patient. Cases of one patient stay together: then whole patients are shuffled and cut.

    Raises:
        SegError: fewer cases (or patients) than folds.
    """
    of = {case: (groups or {}).get(case, case) for case in sorted(case_ids)}
    units = sorted(set(of.values()))
    if len(units) < folds:
        what = "cases" if len(units) == len(of) else "patients"
        raise SegError(Record(code="SEG-D42", found=f"{len(units)} {what}", expected=f"at least {folds} for {folds} "
                              "folds", advice="Train on all cases (--fold all), or bring a file with --splits."))
    order = np.arange(len(units))
    _mersenne(SEED).shuffle(order)
    splits = []
    for chunk in np.array_split(order, folds):
        held = {units[index] for index in chunk}
        splits.append((tuple(case for case in of if of[case] not in held),
                       tuple(case for case in of if of[case] in held)))
    return splits


def choose(splits: Sequence[Split], fold: int | Literal["all"], case_ids: Sequence[str]) -> Split:
    """The split of one fold; `all` trains and validates on every case.

    A number beyond the folds there are gives a random 80:20 split of its own, as in nnU-Net.

    Raises:
        SegError: a random split that leaves one side empty.
    """
    cases = tuple(sorted(case_ids))
    if fold == "all":
        return cases, cases
    if fold < len(splits):
        return splits[fold]
    drawn = _mersenne(SEED + fold).choice(len(cases), int(0.8 * len(cases)), replace=False)
    train = tuple(cases[index] for index in drawn)
    rest = tuple(case for case in cases if case not in set(train))
    if not train or not rest:
        raise SegError(Record(code="SEG-D42", found=f"{len(cases)} cases", expected="at least 2 for a random split"))
    return train, rest


def read_splits(path: Path, case_ids: Sequence[str]) -> list[Split]:
    """The splits of a JSON file in nnU-Net's form: a list of `{"train": [cases], "val": [cases]}`.

    Raises:
        SegError: it has another form, names unknown cases, or has a case on both sides; all faults at once.
    """
    data = load_json(path)
    if not isinstance(data, list) or not data:
        raise SegError(_fault(path, "not a list of splits", 'a list of {"train": […], "val": […]}'))
    faults = [fault for number, entry in enumerate(data) for fault in _faults(path, number, entry, set(case_ids))]
    if faults:
        raise SegError(faults)
    return [(tuple(entry["train"]), tuple(entry["val"])) for entry in data]


def as_data(splits: Sequence[Split]) -> list[dict[str, list[str]]]:
    """The splits in the form of nnU-Net's `splits_final.json`."""
    return [{"train": list(train), "val": list(val)} for train, val in splits]


def _faults(path: Path, number: int, entry: object, known: set[str]) -> list[Record]:
    where = f"split {number}"
    if not isinstance(entry, dict) or set(entry) != {"train", "val"}:
        return [_fault(path, f"{where} is {str(entry)[:60]}", 'the keys "train" and "val"')]
    sides = (entry["train"], entry["val"])
    if not all(isinstance(side, list) and side and all(isinstance(case, str) for case in side) for side in sides):
        return [_fault(path, f"{where} has a side that is no list of case names, or an empty one")]
    faults = [
        _fault(path, f"{where} names an unknown case", "a case of the data set", case, nearest(case, sorted(known)))
        for case in sorted((set(sides[0]) | set(sides[1])) - known)
    ]
    faults += [_fault(path, f"{where} both trains and validates on it", "one of the two", case)
               for case in sorted(set(sides[0]) & set(sides[1]))]
    return faults + [_fault(path, f"{where} names it twice", "once", case)
                     for side in sides for case in sorted({case for case in side if side.count(case) > 1})]


def _fault(path: Path, found: str, expected: str = "", case: str | None = None, advice: str = "") -> Record:
    return Record(code="SEG-D43", found=found, expected=expected, advice=advice, case=case, file=str(path))


def _mersenne(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed)  # nnU-Net draws its folds with this one
