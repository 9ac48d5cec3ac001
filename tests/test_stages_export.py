"""An exporter's files are all there or not at all; one that fails is named."""

import pytest
from attrs import frozen
from test_model import make_model

import seg
from seg import Exporter, SegError
from seg.models import ComponentUse
from seg.stages.export import export

USE = ComponentUse(kind="exporter", name="text", distribution="segplug-text", version="2")


@frozen(kw_only=True)
class Text:
    """A file for each configuration; `fails` is done after the first."""

    fails: object = None
    says: tuple = ()

    def export(self, model, folder):
        (folder / "inner").mkdir()
        files = []
        for name, networks in model.networks.items():
            files.append(folder / "inner" / f"{name}.txt")
            files[-1].write_text(str(len(networks)))
            if self.fails:
                self.fails()
        return *files, *(folder / name for name in self.says)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    make_model(folder, names=("2d", "3d"))
    return seg.load(folder, device="cpu")


def test_files_are_written(model, tmp_path):
    assert isinstance(Text(), Exporter)
    files = export(model, Text(), USE, tmp_path / "out")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["out/inner/2d.txt", "out/inner/3d.txt"]
    assert [file.read_text() for file in files] == ["2", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def refused(model, exporter, folder):
    with pytest.raises(SegError) as caught:
        export(model, exporter, USE, folder)
    return caught.value.exit_code, str(caught.value)


@pytest.mark.parametrize(("exporter", "word"), [
    (Text(fails=lambda: 1 / 0), "ZeroDivisionError"), (Text(says=("forgotten.txt",)), "forgotten.txt"),
    (Text(says=("../outside.txt",)), "outside.txt"),
])  # fmt: skip
def test_one_that_fails_leaves_nothing(model, tmp_path, exporter, word):
    code, told = refused(model, exporter, tmp_path / "out")
    assert code == 6
    assert "'text' of segplug-text 2" in told
    assert word in told
    assert list(tmp_path.iterdir()) == []


def test_its_own_refusal_and_a_full_disk_stay_what_they_are(model, tmp_path):
    def refuse():
        raise SegError(seg.Record(code="SEG-P04", found="a package is missing"), seg.Exit.PLUGIN)

    def full():
        raise OSError(28, "No space left on device")

    assert "a package is missing" in refused(model, Text(fails=refuse), tmp_path / "out")[1]
    assert refused(model, Text(fails=full), tmp_path / "out")[0] == 5
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, told = refused(model, Text(), tmp_path)
    assert code == 2
    assert "empty" in told
    assert refused(model, Text(), tmp_path / "mine.txt")[0] == 2
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert len(export(model, Text(), USE, tmp_path / "empty")) == 2
