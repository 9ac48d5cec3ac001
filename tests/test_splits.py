import json

import pytest

from seg import SegError
from seg.splits import as_data, choose, kfold, read_splits


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
    found = [[int(case[-3:]) for case in val] for _, val in kfold(names(count)[::-1])]
    assert found == folds


@pytest.mark.parametrize(("count", "folds"), [(5, 5), (13, 4), (37, 5), (11, 2)])
def test_each_case_validates_once_and_trains_in_the_other_folds(count, folds):
    splits = kfold(names(count), folds)
    assert sorted(case for _, val in splits for case in val) == names(count)
    assert all(sorted(train + val) == names(count) for train, val in splits)
    sizes = [len(val) for _, val in splits]
    assert max(sizes) - min(sizes) <= 1


def test_cases_of_one_patient_stay_together():
    groups = {case: f"patient_{index // 3}" for index, case in enumerate(names(30))}
    splits = kfold(names(30), groups=groups)
    assert sorted(case for _, val in splits for case in val) == names(30)
    for train, val in splits:
        assert not {groups[case] for case in train} & {groups[case] for case in val}


def test_too_few_cases_or_patients_are_refused():
    with pytest.raises(SegError, match="4 cases"):
        kfold(names(4))
    with pytest.raises(SegError, match="3 patients"):
        kfold(names(9), groups={case: str(index % 3) for index, case in enumerate(names(9))})


def test_other_folds():
    cases, splits = names(10), kfold(names(10))
    assert choose(splits, "all", cases) == (tuple(cases), tuple(cases))
    assert choose(splits, 1, cases) == splits[1]
    train, val = choose(splits, 7, cases)
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train + val) == cases
    assert choose(splits, 7, cases) == (train, val) != choose(splits, 8, cases)


def test_a_file_is_read_back(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(as_data(kfold(names(10)))))
    assert read_splits(path, names(10)) == kfold(names(10))


def test_all_faults_of_a_file_in_one_error(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([
        {"train": ["case_000", "case_001"], "val": ["case_001"]},
        {"train": ["case_0000"], "val": ["case_002", "case_002"]},
        {"train": ["case_000"], "validation": ["case_001"]},
        {"train": [], "val": ["case_001"]},
    ]))
    with pytest.raises(SegError) as caught:
        read_splits(path, names(10))
    text = str(caught.value)
    assert len(caught.value.records) == 5
    assert "case case_001" in text
    assert "Did you mean 'case_000'" in text


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", "no json"])
def test_what_is_no_list_of_splits_is_refused(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(SegError):
        read_splits(path, names(3))
