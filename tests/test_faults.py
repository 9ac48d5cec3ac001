"""Faults through the command line: one record each, the right exit code, all at once, and nothing lost."""

import contextlib
import gzip
import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK

from helpers import TINY
from seg.errors import Exit, SegError
from seg.files import locked
from seg.images import volume_from_sitk, write_label
from seg.phantom import write_phantom
from seg_cli.main import execute

HEADLINE = re.compile(r"^SEG-[A-Z]\d\d (error|warning|note)", re.MULTILINE)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(folder, cases=6, shape=(16, 20, 18))
    return folder


@pytest.fixture(scope="module")
def planned(clean, tmp_path_factory):
    """A run folder with all cases preprocessed and nothing trained."""
    folder = tmp_path_factory.mktemp("planned")
    assert execute(["run", str(clean), "-o", str(folder), *TINY, "--dry-run"]) == 0
    store = str(folder / "cases/3d_fullres")
    plan = ["--plan", str(folder / "plan.json"), "--config", "3d_fullres"]
    assert execute(["preprocess", str(clean), *plan, "-o", store]) == 0
    return folder


@pytest.fixture
def data(clean, tmp_path):
    """A copy of the data set to spoil."""
    folder = tmp_path / "data"
    shutil.copytree(clean, folder)
    return folder


@pytest.fixture
def command(command):
    """Run a command; exit code, standard error. Every record has a code."""
    def call(*words):
        code, _, err = command(*words)
        assert "internal error" not in err
        if code:
            assert HEADLINE.search(err)
        return code, err

    return call


def image(data, case):
    return data / "imagesTr" / f"phantom_{case:03d}_0000.nii.gz"


def label(data, case):
    return data / "labelsTr" / f"phantom_{case:03d}.nii.gz"


def change(path, edit, kind=None):
    """Write a file again with what `edit` makes of its voxels, on the same grid."""
    old = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(old)
    new = SimpleITK.GetImageFromArray(edit(array.astype(kind or array.dtype)))
    for name in ("Spacing", "Origin", "Direction"):
        getattr(new, f"Set{name}")(getattr(old, f"Get{name}")())
    SimpleITK.WriteImage(new, str(path))


def put(value, count=1):
    def edit(array):
        array.reshape(-1)[:count] = value
        return array

    return edit


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path):
    """One wrong voxel under the old checksum."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    whole = bytearray(gzip.compress(bytes(content)))
    whole[-8] ^= 1  # of the CRC
    path.write_bytes(whole)


def moved(path):
    found = SimpleITK.ReadImage(str(path))
    found.SetOrigin([value + 50 for value in found.GetOrigin()])
    SimpleITK.WriteImage(found, str(path))


def thicker(path):
    found = SimpleITK.ReadImage(str(path))
    found.SetSpacing([2 * value for value in found.GetSpacing()])
    SimpleITK.WriteImage(found, str(path))


FAULTS = {
    "label of another shape": ("SEG-D01", lambda data: change(label(data, 2), lambda array: array[:-3]), "×13"),
    "label of another spacing": ("SEG-D02", lambda data: thicker(label(data, 2)), "spacing"),
    "label somewhere else": ("SEG-D03", lambda data: moved(label(data, 2)), "origin"),
    "NaN voxel": ("SEG-D05", lambda data: change(image(data, 2), put(np.nan), np.float32), "1 voxel"),
    "infinite voxel": ("SEG-D05", lambda data: change(image(data, 2), put(np.inf), np.float32), "1 voxel"),
    "marker": ("SEG-D06", lambda data: change(image(data, 2), put(-3.4e38), np.float32), "1e"),
    "image cut": ("SEG-D07", lambda data: cut(image(data, 2)), "cut short"),
    "label cut": ("SEG-D07", lambda data: cut(label(data, 2)), "cut short"),
    "wrong checksum": ("SEG-D07", lambda data: flip(image(data, 2)), "incorrect data check"),
    "empty file": ("SEG-D0", lambda data: image(data, 2).write_bytes(b""), "expected"),
    "text": ("SEG-D0", lambda data: image(data, 2).write_text("no image"), ""),
    "label missing": ("SEG-D09", lambda data: label(data, 2).unlink(), "label"),
    "label value 7": ("SEG-D10", lambda data: change(label(data, 2), put(7, 5)), "7: 5 voxels"),
    "label 1.5": ("SEG-D11", lambda data: change(label(data, 2), put(1.5), np.float32), "1.5"),
    "label -1": ("SEG-D11", lambda data: change(label(data, 2), put(-1), np.int16), "-1"),
    "label 70000": ("SEG-D10", lambda data: change(label(data, 2), put(70000), np.int32), "70000"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_faulty_case_refuses_the_data_and_is_named(name, data, command, tmp_path):
    code, spoil, named = FAULTS[name]
    spoil(data)
    found, err = command("run", data, "-o", tmp_path / "run", *TINY)
    assert found == Exit.DATA
    assert code in err
    assert "phantom_002" in err
    assert named in err
    assert len(err.splitlines()) < 15
    assert not (tmp_path / "run/plan.json").exists()


def test_all_faults_of_all_cases_in_one_go(data, command, tmp_path):
    change(label(data, 0), lambda array: array[:-3])
    change(image(data, 1), put(np.nan, 4), np.float32)
    cut(image(data, 2))
    change(label(data, 3), put(7, 5))
    label(data, 4).unlink()
    code, err = command("run", data, "-o", tmp_path / "run", *TINY)
    assert code == Exit.DATA
    for wrong, case in (("SEG-D01", 0), ("SEG-D05", 1), ("SEG-D07", 2), ("SEG-D10", 3), ("SEG-D09", 4)):
        assert re.search(rf"^{wrong} error  case phantom_{case:03d} · ", err, re.MULTILINE)
    assert "phantom_005" not in err
    again, _ = command("check", data, "--json", tmp_path / "records.json")
    records = json.loads((tmp_path / "records.json").read_text())
    assert again == Exit.DATA
    assert {record["case"] for record in records} == {f"phantom_{case:03d}" for case in range(5)}
    assert all(record["code"] and record["found"] and record["file"] for record in records)
    assert json.loads((tmp_path / "run/check.json").read_text()) == records


def test_a_refused_data_set_runs_once_it_is_mended(data, clean, command, tmp_path):
    cut(image(data, 2))
    words = ["run", data, "-o", tmp_path / "run", *TINY, "--dry-run"]
    assert command(*words)[0] == Exit.DATA
    shutil.copy(image(clean, 2), image(data, 2))
    assert command(*words)[0] == 0


def test_no_data_at_all(command, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        code, err = command("run", tmp_path / folder, "-o", tmp_path / "run", *TINY)
        assert code == Exit.DATA
        assert "SEG-D00 error" in err
    assert not (tmp_path / "run").exists()


def test_too_few_cases_for_the_folds(data, command, tmp_path):
    for case in range(3, 6):
        image(data, case).unlink()
        label(data, case).unlink()
    described = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(described | {"numTraining": 3}))
    code, err = command("run", data, "-o", tmp_path / "run", *TINY)
    assert code == Exit.DATA
    assert "SEG-D13 error" in err
    assert "--fold full" in err


def test_no_foreground_anywhere_names_the_way_out_which_works(data, command, tmp_path):
    for case in range(6):
        change(label(data, case), lambda array: np.where(array == 2, 255, 0).astype(np.uint8))
    described = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(described | {"labels": {"background": 0, "tumour": 1}}))
    code, err = command("run", data, "-o", tmp_path / "run", *TINY, "--dry-run")
    assert code == Exit.DATA
    assert "SEG-D10 error" in err
    assert command("run", data, "-o", tmp_path / "run", *TINY, "--dry-run", "--labels", "tumour=255")[0] == 0


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"labels": 3}', "\xff"])
def test_a_broken_dataset_json_is_named(text, data, command, tmp_path):
    (data / "dataset.json").write_text(text, encoding="latin-1")
    code, err = command("run", data, "-o", tmp_path / "run", *TINY)
    assert code == Exit.DATA
    assert "dataset.json" in err


@pytest.mark.parametrize("words", [["run"], ["train"], ["validate"]])
def test_a_folder_in_use_is_exit_5_and_names_who_holds_it(words, clean, planned, command):
    before = (planned / "run.toml").stat().st_mtime_ns
    with locked(planned):
        code, err = command(*words, *([clean, "-o", planned, *TINY] if words == ["run"] else [planned]))
    assert code == Exit.RESOURCES
    assert re.search(r"SEG-R02 error.*\n.*in use by process \d+ on ", err)
    assert (planned / "run.toml").stat().st_mtime_ns == before


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes: as on a full disk, every write beyond fails with an error."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def whole_files(folder):
    """File → content, without the lock and the notes of what was done when."""
    return {path: path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in (".lock", "log.txt", "timings.json", "run.toml")}  # fmt: skip


def test_a_disk_that_fills_before_the_training(clean, command, tmp_path):
    """In the settings, the plan, the cases: what is there is whole, and the same command goes on."""
    words = ["run", clean, "-o", tmp_path / "run", *TINY]
    for size in (1, 1500, 4000, 20_000):
        with largest_file(size):
            code, err = command(*words)
        assert code == Exit.RESOURCES
        assert "SEG-R01 error" in err
        assert not list(tmp_path.rglob("*.h5"))
        assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
    assert command(*words)[0] == 0


def test_a_disk_that_fills_in_the_training_and_after_it(clean, planned, command, tmp_path):
    """In the state, the predictions, the report: nothing is lost, and the same command goes on."""
    folder = tmp_path / "run"
    shutil.copytree(planned, folder)
    words = ["run", clean, "-o", folder, *TINY]
    for size, kind in ((100_000, "state_*.safetensors"), (400, "*.nii.gz"), (100_000, "report.html")):
        before = whole_files(folder)
        with largest_file(size):
            code, err = command(*words) if kind != "*.nii.gz" else command("validate", folder)
        assert code == Exit.RESOURCES
        assert re.search(r"SEG-R01 error.*\n.*cannot be written", err)
        assert not list(folder.rglob(kind))
        after = whole_files(folder)
        assert {path for path in before if path.name.endswith((".h5", ".safetensors"))} <= set(after)
        assert not [path for path in folder.rglob(".*") if not path.name.endswith(".lock")]
        if kind == "state_*.safetensors":
            assert command("train", folder)[0] == 0
    assert command(*words)[0] == 0
    assert (folder / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".bmp"])
def test_a_label_map_is_whole_or_not_there(ending, tmp_path):
    """SimpleITK is silent where the disk is full, in all formats but one."""
    flat = ending in (".png", ".tif", ".bmp")
    array = np.random.default_rng(0).integers(0, 2, (1, 90, 80) if flat else (9, 40, 30)).astype(np.uint8)
    geometry = volume_from_sitk(SimpleITK.GetImageFromArray(array[0] if flat else array)).geometry
    file = tmp_path / f"a{ending}"
    write_label(file, array, geometry)
    before = file.read_bytes()
    for size in (1, 100, 400, len(before) // 2, len(before) - 9, len(before) - 1):
        with largest_file(size), pytest.raises(SegError) as refused:
            write_label(file, array, geometry)
        assert refused.value.exit_code == Exit.RESOURCES
        assert file.read_bytes() == before
        assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_written(clean, command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, err = command("run", clean, "-o", tmp_path / "file", *TINY)
    assert code == Exit.RESOURCES
    assert "SEG-R01 error" in err
    assert (tmp_path / "file").read_text() == "in the way"


def test_losses_that_are_no_numbers_end_the_training(clean, planned, command, tmp_path, monkeypatch):
    from seg.losses import DeepSupervision

    folder = tmp_path / "run"
    shutil.copytree(planned, folder)
    call = DeepSupervision.__call__
    with monkeypatch.context() as patch:
        patch.setattr(DeepSupervision, "__call__", lambda *given, **more: call(*given, **more) * float("nan"))
        code, err = command("run", clean, "-o", folder, *TINY)
    assert code == Exit.DATA
    assert "SEG-T01 error" in err
    assert not list(folder.glob("training/*/*/*.safetensors"))
    assert command("run", clean, "-o", folder, *TINY)[0] == 0


def test_a_case_that_was_altered_in_the_store_is_named(clean, planned, command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(planned, folder)
    for file in folder.glob("cases/3d_fullres/*.h5"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    code, err = command("run", clean, "-o", folder, *TINY)
    assert code == Exit.DATA
    assert re.search(r"SEG-D3\d error.*phantom_00\d", err)


def test_one_unreadable_case_does_not_stop_preprocessing(data, planned, command, tmp_path):
    cut(image(data, 2))
    words = ["--plan", planned / "plan.json", "--config", "3d_fullres", "-o", tmp_path / "store"]
    code, err = command("preprocess", data, *words)
    assert code == Exit.PARTLY
    assert "SEG-D07 error  case phantom_002" in err
    names = sorted(path.stem for path in (tmp_path / "store").glob("*.h5"))
    assert names == [f"phantom_{case:03d}" for case in (0, 1, 3, 4, 5)]


def test_memory_that_runs_out_is_exit_5(clean, planned, command, monkeypatch):
    def greedy(*_, **__):
        raise MemoryError("18 TB")

    monkeypatch.setattr("seg.stages.run.check", greedy)
    code, err = command("run", clean, "-o", planned, *TINY)
    assert code == Exit.RESOURCES
    assert "SEG-R04 error" in err
