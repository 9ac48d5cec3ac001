"""`seg predict` where something goes wrong besides: a drive that hangs, a signal, too little memory."""

import json
import shutil
import signal
import subprocess
import sys
from threading import Event, current_thread

import numpy as np
import pytest
import SimpleITK

import seg
import seg.model
import seg.peaks
import seg.stages.predict
from helpers import PLAIN
from seg.errors import Exit
from seg_cli.main import execute


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert execute(["run", str(data), "-o", str(folder), *PLAIN]) == 0
    return folder / "model"


@pytest.fixture
def three(data, tmp_path):
    """A folder with three images of the data set."""
    folder = tmp_path / "three"
    folder.mkdir()
    for index in range(3):
        shutil.copy(data / "imagesTr" / f"phantom_{index:03d}_0000.nii.gz", folder / f"case{index}.nii.gz")
    return folder


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith(".")}


def write_noise(file, shape):
    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).normal(300, 80, shape).astype(np.int16))
    image.SetSpacing((1.1, 0.9, 2.0))
    SimpleITK.WriteImage(image, str(file))


@pytest.mark.parametrize("limit", [(19_200_000 - 1, "an image of"), (19_200_000, "the prediction of")])
def test_a_case_that_does_not_fit_is_refused_and_the_others_are_predicted(
    limit, model, command, three, tmp_path, monkeypatch
):
    free, found = limit
    write_noise(three / "case1.nii.gz", (120, 200, 200))
    words = ["predict", "-m", model, "-i", three, "-o", tmp_path / "out"]
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: free)
    code, _, err = command(*words)
    assert code == Exit.PARTLY
    assert f"SEG-R04 error  case case1 · {three / 'case1.nii.gz'}" in err
    assert f"found {found}" in err
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"case0.nii.gz", "case2.nii.gz"}
    monkeypatch.setattr(seg.peaks, "available_memory", lambda: 0)
    assert command("predict", "-m", model, "-i", three, "-o", tmp_path / "none")[0] == Exit.RESOURCES


def test_a_case_without_room_for_its_maps_leaves_the_others(model, command, three, tmp_path, monkeypatch):
    find_room, usual = seg.model.find_room, 4 * 3 * 16 * 20 * 18

    def full(size, *rest):
        return find_room(size if size <= 2 * usual else 1 << 60, *rest)

    write_noise(three / "case0.nii.gz", (40, 44, 48))
    monkeypatch.setattr(seg.model, "find_room", full)
    code, _, err = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")
    assert code == Exit.PARTLY
    assert "SEG-R07 error  case case0" in err
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"case1.nii.gz", "case2.nii.gz"}


def test_a_file_that_never_comes_is_left_out_and_the_others_are_as_in_a_clean_run(
    model, three, command, tmp_path, monkeypatch
):
    """The thread that reads it hangs as in a system call on a drive that does not answer."""
    assert command("predict", "-m", model, "-i", three, "-o", tmp_path / "clean")[0] == 0
    answers, readers = Event(), []

    def hang(paths, *rest):
        if paths[0].name == "case1.nii.gz":
            readers.append(current_thread())
            answers.wait()
        return read_image(paths, *rest)

    read_image = seg.stages.predict.read_image
    monkeypatch.setattr(seg.stages.predict, "read_image", hang)
    code, out, err = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out", "--stall", "2")
    (reader,) = readers
    assert (code, reader.is_alive(), reader.daemon) == (Exit.PARTLY, True, True)
    assert "2 written" in out
    assert f"SEG-R10 error  case case1 · {three / 'case1.nii.gz'}" in err
    answers.set()
    reader.join()
    for name in ("case0.nii.gz", "case2.nii.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()
    assert not (tmp_path / "out/case1.nii.gz").exists()
    monkeypatch.undo()
    out = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")[1]
    assert "1 written" in out
    assert "2 kept" in out


def test_one_case_is_read_while_another_is_computed(model, command, three, tmp_path, monkeypatch):
    begun, reading = {f"case{number}": Event() for number in range(3)}, []
    read_image, predict_volume = seg.stages.predict.read_image, seg.Model.predict_volume

    def watch(paths, *rest):
        assert not reading  # one at a time
        reading.append(paths[0])
        begun[paths[0].name.removesuffix(".nii.gz")].set()
        found = read_image(paths, *rest)
        reading.clear()
        return found

    def wait(self, *given, case="", **more):
        begun[f"case{min(int(case[-1]) + 1, 2)}"].wait()
        return predict_volume(self, *given, case=case, **more)

    monkeypatch.setattr(seg.stages.predict, "read_image", watch)
    monkeypatch.setattr(seg.Model, "predict_volume", wait)
    code, out, _ = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")
    assert code == 0
    assert "3 written" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_leaves_a_whole_ledger_and_the_same_command_goes_on(number, code, model, three, command, tmp_path):
    """It comes while the second case is computed; the first one's files are written, but were not noted until then."""
    words = ["predict", "-m", str(model), "-i", str(three), "-o", str(tmp_path / "out")]
    program = f"""
import sys
import seg
from seg_cli.main import main
predict_volume = seg.Model.predict_volume

def wait(self, *given, case="", **more):
    while case == "case1":
        print("computing", file=sys.stderr, flush=True)
        import signal
        signal.pause()
    return predict_volume(self, *given, case=case, **more)

seg.Model.predict_volume = wait
sys.argv[1:] = {words!r}
main()
"""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        said = [next(line for line in process.stderr if "computing" in line)]
        process.send_signal(number)
        said += process.stderr.readlines()
    assert process.returncode == code, said
    assert "the same command goes on" in said[-1]
    ledger = json.loads((tmp_path / "out/predictions.json").read_text())
    assert list(ledger) == ["case0"]
    before = stamps(tmp_path / "out")["case0.nii.gz"]
    out = command(*words)[1]
    assert "2 written" in out
    assert "1 kept" in out
    assert stamps(tmp_path / "out")["case0.nii.gz"] == before
