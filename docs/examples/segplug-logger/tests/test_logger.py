"""logger keeps the contract of its kind, and does what it is for."""

from __future__ import annotations

from pathlib import Path

import seg.testing

from segplug_logger import FILE, seg_epoch_ended, seg_run_ended


def test_every_epoch_becomes_a_row(tmp_path: Path) -> None:
    for epoch in (1, 2):
        seg_epoch_ended(tmp_path, {"epoch": epoch, "loss": 0.5})
    assert (tmp_path / FILE).read_text(encoding="utf-8").splitlines() == ["epoch,loss", "1,0.5", "2,0.5"]


def test_the_end_is_told(tmp_path: Path) -> None:
    seg_run_ended(tmp_path, ValueError("no"))
    assert "failed" in "".join(file.read_text(encoding="utf-8") for file in tmp_path.glob("*.txt"))


def test_the_plugin_is_well_formed() -> None:
    seg.testing.check_plugin("segplug_logger")
