"""The table of epochs: whole, and without double rows when a training is resumed."""

import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from seg_csv import COLUMNS, seg_epoch_ended


@pytest.fixture
def tell(tmp_path):
    def call(epoch, loss, fold="0"):
        row = {"epoch": epoch, "step": 2 * epoch, "seconds": 0.5, "loss": loss, "lr": 0.01, "more": 1}
        seg_epoch_ended(folder=tmp_path / "training/2d" / f"fold_{fold}", configuration="2d", fold=fold, row=row)

    return call


def rows(folder):
    with (folder / "epochs.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_epoch_is_a_row(tmp_path, tell):
    for epoch, fold in ((1, "0"), (2, "0"), (1, "1")):
        tell(epoch, epoch / 4, fold)
    found = rows(tmp_path)
    assert tuple(found[0]) == COLUMNS
    assert [(row["configuration"], row["fold"], row["epoch"]) for row in found] == [
        ("2d", "0", "1"), ("2d", "0", "2"), ("2d", "1", "1")]
    assert [float(row["loss"]) for row in found] == [0.25, 0.5, 0.25]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["epochs.csv"]


def test_what_a_resumed_training_does_again_is_not_doubled(tmp_path, tell):
    for epoch in (1, 2, 3):
        tell(epoch, 1.0)
    tell(1, 1.0, "1")
    tell(2, 7.0)
    assert [(row["fold"], row["epoch"], row["loss"]) for row in rows(tmp_path)] == [
        ("0", "1", "1.0"), ("1", "1", "1.0"), ("0", "2", "7.0")]


def test_folds_that_are_trained_at_the_same_time_lose_no_row(tmp_path, tell):
    def train(fold):
        for epoch in range(1, 21):
            tell(epoch, 1.0, str(fold))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(train, range(4)))
    assert len({(row["fold"], row["epoch"]) for row in rows(tmp_path)}) == len(rows(tmp_path)) == 80
