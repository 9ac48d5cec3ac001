"""The side of nnU-Net v2: runs in the environment that has it, one task a process, the figures in the last line.

`python theirs.py TASK JSON`; side_by_side.py makes the JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from clock import gpu_mb, mean_seconds, say

NAME, PLANS, CONFIGURATION = "Dataset001_CT", "nnUNetPlans", "3d_fullres"


def preprocess(data: str, out: str) -> None:
    """All cases of a data set, as `nnUNetv2_preprocess` leaves them."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    raw, folder = Path(data), Path(out) / NAME
    (folder / f"{PLANS}_{CONFIGURATION}").mkdir(parents=True)
    for name in ("dataset.json", "dataset_fingerprint.json", f"{PLANS}.json"):
        shutil.copy(raw / name, folder)
    shutil.copytree(raw / "labelsTr", folder / "gt_segmentations")
    plans = PlansManager(str(raw / f"{PLANS}.json"))
    description = json.loads((raw / "dataset.json").read_text())
    for label in sorted((raw / "labelsTr").iterdir()):
        case = label.name.removesuffix(".nii.gz")
        DefaultPreprocessor(verbose=False).run_case_save(
            str(folder / f"{PLANS}_{CONFIGURATION}" / case), [str(raw / "imagesTr" / f"{case}_0000.nii.gz")],
            str(label), plans, plans.get_configuration(CONFIGURATION), description)
    _write_folds(folder, [label.name.removesuffix(".nii.gz") for label in sorted((raw / "labelsTr").iterdir())])
    say()


def _write_folds(folder: Path, cases: list[str], count: int = 5) -> None:
    """Its own folds, which its trainer would make at its start; none for a few cases."""
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    if len(cases) >= count:
        splits = generate_crossval_split(cases, seed=12345, n_splits=count)
        (folder / "splits_final.json").write_text(json.dumps(splits))


def step(preprocessed: str, device: str, warm: int, steps: int, *, fixed: bool) -> None:
    """Training steps, each on a new batch, or all on one; with workers where `nnUNet_n_proc_DA` asks for them."""
    trainer = _trainer(preprocessed, device)
    batch = next(trainer.dataloader_train)
    if fixed:
        batch = {"data": batch["data"].to(device), "target": [one.to(device) for one in batch["target"]]}

    def once() -> None:
        trainer.train_step(batch if fixed else next(trainer.dataloader_train))

    mean_seconds(once, warm, device)
    say(seconds=mean_seconds(once, steps, device), gpu_mb=gpu_mb(device))
    _finish(trainer)


def augmentation(preprocessed: str, device: str, samples: int) -> None:
    """Augmented samples, cut from stored cases; always on the processor, `device` says which time counts."""
    trainer = _trainer(preprocessed, "cpu")
    batch = trainer.configuration_manager.batch_size
    next(trainer.dataloader_train)
    found = mean_seconds(lambda: next(trainer.dataloader_train), -(-samples // batch), device)
    say(seconds=found / batch)


def model(preprocessed: str, steps: int) -> None:
    """A model folder whose network made so many steps."""
    trainer = _trainer(preprocessed, "cpu")
    folder = Path(trainer.output_folder_base)
    losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(steps)]
    for name, kept in ((f"{PLANS}.json", "plans.json"), ("dataset.json", "dataset.json"),
                       ("dataset_fingerprint.json", "dataset_fingerprint.json")):
        shutil.copy(Path(preprocessed) / NAME / name, folder / kept)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    say(folder=str(folder), first=losses[0], last=losses[-1])


def train_for(preprocessed: str, seconds: float, device: str) -> None:
    """Fold 0, its default trainer's steps for so long, the rate falling with the clock; then its own validation."""
    trainer = _trainer(preprocessed, device, fold=0)
    first, steps, started, losses = trainer.initial_lr, 0, time.monotonic(), []
    while (done := (time.monotonic() - started) / seconds) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = first * (1 - done) ** 0.9  # its PolyLRScheduler
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
        steps += 1
        if steps % 50 == 0:
            print(steps, round(time.monotonic() - started), sum(losses[-50:]) / 50, flush=True)
    trained = time.monotonic() - started
    _finish(trainer)
    trainer.perform_actual_validation(save_probabilities=False)
    say(steps=steps, trained_s=round(trained), validation=str(Path(trainer.output_folder) / "validation"))


def predict(model: str, image: str, out: str, device: str) -> None:
    """A whole case with mirroring, written as a label map, in one process."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    Path(out).parent.mkdir(parents=True, exist_ok=True)
    predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, ("all",), "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[image]], [out.removesuffix(".nii.gz")])
    say(gpu_mb=gpu_mb(device))


def versions() -> None:
    """Of what decides figures."""
    from importlib.metadata import version

    import torch

    say(nnunetv2=version("nnunetv2"), torch=torch.__version__, cudnn=torch.backends.cudnn.version(),
        cuda=torch.version.cuda)


def _trainer(preprocessed: str, device: str, fold: int | str = "all") -> Any:
    """A trainer with its network and its batches, on all cases or on those of a fold."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = Path(preprocessed) / NAME
    plans = {**json.loads((folder / f"{PLANS}.json").read_text()), "continue_training": False}
    trainer = nnUNetTrainer(plans, CONFIGURATION, fold, json.loads((folder / "dataset.json").read_text()),
                            torch.device(device))
    if device != "cpu":
        torch.backends.cudnn.benchmark = True  # as nnUNetv2_train does
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    return trainer


def _finish(trainer: Any) -> None:
    """Stop the workers, where there are any."""
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()  # noqa: SLF001 - as it does itself


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
