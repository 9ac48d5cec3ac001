"""Dice after the same time of training on the same cases: seg and nnU-Net v2, one after the other, all cores each.

    python benchmarks/equal_time.py DATA --nnunet ENV [--minutes 30] [--sides nnunet,seg] [-o FOLDER]

DATA is a data set of the Decathlon with one channel. Fold 0 of nnU-Net's own split, 3d_fullres. nnU-Net's default
trainer makes its steps from batches of its own worker processes; its rate falls to nothing with the clock, as with
`--budget`, which is kinder than stopping its schedule of 1000 epochs. Validation (with mirroring) comes after the time
on both sides, and one measure, `seg evaluate`, judges both.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from attrs import evolve
from beside.bench import Bench, at
from beside.cases import seg
from beside.parts import with_splits
from beside.processes import run


def main() -> None:
    """Train the sides that were asked for, and print what each reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--sides", default="nnunet,seg")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/equal_time"))
    given = parser.parse_args()
    out = given.out.resolve()
    bench = Bench(nnunet=given.nnunet.absolute(), work=out, data=given.data.resolve(), device=given.device)
    for side in given.sides.split(","):
        started = time.monotonic()
        predictions, said = {"nnunet": theirs, "seg": ours}[side](bench, given.minutes)
        took = time.monotonic() - started
        measured = out / f"{side}_measured"
        seg("evaluate", out / "training/raw/Dataset001_CT/labelsTr", predictions, "-o", measured)
        print(json.dumps({"side": side, "minutes": given.minutes, "all_s": round(took), **said,
                          "dice": json.loads((measured / "metrics.json").read_text())["mean"]["dice"]}), flush=True)


def theirs(bench: Bench, minutes: float) -> tuple[Path, dict[str, object]]:
    """nnU-Net's predictions of the validation cases, after so many minutes of training steps."""
    prepared = with_splits(bench)
    cores = str(os.cpu_count())
    here = evolve(at(bench, prepared), threads=cores)
    made = here.theirs("train_for", workers=2 if bench.device == "cpu" else 12, preprocessed=prepared.preprocessed,
                       seconds=60 * minutes, device=bench.device)
    return Path(made.figures.pop("validation")), {**made.figures, "peak_mb": round(made.peak_mb)}


def ours(bench: Bench, minutes: float) -> tuple[Path, dict[str, object]]:
    """Our predictions of the same cases: `seg run --budget` from the images on."""
    prepared = with_splits(bench)
    folder = bench.work / f"seg_{minutes:g}"
    made = run([Path(sys.executable).with_name("seg"), "run", prepared.raw, "-o", folder, "--splits",
                prepared.preprocessed / "Dataset001_CT/splits_final.json", "--config", "3d_fullres", "--fold", 0,
                "--budget", f"{minutes:g}m", "--device", bench.device], {"OMP_NUM_THREADS": str(os.cpu_count())})
    rows = (folder / "training/3d_fullres/fold_0/metrics.jsonl").read_text().splitlines()
    return folder / "validation/3d_fullres/fold_0", {"steps": json.loads(rows[-1])["step"],
                                                     "peak_mb": round(made.peak_mb)}


if __name__ == "__main__":
    main()
