import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg import Case, SegError
from seg.splits import kfold, make_splits, members, parted_images, read_splits


def names(count):
    return [f"case_{index:03d}" for index in range(count)]


def cases(count, groups=None, strata=None):
    return [Case(id=name, images=(), group=(groups or {}).get(name), stratum=(strata or {}).get(name))
            for name in names(count)]


def are_folds(splits, count):
    """Each case validates once, and trains in every other fold."""
    return (sorted(case for split in splits for case in split["val"]) == names(count)
            and all(sorted(split["train"] + split["val"]) == names(count) for split in splits))


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


@pytest.mark.parametrize("count", [5, 12, 31])
def test_without_groups_strata_and_copies_the_folds_are_those_of_nnunet(count):
    assert make_splits(cases(count)[::-1]) == kfold(names(count))
    assert make_splits(cases(count, strata=dict.fromkeys(names(count), "one"))) == kfold(names(count))


@given(count=st.integers(5, 60), data=st.data())
def test_groups_and_copies_stay_together_and_strata_are_spread(count, data):
    letters = st.sampled_from("abcdefgh")
    groups = data.draw(st.dictionaries(st.sampled_from(names(count)), letters))
    strata = data.draw(st.dictionaries(st.sampled_from(names(count)), st.sampled_from("xyz")))
    alike = st.lists(st.sampled_from(names(count)), min_size=2, max_size=3, unique=True)
    copies = data.draw(st.lists(alike, max_size=3))
    splits = make_splits(cases(count, groups, strata), same_images=copies)
    assert are_folds(splits, count)
    assert splits == make_splits(cases(count, groups, strata)[::-1], same_images=copies[::-1])
    assert parted_images(splits, copies) == []
    for split in splits:
        sides = [{groups[case] for case in split[side] if case in groups} for side in ("train", "val")]
        assert not sides[0] & sides[1]


@given(count=st.integers(10, 80), data=st.data())
def test_every_fold_gets_its_share_of_every_stratum(count, data):
    strata = {name: data.draw(st.sampled_from(["north", "south", "west", None])) for name in names(count)}
    splits = make_splits(cases(count, strata=strata))
    assert are_folds(splits, count)
    shares = [Counter(strata[case] for case in split["val"]) for split in splits]
    for stratum in set(strata.values()):
        found = [share[stratum] for share in shares]
        assert max(found) - min(found) <= 1
    sizes = [share.total() for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_a_group_has_the_stratum_of_its_first_case():
    groups = {name: f"patient_{index // 2}" for index, name in enumerate(names(20))}
    strata = {name: "first" if index % 2 == 0 and index < 10 else "second" for index, name in enumerate(names(20))}
    splits = make_splits(cases(20, groups, strata))
    assert [sum(strata[case] == "first" for case in split["val"]) for split in splits] == [1] * 5


def test_cases_of_one_patient_stay_together():
    groups = {case: f"patient_{index // 3}" for index, case in enumerate(names(30))}
    splits = make_splits(cases(30, groups))
    assert are_folds(splits, 30)
    chunks = [{groups[case] for case in split["val"]} for split in splits]
    assert chunks == [set(split["val"]) for split in kfold([f"patient_{index}" for index in range(10)])]


def test_other_folds():
    known, splits = names(10), kfold(names(10))
    assert members(splits, "full", known) == (known, known)
    assert members(splits, "1", known) == (splits[1]["train"], splits[1]["val"])
    train, val = members(splits, "7", known)
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train + val) == known
    assert members(splits, "7", known) == (train, val) != members(splits, "8", known)


@pytest.mark.parametrize("folds", [1, 2, 3, 5, 8])
def test_a_file_of_any_number_of_folds_is_read_back(tmp_path, folds):
    path, splits = tmp_path / "splits_final.json", kfold(names(10), 10)[:folds]
    path.write_text(json.dumps(splits))
    assert read_splits(path, names(10)) == splits
    assert make_splits(cases(10, strata={"case_000": "x"}), str(path)) == splits


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


def test_leaks_of_a_file_are_told_fold_by_fold(tmp_path):
    path = tmp_path / "splits.json"
    groups = {"case_000": "p", "case_001": "p", "case_002": "q", "case_003": "q"}
    path.write_text(json.dumps([
        {"train": ["case_000", "case_004"], "val": ["case_001", "case_002"]},
        {"train": ["case_000", "case_001"], "val": ["case_002", "case_003"]},
        {"train": [], "val": ["case_002"]},
        {"train": ["case_002"], "val": []},
    ]))
    with pytest.raises(SegError) as caught:
        make_splits(cases(5, groups), str(path))
    assert caught.value.exit_code == 3
    assert {record.code for record in caught.value.records} == {"SEG-D23"}
    assert [record.found for record in caught.value.records] == [
        "fold 0 validates with 1 cases of groups it trains on (p): case_001", "fold 2 has no case to train on",
        "fold 3 has no case to validate with"]


def test_copies_on_both_sides_are_a_warning(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([{"train": ["case_000"], "val": ["case_001", "case_002"]},
                                {"train": ["case_002"], "val": ["case_000", "case_001"]}]))
    copies = [("case_000", "case_001")]
    (record,) = parted_images(make_splits(cases(3), str(path), copies), copies)
    assert (record.code, record.severity) == ("SEG-D23", "warning")
    assert record.found.endswith("fold 0 validates with 1 cases whose images it trains on under other names: case_001")


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", "no json", '[{"train": ["case_000"]}]',
                                     '[{"train": [["case_000"]], "val": [1]}]'])
def test_what_is_no_list_of_splits_is_refused(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(SegError):
        read_splits(path, names(3))
