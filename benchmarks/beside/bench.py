"""How the parts measure: where, how often, a task of each side, data that both have preprocessed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from beside.cases import Cases, Network, plan, seg
from beside.processes import Run, in_turn, run

HERE = Path(__file__).parent


@frozen(kw_only=True)
class Bench:
    """Where and how to measure."""

    nnunet: Path  # a virtual environment
    work: Path
    data: Path | None = None  # of the Decathlon, for the trainings
    device: str = "cpu"
    quick: bool = False
    repeats: int = 3
    threads: str = "1"
    minutes: float = 30.0  # of training, each side

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
        numbers = {"nnUNet_n_proc_DA": str(workers), "OMP_NUM_THREADS": self.threads}
        return {**folders, **numbers, "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}


@frozen(kw_only=True)
class Prepared:
    """A data set that both have preprocessed by the same plan, each into its own store."""

    raw: Path
    folder: Path  # a run folder of ours
    preprocessed: Path  # theirs


def prepare(bench: Bench, name: str, cases: Cases, network: Network, spacing: tuple[float, ...] = ()) -> Prepared:
    """Generate, plan and preprocess; what is there already is kept."""
    raw, folder, preprocessed = (bench.work / name / kind for kind in ("raw", "run", "preprocessed"))
    prepared = Prepared(raw=raw, folder=folder, preprocessed=preprocessed)
    if not preprocessed.exists():
        network.change(plan(cases.write(raw), spacing))
        seg("preprocess", raw, "--plan", raw / "nnUNetPlans.json", "--config", "3d_fullres",
            "-o", folder / "cases/3d_fullres")
        for file in ("nnUNetPlans.json", "dataset.json"):
            shutil.copy(raw / file, folder)
        every = [f"ct{number}" for number in range(cases.count)]
        (folder / "splits.json").write_text(json.dumps([{"train": every, "val": []}]))
        at(bench, prepared).theirs("preprocess", data=raw, out=preprocessed)
    return prepared


def at(bench: Bench, prepared: Prepared) -> Bench:
    """The same, with nnU-Net's folders where the data set lies."""
    return evolve(bench, work=prepared.preprocessed.parent)


def pair(
    bench: Bench, prepared: Prepared, task: str, *, workers: int = 0, ours: Mapping[str, Any] | None = None, **both: Any
) -> dict[str, list[Run]]:
    """A task of both sides in turn, on one data set; `ours` are options that only our side has."""
    here = at(bench, prepared)
    return in_turn({
        "seg": lambda _: here.ours(task, folder=prepared.folder, **(ours or {}), **both),
        "nnU-Net": lambda _: here.theirs(task, workers=workers, preprocessed=prepared.preprocessed, **both),
    }, bench.repeats)


def compiled() -> str:
    """Whether nnU-Net compiles its network on a GPU, which is its default and left to its own variable."""
    on = os.environ.get("nnUNet_compile", "true").lower() in ("true", "1", "t")  # noqa: SIM112 - its name
    return "compiled" if on else "not compiled"


def skip(text: str) -> None:
    """Say that a part has nothing to measure here."""
    print(text, file=sys.stderr)
