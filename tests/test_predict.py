"""`seg predict` and `seg.load`: grids, formats, values, and one bad input among good ones."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK
import torch

import seg
from seg.errors import Exit, SegError
from seg.phantom import write_phantom
from seg_cli.main import execute

TINY = ["--postprocessor", "none", "--device", "cpu",
        "--epochs", "1", "--fold", "0", "--set", "train.steps_per_epoch=2",
        "--set", "architecture.features=4"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(folder, cases=5, shape=(16, 20, 18))
    return folder


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert execute(["run", str(data), "-o", str(folder), *TINY]) == 0
    return folder / "model"


@pytest.fixture(scope="module")
def flat_model(tmp_path_factory):
    """A 2-D model whose class has the file value 255."""
    folder = tmp_path_factory.mktemp("flat")
    rng = np.random.default_rng(0)
    for index in range(5):
        label = np.zeros((40, 48), np.uint8)
        label[8:30, 10 + index: 34] = 255
        image = (40 + label // 2 + rng.integers(0, 9, label.shape)).astype(np.uint8)
        for name, array in (("images", image), ("labels", label)):
            (folder / name).mkdir(exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / name / f"s{index}.png"))
    words = ["run", str(folder), "-o", str(folder / "run"), "--labels", "cell=255", *TINY]
    words[words.index("train.steps_per_epoch=2")] = "train.steps_per_epoch=12"
    assert execute(words) == 0
    return folder / "run/model"


@pytest.fixture
def command(capsys):
    """Run a command; exit code, standard output, standard error."""
    def call(*words):
        code = execute([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


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


def volume(seed=0, shape=(14, 19, 16)):
    """An image on an oblique grid far from the origin."""
    rng = np.random.default_rng(seed)
    image = SimpleITK.GetImageFromArray(rng.normal(300, 80, shape).astype(np.int16))
    image.SetSpacing((1.1, 0.9, 2.0))
    image.SetOrigin((-120.5, 33.25, 1e4))
    angle = 0.4
    image.SetDirection((np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1))
    return image


def same_grid(one, other):
    assert one.GetSize() == other.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(one, name)(), getattr(other, name)(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_the_output_has_the_name_the_format_and_the_grid_of_the_input(ending, model, command, tmp_path):
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / f"a case (1){ending}"
    SimpleITK.WriteImage(volume(), str(file))
    code, out, _ = command("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    assert "1 written" in out
    found, given = (SimpleITK.ReadImage(str(path)) for path in (tmp_path / "out" / file.name, file))
    same_grid(found, given)
    assert set(np.unique(SimpleITK.GetArrayFromImage(found))) <= {0, 1, 2}


def test_the_format_changes_nothing_in_the_prediction(model, command, tmp_path):
    (tmp_path / "in").mkdir()
    for number, ending in enumerate((".nii.gz", ".nrrd", ".mha")):
        SimpleITK.WriteImage(volume(), str(tmp_path / "in" / f"c{number}{ending}"))
    assert command("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    arrays = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
              for path in sorted((tmp_path / "out").glob("c*"))]
    assert len(arrays) == 3
    assert all((array == arrays[0]).all() for array in arrays)


def test_pngs_and_values_of_their_own(flat_model, command, tmp_path):
    code, _, _ = command("predict", "-m", flat_model, "-i", flat_model.parents[1] / "images", "-o", tmp_path)
    assert code == 0
    arrays = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) for path in sorted(tmp_path.glob("*.png"))]
    assert [array.shape for array in arrays] == [(40, 48)] * 5
    assert {int(value) for array in arrays for value in np.unique(array)} == {0, 255}


def test_one_of_three_is_unreadable_and_the_others_are_predicted(model, command, three, tmp_path):
    bad = three / "case1.nii.gz"
    bad.write_bytes(bad.read_bytes()[:400])
    code, out, err = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")
    assert code == Exit.PARTLY
    assert "2 written" in out
    assert "1 refused" in out
    assert f"SEG-D07 error  case case1 · {bad}" in err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["case0.nii.gz", "case2.nii.gz"]


@pytest.mark.parametrize("kind", ["empty", "text", "folder", "dangling", "nan", "colours", "flat"])
def test_whatever_is_wrong_with_one_the_others_are_as_in_a_clean_run(kind, model, command, three, tmp_path):
    assert command("predict", "-m", model, "-i", three, "-o", tmp_path / "clean")[0] == 0
    bad = three / "case1.nii.gz"
    bad.unlink()
    if kind == "empty":
        bad.write_bytes(b"")
    elif kind == "text":
        bad.write_text("this is no image")
    elif kind == "folder":
        bad.mkdir()
    elif kind == "dangling":
        bad.symlink_to(three / "nowhere.nii.gz")
    else:
        array = {"nan": np.full((9, 9, 9), np.nan, np.float32), "colours": np.zeros((9, 9, 9, 3), np.uint8),
                 "flat": np.zeros((30, 30), np.int16)}[kind]  # fmt: skip
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=kind == "colours"), str(bad))
    code, _, err = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")
    assert code == Exit.PARTLY
    assert "case case1" in err
    for name in ("case0.nii.gz", "case2.nii.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()
    assert not (tmp_path / "out/case1.nii.gz").exists()


@pytest.mark.parametrize("spacing", [(3e4, 3e4, 3e4), (1e3, 1e3, 1e3)])
def test_a_spacing_of_the_wrong_unit_is_refused_before_memory_is_taken(spacing, model, command, tmp_path):
    image = volume(shape=(40, 64, 64))
    image.SetSpacing(spacing)
    (tmp_path / "in").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "in/far.nii.gz"))
    code, _, err = command("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert code == Exit.DATA
    assert "SEG-D16 error  case far" in err
    assert "GB in memory" in err


def test_a_case_that_lies_otherwise_than_the_training_is_a_warning_with_the_counts(model, command, three, tmp_path):
    file = three / "case1.nii.gz"
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(file)), "SAR"), str(file))
    code, out, err = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")
    assert (code, err.count("SEG-D19")) == (0, 1)
    assert "3 written" in out
    (usual,) = json.loads((model / "model.json").read_text())["orientations"]
    assert f"SEG-D19 warning  case case1 · {file}" in err
    assert "orientation SAR" in err
    assert f"one of the training's: 5 {usual}" in err


@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
])  # fmt: skip
def test_a_case_that_is_too_large_for_the_memory_leaves_the_others(error, model, command, three, tmp_path, monkeypatch):
    predict_volume = seg.Model.predict_volume

    def full(self, array, spacing, *, probabilities=False, case=""):
        if case == "case1":
            raise error
        return predict_volume(self, array, spacing, probabilities=probabilities, case=case)

    monkeypatch.setattr(seg.Model, "predict_volume", full)
    code, _, err = command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")
    assert code == Exit.PARTLY
    assert "SEG-R04 error  case case1" in err
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"case0.nii.gz", "case2.nii.gz"}


def test_all_refused_is_exit_3(model, command, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.nii.gz").write_bytes(b"no image")
    code, out, _ = command("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert code == Exit.DATA
    assert "0 written" in out


def test_a_second_call_keeps_what_is_whole_and_redoes_what_is_not(model, command, three, tmp_path):
    out_folder = tmp_path / "out"
    words = ["predict", "-m", model, "-i", three, "-o", out_folder]
    assert command(*words)[0] == 0
    before = stamps(out_folder)
    contents = {name: (out_folder / name).read_bytes() for name in before}
    assert "0 written" in (said := command(*words)[1])
    assert "3 kept" in said
    assert stamps(out_folder) == before
    torn, lost = out_folder / "case0.nii.gz", out_folder / "case2.nii.gz"
    torn.write_bytes(contents["case0.nii.gz"][:50])
    lost.unlink()
    assert "2 written" in (said := command(*words)[1])
    assert "1 kept" in said
    assert {name: (out_folder / name).read_bytes() for name in contents if name.endswith(".gz")} == {
        name: content for name, content in contents.items() if name.endswith(".gz")}  # fmt: skip
    assert stamps(out_folder)["case1.nii.gz"] == before["case1.nii.gz"]


def test_a_changed_input_or_other_options_are_predicted_again(model, command, three, tmp_path):
    words = ["predict", "-m", model, "-i", three, "-o", tmp_path / "out"]
    assert command(*words)[0] == 0
    SimpleITK.WriteImage(volume(seed=5), str(three / "case0.nii.gz"))
    assert "1 written" in command(*words)[1]
    assert "3 written" in command(*words, "--step", "1.0", "--no-mirroring")[1]


def test_the_folder_of_the_inputs_is_no_output(model, command, three):
    before = stamps(three)
    code, _, err = command("predict", "-m", model, "-i", three, "-o", three)
    assert code == Exit.USAGE
    assert "SEG-C" in err
    assert stamps(three) == before


@pytest.mark.parametrize("there", [[], ["readme.txt", "scan.xyz"]])
def test_no_input_is_exit_2_and_says_what_is_there(there, model, command, tmp_path):
    (tmp_path / "in").mkdir()
    for name in there:
        (tmp_path / "in" / name).write_text("x")
    code, _, err = command("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert code == Exit.USAGE
    assert all(name in err for name in there)
    assert not (tmp_path / "out").exists()
    assert command("predict", "-m", model, "-i", tmp_path / "nowhere", "-o", tmp_path / "out")[0] == Exit.USAGE


def test_a_list_of_files_and_probabilities(model, command, three, tmp_path):
    words = ["-i", three / "case0.nii.gz", "-i", three / "case2.nii.gz", "--save-probabilities"]
    assert command("predict", "-m", model, *words, "-o", tmp_path / "out")[0] == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"case0.nii.gz", "case0.npz", "case2.nii.gz", "case2.npz"} <= names
    found = np.load(tmp_path / "out/case0.npz")["probabilities"]
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out/case0.nii.gz")))
    assert found.shape == (3, *labels.shape)
    np.testing.assert_allclose(found.astype(np.float32).sum(0), 1, atol=5e-3)
    sure = np.sort(found, axis=0)[-1] - np.sort(found, axis=0)[-2] > 0.01  # half precision may level the others
    assert (found.argmax(0) == labels)[sure].all()


def test_16_bits_on_request_and_other_words_refused(model, command, three, tmp_path):
    words = ["predict", "-m", model, "-i", three / "case0.nii.gz", "-o", tmp_path / "out", "--autocast"]
    assert command(*words, "on")[0] == 0
    assert (tmp_path / "out/case0.nii.gz").exists()
    code, _, err = command(*words, "sometimes")
    assert code == 2
    assert "autocast" in err


def test_channels_by_suffix_belong_to_one_case(model, command, tmp_path):
    (tmp_path / "in").mkdir()
    SimpleITK.WriteImage(volume(), str(tmp_path / "in/patient_0000.nii.gz"))
    assert command("predict", "-m", model, "-i", tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert (tmp_path / "out/patient.nii.gz").exists()


def test_the_same_from_python(model, three, command, tmp_path):
    assert command("predict", "-m", model, "-i", three, "-o", tmp_path / "out")[0] == 0
    loaded = seg.load(model, device="cpu")
    given = SimpleITK.ReadImage(str(three / "case0.nii.gz"))
    written = SimpleITK.ReadImage(str(tmp_path / "out/case0.nii.gz"))
    found = loaded.predict(given)
    same_grid(found, given)
    expected = SimpleITK.GetArrayFromImage(written)
    assert (SimpleITK.GetArrayFromImage(found) == expected).all()
    array = SimpleITK.GetArrayFromImage(given)
    from_array = loaded.predict(array, spacing=given.GetSpacing()[::-1])
    assert from_array.shape == array.shape
    assert from_array.dtype == np.uint8
    assert (from_array == expected).all()
    assert (loaded.predict(array[None], spacing=given.GetSpacing()[::-1]) == expected).all()


def test_a_flat_model_from_python(flat_model):
    loaded = seg.load(flat_model, device="cpu")
    image = SimpleITK.ReadImage(str(flat_model.parents[1] / "images/s0.png"))
    array = SimpleITK.GetArrayFromImage(image)
    found = loaded.predict(array, spacing=(1, 1))
    assert found.shape == array.shape
    assert set(np.unique(found)) == {0, 255}
    assert (SimpleITK.GetArrayFromImage(loaded.predict(image)) == found).all()


@pytest.mark.parametrize(
    ("shape", "spacing", "code"),
    [((20, 20, 20), None, Exit.USAGE), ((20, 20), (1, 1), Exit.DATA), ((2, 9, 9, 9), (1, 1, 1), Exit.DATA),
     ((9, 9, 9), (1, 1), Exit.DATA), ((9,), (1,), Exit.DATA)],
)  # fmt: skip
def test_arrays_that_do_not_fit_the_model(shape, spacing, code, model):
    loaded = seg.load(model, device="cpu")
    with pytest.raises(SegError) as refused:
        loaded.predict(np.zeros(shape, np.float32), spacing)
    assert refused.value.exit_code == code


def test_an_altered_model_is_not_loaded(model, command, three, tmp_path):
    for name, change in (("weights", lambda data: data[:-1] + bytes([data[-1] ^ 1])), ("cut", lambda data: data[:-9])):
        other = tmp_path / name
        shutil.copytree(model, other)
        file = next((other / "weights").iterdir())
        file.write_bytes(change(file.read_bytes()))
        code, _, err = command("predict", "-m", other, "-i", three, "-o", tmp_path / "out")
        assert code == Exit.UNSAFE
        assert file.name in err
        assert not (tmp_path / "out").exists()


def test_a_model_says_what_it_is_made_of(model):
    found = json.loads((model / "model.json").read_text())
    assert {use["kind"] for use in found["components"]} >= {"planner", "architecture", "augmenter", "sampler"}
    assert all(use["distribution"] and use["version"] for use in found["components"])
    assert found["architecture"]["options"]["features"] == 4
