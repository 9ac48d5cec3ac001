"""The journal says what happened, once, and report and command show it."""

from __future__ import annotations

from pathlib import Path

import pytest
import seg.testing
import segplug_logger
from seg import Evaluation, SegError
from segplug_logger.history import history
from segplug_logger.journal import FILE, events, trainings


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was cut short after its second epoch, went on from the first, and is done."""
    fold = tmp_path / "training/2d/fold_0"
    segplug_logger.seg_run_started(tmp_path)
    for epoch, loss in ((1, 0.9), (2, 0.8), (2, 0.7), (3, 0.6)):
        segplug_logger.seg_epoch_ended(fold, "2d", "0", {"epoch": epoch, "loss": loss})
    mean = Evaluation(cases=(), class_means={}, mean={"dice": 0.5})
    segplug_logger.seg_validation_done(tmp_path / "validation/2d/fold_0", "2d", "0", mean)
    segplug_logger.seg_run_ended(tmp_path, None)
    return tmp_path


def test_everything_is_noted_in_its_order(run: Path) -> None:
    assert [line["event"] for line in events(run)] == ["started", *["epoch"] * 4, "validated", "done"]


def test_an_epoch_that_was_done_again_counts_once(run: Path) -> None:
    (one,) = trainings(run)
    assert (one.losses, one.dice) == ((0.9, 0.7, 0.6), 0.5)


def test_a_line_that_was_cut_short_harms_nothing(run: Path) -> None:
    before = trainings(run)
    with (run / FILE).open("a", encoding="utf-8") as stream:
        stream.write('{"event": "epo')
    assert trainings(run) == before
    segplug_logger.seg_run_ended(run, ValueError("no"))
    assert (events(run)[-1]["event"], events(run)[-1]["error"]) == ("failed", "ValueError('no')")


def test_the_report_has_a_section(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (section,) = segplug_logger.seg_report_sections(run)
    assert "<td>2d</td><td>0</td><td>3</td><td>0.9000</td><td>0.6000</td><td>0.5000</td>" in section.html
    assert list(segplug_logger.seg_report_sections(tmp_path_factory.mktemp("empty"))) == []


def test_the_command_prints_the_last_losses(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history([run], last=2)
    assert capsys.readouterr().out == f"{run.name} 2d fold 0: 3 epochs, loss 0.7000 0.6000, Dice 0.5000\n"


def test_a_run_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegError, match="no journal"):
        history([tmp_path])


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_logger")
