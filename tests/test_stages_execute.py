"""What an executor is asked, and what it must have done; commands that do a job elsewhere."""

import subprocess

import pytest
from attrs import evolve, field, frozen

from seg import Exit, Record, SegError, Silent
from seg.choice import PluginChoice
from seg.discovery import discover
from seg.models import ComponentUse
from seg.runfolder import Components, RunFolder
from seg.settings import Settings
from seg.stages import execute
from seg.stages.execute import train_folds
from seg.stages.train import WEIGHTS, Fold
from seg.training import Interrupted
from seg_basic.executors import LocalExecutor

SETTINGS = Settings(folds=("0", "1"), epochs=1, device="cpu")
STRANGER = ComponentUse(kind="executor", name="mine", distribution="segplug-mine", version="1", options={})


@frozen(kw_only=True)
class Calling:
    """An executor of a stranger, that does what it is told here."""

    how: object
    asked: list = field(factory=list)

    def run(self, jobs, work, progress):
        self.asked.append(jobs)
        self.how(jobs, work)


@frozen(kw_only=True)
class Elsewhere(Calling):
    """The same on other machines, which have what it is told here."""

    device: object = "cuda"

    def training_device(self, asked):
        if isinstance(self.device, Exception):
            raise self.device
        return self.device if asked == "auto" else asked


@pytest.fixture
def folds(tmp_path):
    """Two folds whose executor is a stranger's."""

    def make(how=None, use=STRANGER, **changes):
        components = Components.resolve(SETTINGS, discover())
        components = evolve(components, executor=Calling(how=how) if how else LocalExecutor(),
                            uses={**components.uses, "executor": use})
        return [Fold(folder=RunFolder(tmp_path), settings=evolve(SETTINGS, **changes), components=components,
                     plan=None, configuration="2d", fold=name) for name in SETTINGS.folds]

    return make


@pytest.fixture(autouse=True)
def trained(monkeypatch):
    """The folds that were trained, and validated; without any work."""
    done = []

    def train_fold(fold, progress):
        done.append(("train", fold.fold))
        fold.path.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, "done.json"):
            (fold.path / name).touch()

    monkeypatch.setattr(execute, "train_fold", train_fold)
    monkeypatch.setattr(execute, "validate_fold", lambda fold, progress: done.append(("validate", fold.fold)))
    return done


def each(jobs, work):
    for job in jobs:
        work(job)


def test_jobs_are_the_folds_and_working_on_one_trains_and_validates_it(folds, trained):
    mine = folds(each)
    train_folds(mine, (), Silent())
    (jobs,) = mine[0].components.executor.asked
    assert [job.name for job in jobs] == ["2d fold 0", "2d fold 1"]
    assert jobs[1].log == mine[1].path.resolve() / "log.txt"
    assert trained == [("train", "0"), ("validate", "0"), ("train", "1"), ("validate", "1")]
    assert set(execute.RunFolder(mine[0].folder.path).path.joinpath("timings.json").read_text().split('"')) >= {
        "train 2d fold 0", "validate 2d fold 1"}


@pytest.mark.parametrize(("asked", "there", "device", "words"), [
    ("auto", "cuda", "cuda", ("--device", "cuda")), ("cpu", "cuda", "cpu", ("--device", "cpu")),
    ("auto", "auto", "auto", ()), ("auto", None, "auto", ()), ("cpu", None, "cpu", ()),
])  # fmt: skip
def test_a_job_says_the_device_and_is_told_it_where_the_executor_decides(folds, asked, there, device, words):
    mine = folds(each, device=asked)
    if there:
        executor = Elsewhere(how=each, device=there)
        mine = [evolve(fold, components=evolve(fold.components, executor=executor)) for fold in mine]
    train_folds(mine, ("--within", "w"), Silent())
    (jobs,) = mine[0].components.executor.asked
    assert {job.device for job in jobs} == {device}
    for job in jobs:
        assert job.command[job.command.index("--validate"):] == ("--validate", *words, "--within", "w")


@pytest.mark.parametrize("device", [None, 3, KeyError("a node")])
def test_an_executor_that_does_not_say_the_device_is_named(folds, device):
    mine = folds(each)
    executor = Elsewhere(how=each, device=device)
    changed = {"components": evolve(mine[0].components, executor=executor), "settings": evolve(SETTINGS, device="auto")}
    error = refused([evolve(fold, **changed) for fold in mine])
    assert (error.exit_code, error.records[0].code) == (Exit.PLUGIN, "SEG-P10")
    assert "training_device" in error.records[0].found


def test_a_level_that_is_chosen_later_is_not_validated(folds, trained):
    mine = folds(each)
    mine = [evolve(fold, settings=evolve(fold.settings, predict=evolve(fold.settings.predict, prune="auto")))
            for fold in mine]
    train_folds(mine, (), Silent())
    assert [what for what, _ in trained] == ["train", "train"]


def test_what_is_trained_is_no_job(folds, trained):
    mine = folds(each)
    execute.train_fold(mine[0], None)
    train_folds(mine, (), Silent())
    assert [[job.fold for job in jobs] for jobs in mine[0].components.executor.asked] == [["1"]]
    train_folds(mine, (), Silent())
    assert len(mine[0].components.executor.asked) == 1
    assert trained.count(("validate", "0")) == 2  # it looks whether all is there


def refused(mine):
    with pytest.raises(SegError) as caught:
        train_folds(mine, (), Silent())
    return caught.value


def test_an_executor_that_leaves_something_undone_is_named(folds):
    error = refused(folds(lambda jobs, work: work(jobs[0])))
    assert error.exit_code == Exit.PLUGIN
    assert "segplug-mine 1 (hook seg_executors)" in error.records[0].found
    assert "2d fold 1" in error.records[0].found
    assert "fold 0" not in error.records[0].found


def test_an_executor_that_fails_is_named(folds):
    error = refused(folds(lambda jobs, work: 1 / 0))
    assert (error.exit_code, error.records[0].code) == (Exit.PLUGIN, "SEG-P10")
    assert "ZeroDivisionError" in error.records[0].found


@pytest.mark.parametrize("error", [Interrupted(15), RuntimeError("a bug"), MemoryError(),
                                   SegError(Record(code="SEG-T01", found="no numbers"))])
def test_what_a_training_raises_is_not_the_executors_fault(folds, monkeypatch, error):
    def train_fold(fold, progress):
        raise error

    monkeypatch.setattr(execute, "train_fold", train_fold)
    with pytest.raises(type(error)) as caught:
        train_folds(folds(each), (), Silent())
    assert caught.value is error


def test_the_command_is_this_installations_wherever_it_is_called(folds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choice = PluginChoice(without=("csv",), files=(tmp_path / "plug in.py",))
    fold = folds(each)[1]
    fold = evolve(fold, components=evolve(fold.components, choice=choice))
    job = fold.job("--validate", "--within", "w")
    start = job.command.index("train")
    assert job.command[start:] == ("train", str(tmp_path.resolve()), "--config", "2d", "--fold", "1", "--validate",
                                   "--within", "w", "--plugin", str(tmp_path.resolve() / "plug in.py"), "--no-plugin",
                                   "csv")
    (tmp_path / "plug in.py").touch()
    (tmp_path / "seg_cli.py").write_text("raise RuntimeError('a file that lies where seg is called')")
    done = subprocess.run([*job.command, "--device", "cpu", "--with-parent"], cwd=tmp_path, capture_output=True,
                          text=True, check=False, stdin=subprocess.PIPE)
    assert done.returncode in (Exit.USAGE, 143)  # it understood all of its words, and found no run there
    assert "no run.toml" in done.stderr or done.returncode == 143
