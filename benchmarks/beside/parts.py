"""The parts of the comparison: each gives its rows. Both programs follow one plan, in turn (A B A B …)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import field, frozen

from beside.cases import SEG, Cases, Network, agreement, plan, seg
from beside.processes import Run, in_turn, run
from beside.table import Row

HERE = Path(__file__).parent
UNET = (32, 64, 128, 256, 320, 320)


@frozen(kw_only=True)
class Bench:
    """Where and how to measure."""

    nnunet: Path  # a virtual environment
    work: Path
    device: str = "cpu"
    quick: bool = False
    repeats: int = 3
    said: Callable[[str], None] = field(default=print)

    @property
    def quantity(self) -> str:
        """What a second is, on this device."""
        return "processor" if self.device == "cpu" else "clock"

    def ours(self, task: str, **options: Any) -> Run:
        """A task of ours.py."""
        return run([sys.executable, HERE / "ours.py", task, json.dumps(options, default=str)])

    def theirs(self, task: str, *, workers: int = 0, **options: Any) -> Run:
        """A task of theirs.py; 0 workers: its batches are made where they are used."""
        return run([self.nnunet / "bin/python", HERE / "theirs.py", task, json.dumps(options, default=str)],
                   self.environment(workers))

    def environment(self, workers: int = 0) -> dict[str, str]:
        """nnU-Net's own, without seg's."""
        folders = {f"nnUNet_{name}": str(self.work / name) for name in ("raw", "preprocessed", "results")}
        return {**folders, "nnUNet_n_proc_DA": str(workers), "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}

    def seconds(self, one: Run) -> float:
        """Of the processor on a CPU, by the clock on a GPU."""
        return one.cpu_s if self.device == "cpu" else one.wall_s


@frozen(kw_only=True)
class Prepared:
    """A data set that both have preprocessed by the same plan, each into its own store."""

    raw: Path
    folder: Path  # a run folder of ours
    preprocessed: Path  # theirs


def prepare(bench: Bench, name: str, cases: Cases, network: Network, spacing: tuple[float, ...] = ()) -> Prepared:
    """Generate, plan and preprocess; what is there already is kept."""
    raw, folder, preprocessed = (bench.work / name / kind for kind in ("raw", "run", "preprocessed"))
    if not preprocessed.exists():
        network.change(plan(cases.write(raw), spacing))
        seg("preprocess", raw, "--plan", raw / "nnUNetPlans.json", "--config", "3d_fullres",
            "-o", folder / "cases/3d_fullres")
        for name in ("nnUNetPlans.json", "dataset.json"):
            shutil.copy(raw / name, folder)
        every = [f"ct{number}" for number in range(cases.count)]
        (folder / "splits.json").write_text(json.dumps([{"train": every, "val": []}]))
        scaled(bench, preprocessed).theirs("preprocess", data=raw, out=preprocessed)
    return Prepared(raw=raw, folder=folder, preprocessed=preprocessed)


def scaled(bench: Bench, preprocessed: Path) -> Bench:
    """The same, with nnU-Net's folders where a data set lies; `preprocessed` is the one of them that matters."""
    from attrs import evolve

    return evolve(bench, work=preprocessed.parent)


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
        large = prepare(bench, "large", _large(bench), Network(patch=(128, 128, 128), batch=2, features=UNET))
        return _steps(bench, large, "128³, batch 2, 31 M parameters", fixed=True, autocast="auto")
    cases = Cases(shape=(36, 50, 35), count=6)
    features = (8, 16, 32) if bench.quick else (32, 64, 128, 256)
    rows = []
    for batch in (2,) if bench.quick else (2, 9):
        prepared = prepare(bench, f"step{batch}", cases, Network(patch=(40, 56, 40), batch=batch, features=features))
        what = f"40×56×40, batch {batch}, features {'-'.join(map(str, features))}"
        for fixed in (False, True):
            rows += _steps(bench, prepared, what, fixed=fixed, autocast="auto")
        rows += _steps(bench, prepared, what, fixed=True, autocast="off")
    return rows


def _steps(bench: Bench, prepared: Prepared, what: str, *, fixed: bool, autocast: str) -> list[Row]:
    here = scaled(bench, prepared.preprocessed)
    counts = (2, 4) if bench.quick else (2, 10) if bench.device == "cpu" else (10, 50)
    common = {"device": bench.device, "fixed": fixed, "warm": counts[0], "steps": counts[1]}
    found = in_turn({"seg": lambda _: here.ours("step", folder=prepared.folder, autocast=autocast, **common),
                     "nnU-Net": lambda _: here.theirs("step", preprocessed=prepared.preprocessed, **common)},
                    bench.repeats)
    data = "one batch" if fixed else "with data and augmentation"
    cpu = bench.device == "cpu"
    remark = "both float32" if autocast == "off" else "nnU-Net float32, seg 16-bit where there is bfloat16" if cpu else \
        "nnU-Net compiled, float16; seg bfloat16"
    target = None if autocast == "off" or bench.quick else 0.55
    row = _row(bench, "step", f"{what}, {data}", found, "seconds", "s", at_most=target,
               remark=remark + ("" if fixed else "; cases: nnU-Net mapped files, seg memory; means of "
                                f"{counts[1]} steps, own draws"))
    memory = _peaks("step", f"{what}, {data}: peak memory", found)
    return [row, memory] if cpu else [row, _row(bench, "step", f"{what}, {data}: GPU memory", found, "gpu_mb", "MB")]


def _row(bench: Bench, part: str, what: str, found: dict[str, list[Run]], key: str, unit: str, **more: Any) -> Row:
    """A row of a figure that both sides said."""
    del bench
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
        here, samples = scaled(bench, prepared.preprocessed), 8 if bench.quick else 60
        common = {"device": bench.device, "samples": samples}
        found = in_turn({"seg": lambda _, p=prepared, b=here: b.ours("augmentation", folder=p.folder, **common),
                         "nnU-Net": lambda _, p=prepared, b=here: b.theirs("augmentation", preprocessed=p.preprocessed,
                                                                          **common)}, bench.repeats)
        rows.append(_row(bench, "augmentation", f"{side}³, {labels} labels", found, "seconds", "s",
                         at_most=None if bench.quick else target,
                         remark=f"means of {samples} samples, own draws; cases: nnU-Net mapped files, seg memory"))
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
        made = scaled(bench, prepared.preprocessed).theirs("model", preprocessed=prepared.preprocessed,
                                                           steps=40 if bench.quick else 100)
        seg("import-nnunet", made.figures["folder"], "-o", imported)
        kept.write_text(json.dumps(made.figures))
    return Models(theirs=Path(json.loads(kept.read_text())["folder"]), ours=imported,
                  image=prepared.raw / "imagesTr/ct0_0000.nii.gz")


def prediction(bench: Bench) -> list[Row]:
    """A whole case with mirroring, from file to label map: each a command's whole process."""
    made, out = models(bench), bench.work / "predictions"
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
                        at_least=0.9999 if name == "float32" else 0.998))
    return rows


def _predict(bench: Bench, made: Models, out: Path, options: list[str], turn: int) -> Run:
    """One prediction of ours, each in a folder of its own: whole outputs are kept."""
    return run([SEG, "predict", "-m", made.ours, "-i", made.image, "-o", out / str(turn), "--device", bench.device,
                *options])


def _prediction_rows(bench: Bench, name: str, pair: dict[str, list[Run]]) -> list[Row]:
    target = 0.55 if name != "openvino" else 0.45
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
        bench.said("epoch: only on a GPU")
        return []
    steps = 50 if bench.quick else 250
    plans = {"40×56×40, batch 9": (Cases(shape=(36, 50, 35), count=6),
                                   Network(patch=(40, 56, 40), batch=9, features=UNET[:4])),
             "128³, batch 2": (_large(bench), Network(patch=(128, 128, 128), batch=2, features=UNET))}
    rows = []
    for number, (what, (cases, network)) in enumerate(plans.items()):
        prepared = prepare(bench, ("step9", "large")[number], cases, network)
        here = scaled(bench, prepared.preprocessed)
        common = {"device": bench.device, "fixed": False, "warm": 20, "steps": steps}
        found = in_turn({
            "seg": lambda _, p=prepared, b=here: b.ours("step", folder=p.folder, autocast="auto", **common),
            "nnU-Net": lambda _, p=prepared, b=here: b.theirs("step", workers=12, preprocessed=p.preprocessed,
                                                             **common)}, min(bench.repeats, 2))
        rows.append(_row(bench, "epoch", f"a step of {what}, with data", found, "seconds", "s", at_most=0.55,
                         remark=f"{steps} steps; nnU-Net with 12 workers and compiled; its validation batches left out"))
        rows.append(_row(bench, "epoch", f"{what}: GPU memory", found, "gpu_mb", "MB"))
    return rows


def memory(bench: Bench) -> list[Row]:
    """Prediction of 118 classes on 300×512×512 voxels, by seg alone."""
    options = ["--classes", 20, "--shape", "60,128,128"] if bench.quick else []
    found = run([sys.executable, HERE.parent / "many_classes.py", *options])
    what = "20 classes, 60×128×128" if bench.quick else "118 classes, 300×512×512"
    remark = "a stub for the network; nnU-Net not run: its logits alone take 11 GB"
    return [Row(part="memory", what=f"{what}: peak", unit="MB", ours=[found.peak_mb], at_most=4096, remark=remark),
            Row(part="memory", what=f"{what}: clock", unit="s", ours=[found.wall_s])]


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "preprocessing": preprocessing, "step": step, "augmentation": augmentation, "prediction": prediction,
    "start": start, "memory": memory, "epoch": epoch}
