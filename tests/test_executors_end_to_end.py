"""Folds side by side: the weights of a run in one process, whatever happens to one of them, or to all."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seg.errors import Exit
from seg.files import locked
from seg_cli.main import execute

TINY = ["--device", "cpu", "--epochs", "3", "--fold", "0,1", "--set", "train.steps_per_epoch=3", "--set",
        "architecture.features=4"]  # fmt: skip
DEVICES = ["--executor", "devices", "--set", "executor.devices=cpu,cpu"]
SEG = "from seg_cli.main import main; main()"
PLUGIN = """
import os, signal
from seg import hookimpl
@hookimpl
def seg_epoch_ended(fold, row):
    if (fold, row["epoch"]) == ("1", 2) and os.environ.get("FATE"):
        os.kill(os.getpid(), int(os.environ["FATE"]))
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Sums of other blocks are other sums."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr("seg.stages.report.write_report", lambda *_: None)  # the longest part of so short a run
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """The weights of folds that were trained one after the other in one process."""
    folder = tmp_path_factory.mktemp("straight")
    assert execute(["run", str(data), "-o", str(folder), *TINY]) == 0
    return weights(folder)


def weights(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("training/*/*/weights.safetensors")}


def test_side_by_side_gives_the_same_weights_and_a_killed_fold_leaves_the_other(
    data, straight, tmp_path, monkeypatch, capsys
):
    (tmp_path / "fate.py").write_text(PLUGIN)
    run = tmp_path / "run"
    words = ["run", str(data), "-o", str(run), *TINY, "--plugin", str(tmp_path / "fate.py")]
    monkeypatch.setenv("FATE", str(signal.SIGKILL))
    assert execute([*words, *DEVICES]) == Exit.RESOURCES
    err = capsys.readouterr().err
    assert "SEG-T02" in err
    assert "3d_fullres fold 1 was killed (SIGKILL); last said: " in err
    assert re.search(r"last said: .*epoch 2  step 6", err)
    assert "3d_fullres fold 0: epoch 3  step 9" in err
    done = Path("training/3d_fullres/fold_0/weights.safetensors")
    assert weights(run) == {done: straight[done]}
    assert (run / "validation/3d_fullres/fold_0/metrics.json").exists()
    before = (run / done).stat().st_mtime_ns

    monkeypatch.delenv("FATE")
    assert execute([*words, *DEVICES]) == 0
    assert weights(run) == straight
    assert (run / done).stat().st_mtime_ns == before
    log = (run / "training/3d_fullres/fold_1/log.txt").read_text()
    assert log.count("epoch 1  step 3") == 1  # it went on
    err = capsys.readouterr().err
    assert "3d_fullres fold 0: trained already" in err
    assert execute(words) == 0  # where it runs is no other setting
    assert weights(run) == straight


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_stops_all_in_order_and_another_executor_goes_on(data, straight, tmp_path, number, code):
    command = [sys.executable, "-c", SEG, "run", str(data), "-o", str(tmp_path), *TINY, *DEVICES]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        said = [next(line for line in process.stderr if "fold 1: epoch 1" in line)]
        process.send_signal(number)
        said += process.stderr.readlines()
    assert process.returncode == code, said
    assert "the same command goes on" in said[-1]
    with locked(tmp_path):
        pass
    for fold in ("0", "1"):
        with locked(tmp_path / f"training/3d_fullres/fold_{fold}"):  # nobody works in it any more
            pass
    assert execute(["run", str(data), "-o", str(tmp_path), *TINY]) == 0
    assert weights(tmp_path) == straight


def test_only_who_has_the_word_of_the_run_may_work_within_it(data, straight, tmp_path, capsys):
    assert execute(["run", str(data), "-o", str(tmp_path), *TINY, "--dry-run"]) == 0
    with locked(tmp_path) as word:
        assert execute(["train", str(tmp_path)]) == Exit.RESOURCES
        assert f"in use by process {os.getpid()}" in capsys.readouterr().err
        assert execute(["train", str(tmp_path), "--within", "guessed"]) == Exit.RESOURCES
        assert execute(["train", str(tmp_path), "--within", word]) == Exit.DATA  # there are no cases yet
    assert execute(["train", str(tmp_path), "--within", word]) == Exit.RESOURCES
    assert "has ended" in capsys.readouterr().err


def test_a_budgets_network_is_one_for_all_folds(data, tmp_path):
    words = ["run", str(data), "-o", str(tmp_path), "--device", "cpu", "--budget", "4s", "--fold", "0,1", *DEVICES]
    assert execute(words) == 0
    one, two = (path.read_bytes() for path in sorted(tmp_path.glob("training/3d_fullres/*/reduced.json")))
    assert one == two
