"""Dice after the same time of training on the same cases: nnU-Net v2 and seg, one after the other, all cores each.

Fold 0 of nnU-Net's own split, 3d_fullres. nnU-Net's default trainer makes its steps from batches of its own worker
processes; its rate falls to nothing with the clock, as with `--budget`, because its own schedule of 1000 epochs would
not have begun to. Validation (with mirroring) comes after the time on both sides; one measure, `seg evaluate`, judges
both.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from beside.bench import Bench, Prepared, at, skip
from beside.cases import SEG, Cases, Network, plan, seg
from beside.processes import Run, run
from beside.table import Row

NAME = "Dataset001_CT"


@frozen(kw_only=True)
class Trained:
    """What one side reached."""

    run: Run
    steps: int
    dice: float


def training(bench: Bench) -> list[Row]:
    """Each side once."""
    if bench.data is None and not bench.quick:
        skip("training: only with --data")
        return []
    prepared = with_splits(bench)
    other, mine = theirs(bench, prepared), ours(bench, prepared)
    name = bench.data.name if bench.data else "generated"
    what = f"{name}, fold 0, {bench.minutes:g} minutes of training"
    return [Row(part="training", what=f"{what}: Dice", unit="", ours=[mine.dice], theirs=[other.dice], at_least=1.0),
            Row(part="training", what=f"{what}: how many", unit="steps", ours=[mine.steps], theirs=[other.steps],
                remark="of another network and batch where the time asks for it"),
            Row(part="training", what=f"{what}: clock", unit="s", ours=[mine.run.wall_s], theirs=[other.run.wall_s],
                remark="with validation; seg's also with check and preprocessing"),
            Row(part="training", what=f"{what}: peak memory", unit="MB", ours=[mine.run.peak_mb],
                theirs=[other.run.peak_mb])]


def theirs(bench: Bench, prepared: Prepared) -> Trained:
    """nnU-Net: so many minutes of its training steps."""
    here = evolve(at(bench, prepared), threads=_cores())
    made = here.theirs("train_for", workers=2 if bench.device == "cpu" else 12, preprocessed=prepared.preprocessed,
                       seconds=60 * bench.minutes, device=bench.device)
    return Trained(run=made, steps=made.figures["steps"], dice=_dice(prepared, Path(made.figures["validation"])))


def ours(bench: Bench, prepared: Prepared) -> Trained:
    """`seg run --budget` from the images on."""
    out = prepared.raw.parents[1] / "trained"
    made = run([SEG, "run", prepared.raw, "-o", out, "--splits", prepared.preprocessed / NAME / "splits_final.json",
                "--config", "3d_fullres", "--fold", 0, "--budget", f"{bench.minutes:g}m", "--device", bench.device],
               {"OMP_NUM_THREADS": _cores()})
    rows = (out / "training/3d_fullres/fold_0/metrics.jsonl").read_text().splitlines()
    return Trained(run=made, steps=json.loads(rows[-1])["step"],
                   dice=_dice(prepared, out / "validation/3d_fullres/fold_0"))


def with_splits(bench: Bench) -> Prepared:
    """The data set of the trainings, preprocessed for nnU-Net and with its folds; what is there already is kept."""
    import preprocessing as stages

    work = bench.work / "training"
    prepared = Prepared(raw=work / f"raw/{NAME}", folder=work / "run", preprocessed=work / "preprocessed")
    if (prepared.preprocessed / NAME / "splits_final.json").exists():
        return prepared
    shutil.rmtree(work, ignore_errors=True)
    prepared.raw.parent.mkdir(parents=True)
    if bench.data is None:
        Cases(shape=(24, 32, 32), count=6).write(prepared.raw)
    else:
        (stages.as_nnunet_raw(bench.data, work / "given") / "Dataset004_Benchmark").rename(prepared.raw)
        file = prepared.raw / "dataset.json"
        file.write_text(json.dumps({"name": NAME, **json.loads(file.read_text())}))
    file = plan(prepared.raw)
    if bench.quick:
        Network(patch=(16, 32, 32), batch=2, features=(4, 8)).change(file)
    at(bench, prepared).theirs("preprocess", data=prepared.raw, out=prepared.preprocessed)
    return prepared


def _dice(prepared: Prepared, predictions: Path) -> float:
    measured = prepared.raw.parents[1] / f"measured_{predictions.parent.name}"
    seg("evaluate", prepared.raw / "labelsTr", predictions, "-o", measured)
    found: dict[str, Any] = json.loads((measured / "metrics.json").read_text())
    return float(found["mean"]["dice"])


def _cores() -> str:
    return str(os.cpu_count())
