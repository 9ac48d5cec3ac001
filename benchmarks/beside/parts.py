"""The parts of the comparison: each gives its rows. Both programs follow one plan, in turn (A B A B …)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from beside.bench import Bench, Prepared, at, compiled, pair, prepare, skip
from beside.cases import SEG, Cases, Network, agreement, seg
from beside.processes import Run, in_turn, run
from beside.table import Row
from beside.training import training

UNET = (32, 64, 128, 256, 320, 320)
SMALL_BATCH = 2
LARGE = Network(patch=(128, 128, 128), batch=2, features=UNET)


def preprocessing(bench: Bench) -> list[Row]:
    """One CT of 128×256×256 with 3 and with 14 labels."""
    import ct_case

    rows = []
    for classes in (3, 14):
        shape = (32, 64, 64) if bench.quick else ct_case.SHAPE
        found = ct_case.measure(bench.nnunet, classes, bench.repeats, shape)
        what = f"CT {'×'.join(map(str, shape))}, {classes} labels"
        for key, unit, at_most in (("cpu_s", "s", 1 / 6), ("rise_mb", "MB", 1 / 4)):
            ours, theirs = ([row[key] for row in found[name]] for name in ("seg", "nnU-Net"))
            name = "processor" if unit == "s" else "rise of the memory"
            rows.append(Row(part="preprocessing", what=f"{what}: {name}", unit=unit, ours=ours, theirs=theirs,
                            at_most=None if bench.quick else at_most))
    return rows


def step(bench: Bench) -> list[Row]:
    """A training step: on a CPU with and without its data, on a GPU on one batch (see `epoch`)."""
    if bench.device != "cpu":
        large = prepare(bench, "large", _large(bench), LARGE)
        return _steps(bench, large, "128³, batch 2, 31 M parameters", fixed=True, autocast="auto")
    cases = Cases(shape=(36, 50, 35), count=6)
    features = (8, 16, 32) if bench.quick else (32, 64, 128, 256)
    rows = []
    for batch in (2,) if bench.quick else (2, 9):
        prepared = prepare(bench, f"step{batch}", cases, Network(patch=(40, 56, 40), batch=batch, features=features))
        what = f"40×56×40, batch {batch}, features {'-'.join(map(str, features))}"
        rows += _steps(bench, prepared, what, fixed=False, autocast="auto")
        if batch == SMALL_BATCH:  # without its data, and in the same arithmetic: nnU-Net's large batch takes minutes
            rows += _steps(bench, prepared, what, fixed=True, autocast="auto")
            rows += _steps(bench, prepared, what, fixed=True, autocast="off")
    return rows


def _steps(bench: Bench, prepared: Prepared, what: str, *, fixed: bool, autocast: str) -> list[Row]:
    counts = (1, 4) if bench.device == "cpu" else (10, 50)
    found = pair(bench, prepared, "step", ours={"autocast": autocast}, device=bench.device, fixed=fixed,
                 warm=counts[0], steps=counts[1])
    data = "one batch" if fixed else "with data and augmentation"
    cpu = bench.device == "cpu"
    remark = f"nnU-Net {compiled()}, float16; seg bfloat16"
    if cpu:
        remark = "both float32" if autocast == "off" else "nnU-Net float32, seg 16-bit where there is bfloat16"
    target = None if autocast == "off" or bench.quick else 0.55
    row = _row("step", f"{what}, {data}", found, "seconds", "s", at_most=target,
               remark=remark + ("" if fixed else "; cases: nnU-Net mapped files, seg memory; means of "
                                f"{counts[1]} steps, own draws"))
    memory = _peaks("step", f"{what}, {data}: peak memory", found)
    return [row, memory] if cpu else [row, _row("step", f"{what}, {data}: GPU memory", found, "gpu_mb", "MB")]


def _row(part: str, what: str, found: dict[str, list[Run]], key: str, unit: str, **more: Any) -> Row:
    """A row of a figure that both sides said."""
    ours, theirs = ([float(one.figures[key]) for one in found[name]] for name in ("seg", "nnU-Net"))
    return Row(part=part, what=what, unit=unit, ours=ours, theirs=theirs, **more)


def _peaks(part: str, what: str, found: dict[str, list[Run]], **more: Any) -> Row:
    """A row of the peaks of both process trees, imports included."""
    ours, theirs = ([one.peak_mb for one in found[name]] for name in ("seg", "nnU-Net"))
    return Row(part=part, what=what, unit="MB", ours=ours, theirs=theirs, **more)


def _large(bench: Bench, classes: int = 2) -> Cases:
    return Cases(shape=(96, 96, 96) if bench.quick else (256, 256, 256), classes=classes)


def augmentation(bench: Bench) -> list[Row]:
    """One augmented sample of 128³, 3 and 14 labels (the background is one)."""
    rows, side = [], 48 if bench.quick else 128
    for labels, target in ((3, 1 / 1.7), (14, 1 / 3)):
        network = Network(patch=(side, side, side), batch=2, features=(4, 8, 16))
        prepared = prepare(bench, f"augmentation{labels}", _large(bench, labels - 1), network)
        samples = 8 if bench.quick else 60
        found = pair(bench, prepared, "augmentation", device=bench.device, samples=samples)
        rows.append(_row("augmentation", f"{side}³, {labels} labels", found, "seconds", "s",
                         at_most=None if bench.quick else target,
                         remark=f"means of {samples} samples, own draws; cases: nnU-Net mapped files, seg memory"
                         + ("" if bench.device == "cpu" else "; nnU-Net on one core, seg on the GPU")))
    return rows


@frozen(kw_only=True)
class Models:
    """A trained network in both formats, and the image it is asked about."""

    theirs: Path
    ours: Path
    image: Path


def models(bench: Bench) -> Models:
    """nnU-Net trains a small network for some steps; seg imports it. What is there already is kept."""
    shape = (48, 96, 96) if bench.quick else (128, 256, 256)
    patch = (32, 48, 48) if bench.quick else (64, 64, 64)
    prepared = prepare(bench, "model", Cases(shape=shape, spacing=(3.0, 0.9, 0.9), classes=3),
                       Network(patch=patch, batch=2, features=(8, 16, 32, 64)), (3.0, 1.6, 1.6))
    imported, kept = prepared.raw.with_name("imported"), prepared.raw.with_name("model.json")
    if not kept.exists():
        here = evolve(at(bench, prepared), threads=str(os.cpu_count()))
        made = here.theirs("model", preprocessed=prepared.preprocessed, steps=100)
        seg("import-nnunet", made.figures["folder"], "-o", imported)
        kept.write_text(json.dumps(made.figures))
    return Models(theirs=Path(json.loads(kept.read_text())["folder"]), ours=imported,
                  image=prepared.raw / "imagesTr/ct0_0000.nii.gz")


def prediction(bench: Bench) -> list[Row]:
    """A whole case with mirroring, from file to label map: each a command's whole process."""
    made, out = models(bench), bench.work / "predictions"
    shutil.rmtree(out, ignore_errors=True)  # or what is there of the last call would be kept
    sides = {"float32": ["--autocast", "off"], "16-bit": ["--autocast", "on"]}
    help_text = subprocess.run([SEG, "predict", "--help"], check=True, capture_output=True, text=True).stdout
    if "--backend" in help_text:
        sides["openvino"] = ["--backend", "openvino", "--autocast", "off"]
    calls: dict[str, Callable[[int], Run]] = {
        name: partial(_predict, bench, made, out / name, options) for name, options in sides.items()}
    calls["nnU-Net"] = lambda _: bench.theirs("predict", model=made.theirs, image=made.image,
                                              out=out / "theirs/ct0.nii.gz", device=bench.device)
    found = in_turn(calls, bench.repeats)
    rows = []
    for name in sides:
        pair = {"seg": found[name], "nnU-Net": found["nnU-Net"]}
        rows += _prediction_rows(bench, name, pair)
        dice = agreement(out / name / f"{bench.repeats - 1}/ct0.nii.gz", out / "theirs/ct0.nii.gz")
        rows.append(Row(part="prediction", what=f"{name}: Dice of the two label maps", unit="", ours=[dice],
                        at_least=0.9999 if name == "float32" and bench.device == "cpu" else 0.998,
                        remark="nnU-Net keeps its maps in float16"))
    return rows


def _predict(bench: Bench, made: Models, out: Path, options: list[str], turn: int) -> Run:
    """One prediction of ours, each in a folder of its own: whole outputs are kept."""
    return run([SEG, "predict", "-m", made.ours, "-i", made.image, "-o", out / str(turn), "--device", bench.device,
                *options])


def _prediction_rows(bench: Bench, name: str, pair: dict[str, list[Run]]) -> list[Row]:
    target = None if name == "float32" and bench.device != "cpu" else 0.55
    rows = []
    for quantity, pick, at_most in (("processor", lambda one: one.cpu_s, target if bench.device == "cpu" else None),
                                    ("clock", lambda one: one.wall_s, target if bench.device != "cpu" else None)):
        ours, theirs = ([pick(one) for one in pair[side]] for side in ("seg", "nnU-Net"))
        rows.append(Row(part="prediction", what=f"{name}: {quantity}", unit="s", ours=ours, theirs=theirs,
                        at_most=None if bench.quick else at_most,
                        remark="" if quantity == "clock" else "nnU-Net float32 on a CPU" if bench.device == "cpu"
                        else "nnU-Net float16"))
    return [*rows, _peaks("prediction", f"{name}: peak memory", pair, at_most=None if bench.quick else 1 / 4,
                          remark="the whole process, imports included")]


def start(bench: Bench) -> list[Row]:
    """One small image, from the start of the command to its end, by the clock."""
    made, small = models(bench), bench.work / "small"
    if not small.exists():
        Cases(shape=(24, 32, 32), spacing=(3.0, 1.6, 1.6), classes=3).write(small)
    image, theirs = small / "imagesTr/ct0_0000.nii.gz", bench.nnunet / "bin/nnUNetv2_predict_from_modelfolder"
    asked = ["-i", image.parent, "-m", made.theirs, "-f", "all", "-device", bench.device, "-npp", 1, "-nps", 1]
    for folder in bench.work.glob("start*"):
        shutil.rmtree(folder)  # as above
    found = in_turn({
        "seg": lambda turn: run([SEG, "predict", "-m", made.ours, "-i", image, "-o", bench.work / f"start{turn}",
                                 "--device", bench.device]),
        "nnU-Net": lambda turn: run([theirs, *asked, "-o", bench.work / f"their_start{turn}"], bench.environment()),
    }, 2 if bench.quick else 5)
    ours, other = ([one.wall_s for one in found[name]] for name in ("seg", "nnU-Net"))
    what = "an image of 24×32×32, clock"
    return [Row(part="start", what=what, unit="s", ours=ours, theirs=other, remark="nnU-Net with -npp 1 -nps 1"),
            Row(part="start", what=f"{what}, best", unit="s", ours=[min(ours)], at_most=4.0),
            _peaks("start", "an image of 24×32×32: peak memory", found)]


def epoch(bench: Bench) -> list[Row]:
    """Training steps with full augmentation beside the network, on a GPU."""
    if bench.device == "cpu":
        skip("epoch: only with --device cuda")
        return []
    steps = 50 if bench.quick else 250
    rows = []
    for what, prepared in _gpu_plans(bench).items():
        found = pair(evolve(bench, repeats=min(bench.repeats, 2)), prepared, "step", workers=12,
                     ours={"autocast": "auto"}, device=bench.device, fixed=False, warm=20, steps=steps)
        rows.append(_row("epoch", f"a step of {what}, with data", found, "seconds", "s", at_most=0.55,
                         remark=f"{steps} steps; nnU-Net {compiled()}, 12 workers, without its validation batches"))
        rows.append(_row("epoch", f"{what}: GPU memory", found, "gpu_mb", "MB"))
    return rows


def levers(bench: Bench) -> list[Row]:
    """What the fused norm and the recorded step each do for a step on one batch, on a GPU; by seg alone."""
    if bench.device == "cpu":
        skip("levers: only with --device cuda")
        return []
    rows = []
    for what, prepared in _gpu_plans(bench).items():
        for fused, graph in ((True, "on"), (True, "off"), (False, "on"), (False, "off")):
            found = bench.ours("step", folder=prepared.folder, device=bench.device, warm=20, steps=50, fixed=True,
                               autocast="auto", graph=graph, fused=fused)
            named = f"{what}: {'with' if fused else 'without'} the fused norm, graph {graph}"
            rows.append(Row(part="levers", what=named, unit="s", ours=[found.figures["seconds"]],
                            remark=found.figures["said"]))
    return rows


def _gpu_plans(bench: Bench) -> dict[str, Prepared]:
    small = Network(patch=(40, 56, 40), batch=9, features=UNET[:4])
    return {"40×56×40, batch 9": prepare(bench, "step9", Cases(shape=(36, 50, 35), count=6), small),
            "128³, batch 2": prepare(bench, "large", _large(bench), LARGE)}


def memory(bench: Bench) -> list[Row]:
    """Prediction of 118 classes on 300×512×512 voxels, by seg alone."""
    options = ["--classes", 20, "--shape", "60,128,128"] if bench.quick else []
    found = run([sys.executable, Path(__file__).parents[1] / "many_classes.py", *options])
    what = "20 classes, 60×128×128" if bench.quick else "118 classes, 300×512×512"
    remark = "a stub for the network; nnU-Net not run: its logits alone take 11 GB"
    return [Row(part="memory", what=f"{what}: peak", unit="MB", ours=[found.peak_mb], at_most=4096, remark=remark),
            Row(part="memory", what=f"{what}: clock", unit="s", ours=[found.wall_s])]


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "preprocessing": preprocessing, "step": step, "augmentation": augmentation, "prediction": prediction,
    "start": start, "memory": memory, "epoch": epoch, "levers": levers, "training": training}
