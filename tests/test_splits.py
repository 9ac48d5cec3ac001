import json

import pytest

from seg import Case, SegError
from seg.splits import kfold, make_splits, members, read_splits


def names(count):
    return [f"case_{index:03d}" for index in range(count)]


@pytest.mark.parametrize(
    ("count", "folds"),
    [
        (10, [[0, 7], [3, 9], [4, 6], [1, 8], [2, 5]]),
        (20, [[3, 8, 13, 16], [0, 10, 12, 15], [6, 7, 11, 17], [9, 14, 18, 19], [1, 2, 4, 5]]),
    ],
)
def test_validation_cases_are_those_of_nnunet(count, folds):
    found = [[int(case[-3:]) for case in split["val"]] for split in kfold(names(count)[::-1])]
    assert found == folds


@pytest.mark.parametrize(("count", "folds"), [(5, 5), (13, 4), (37, 5), (11, 2)])
def test_each_case_validates_once_and_trains_in_the_other_folds(count, folds):
    splits = kfold(names(count), folds)
    assert sorted(case for split in splits for case in split["val"]) == names(count)
    assert all(sorted(split["train"] + split["val"]) == names(count) for split in splits)
    sizes = [len(split["val"]) for split in splits]
    assert max(sizes) - min(sizes) <= 1


def test_cases_of_one_patient_stay_together():
    groups = {case: f"patient_{index // 3}" for index, case in enumerate(names(30))}
    splits = make_splits([Case(id=case, images=(), group=group) for case, group in groups.items()])
    assert sorted(case for split in splits for case in split["val"]) == names(30)
    for split in splits:
        assert not {groups[case] for case in split["train"]} & {groups[case] for case in split["val"]}


def test_other_folds():
    cases, splits = names(10), kfold(names(10))
    assert members(splits, "all", cases) == (cases, cases)
    assert members(splits, "1", cases) == (splits[1]["train"], splits[1]["val"])
    train, val = members(splits, "7", cases)
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train + val) == cases
    assert members(splits, "7", cases) == (train, val) != members(splits, "8", cases)


def test_a_file_is_read_back(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(kfold(names(10))))
    assert read_splits(path, names(10)) == kfold(names(10))


def test_unknown_cases_and_leaks_in_one_error(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([
        {"train": ["case_000", "case_001"], "val": ["case_001"]},
        {"train": ["case_0000"], "val": ["case_002"]},
    ]))
    with pytest.raises(SegError) as caught:
        read_splits(path, names(10))
    assert len(caught.value.records) == 2
    assert "case_001" in str(caught.value)
    assert "case_0000" in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", "no json", '[{"train": ["case_000"]}]'])
def test_what_is_no_list_of_splits_is_refused(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(SegError):
        read_splits(path, names(3))
