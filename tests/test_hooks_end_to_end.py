"""A run as plugins hear of it: every hook at its time with its arguments, and results that no logger changes."""

import csv
import json
import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
from attrs import evolve

import seg
from seg import SegError, Silent
from seg.discovery import discover
from seg.errors import Exit
from seg.hookspecs import EVENTS
from seg.registry import Listener, Plugin
from seg.settings import read_settings
from seg.training import Interrupted
from seg_cli.main import execute

TINY = {"device": "cpu", "epochs": 2, "folds": ["0"], "configurations": ["3d_fullres"]}
SETS = ["train.steps_per_epoch=1", "architecture.features=4"]
WORDS = ["--device", "cpu", "--epochs", "2", "--fold", "0", *(word for text in SETS for word in ("--set", text))]
WEIGHTS = "training/3d_fullres/fold_0/weights.safetensors"
SPY = """
import json
from pathlib import Path
from seg import Section, hookimpl

def note(hook, **facts):
    with open({file!r}, "a") as stream:
        stream.write(json.dumps([hook, facts], default=str) + "\\n")

@hookimpl
def seg_run_started(folder, settings):
    note("seg_run_started", folder=folder, epochs=settings.epochs, plan=(folder / "plan.json").exists())

@hookimpl
def seg_plan_made(plan, folder):
    note("seg_plan_made", folder=folder, planner=plan.planner)

@hookimpl
def seg_case_preprocessed(folder, configuration, case):
    note("seg_case_preprocessed", folder=folder, configuration=configuration, case=(folder / (case + ".h5")).exists())

@hookimpl
def seg_epoch_ended(folder, configuration, fold, row):
    note("seg_epoch_ended", folder=folder, configuration=configuration, fold=fold, row=row)

@hookimpl
def seg_validation_done(folder, configuration, fold, evaluation):
    note("seg_validation_done", folder=folder, configuration=configuration, fold=fold, cases=len(evaluation.cases))

@hookimpl
def seg_report_sections(folder):
    note("seg_report_sections", folder=folder)
    yield Section("Worst <cases>", "<b>none</b>")

@hookimpl
def seg_run_ended(folder, evaluations, error):
    note("seg_run_ended", folder=folder, evaluations=list(evaluations), error=error,
         report=(folder / "report.html").exists())

@hookimpl
def seg_case_predicted(case, file, seconds):
    note("seg_case_predicted", case=case, file=file.is_file(), seconds=seconds > 0)
"""
BAD = "from seg import hookimpl\n" + "".join(
    f"\n@hookimpl\ndef {hook}():\n    raise OSError('disk away')\n" for hook in EVENTS if hook != "seg_plan_made")


def install(folder, name, code):
    module = name.replace("-", "_")
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[seg]\n{name} = {module}\n")
    (folder / f"{module}.py").write_text(code)


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """A run that nobody but the built-in plugins listens to."""
    folder = tmp_path_factory.mktemp("plain")
    assert execute(["run", str(data), "-o", str(folder), *WORDS]) == 0
    return folder


@pytest.fixture(scope="module")
def heard(data, tmp_path_factory):
    """A run that a spy listens to, and a plugin that fails in every hook; then a prediction with its model."""
    site, run, file = (tmp_path_factory.mktemp(name) for name in ("site", "run", "heard"))
    calls, before = file / "calls.jsonl", set(sys.modules)
    install(site, "fake-bad", BAD)
    install(site, "fake-spy", SPY.replace("{file!r}", repr(str(calls))))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("XDG_CACHE_HOME", str(file))
        assert execute(["run", str(data), "-o", str(run), *WORDS]) == 0
        found = read_calls(calls)
        image = data / "imagesTr/phantom_000_0000.nii.gz"
        assert execute(["predict", "-m", str(run / "model"), "-i", str(image), "-o", str(run / "out")]) == 0
        predicted = read_calls(calls)[len(found):]
        assert execute(["run", str(data), "-o", str(run), *WORDS]) == 0
        again = read_calls(calls)[len(found) + len(predicted):]
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]
    return SimpleNamespace(run=run, calls=found, predicted=predicted, again=again)


def read_calls(file):
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()]


def listening(**calls):
    """The built-in plugins, and one that listens to some hooks."""
    plugin, found = Plugin(name="mine", distribution="dist", version="1.2", status="ok"), discover()
    mine = tuple(Listener(hook=hook, call=call, plugin=plugin) for hook, call in calls.items())
    return evolve(found, listeners=(*found.listeners, *mine))


def run(data, folder, progress=None, **calls):
    return seg.run(data, folder, read_settings(None, SETS, TINY), registry=listening(**calls), progress=progress)


def test_every_hook_is_called_at_its_time_with_its_arguments(heard):
    folder = str(heard.run)
    training, validation = (f"{folder}/{name}/3d_fullres/fold_0" for name in ("training", "validation"))
    lines = (heard.run / "training/3d_fullres/fold_0/metrics.jsonl").read_text().splitlines()
    where = {"configuration": "3d_fullres", "fold": "0"}
    case = {"folder": f"{folder}/cases/3d_fullres", "configuration": "3d_fullres", "case": True}
    assert heard.calls == [
        ("seg_run_started", {"folder": folder, "epochs": 2, "plan": False}),
        ("seg_plan_made", {"folder": folder, "planner": "nnunet"}),
        *[("seg_case_preprocessed", case)] * 5,
        *[("seg_epoch_ended", {"folder": training, **where, "row": json.loads(line)}) for line in lines],
        ("seg_validation_done", {"folder": validation, **where, "cases": 1}),
        ("seg_report_sections", {"folder": folder}),
        ("seg_run_ended", {"folder": folder, "evaluations": ["3d_fullres"], "error": None, "report": True}),
    ]
    assert len(lines) == 2
    assert heard.predicted == [("seg_case_predicted", {"case": "phantom_000", "file": True, "seconds": True})]


def test_what_is_done_already_is_not_told_again(heard):
    assert [hook for hook, _ in heard.again] == [
        "seg_run_started", "seg_plan_made", "seg_report_sections", "seg_run_ended"]


def test_failing_loggers_are_said_and_change_no_result(heard, plain):
    assert (heard.run / WEIGHTS).read_bytes() == (plain / WEIGHTS).read_bytes()
    assert (heard.run / "plan.json").read_bytes() == (plain / "plan.json").read_bytes()
    for name in ("metrics.json", "metrics.csv"):
        file = f"validation/3d_fullres/fold_0/{name}"
        assert (heard.run / file).read_bytes() == (plain / file).read_bytes()
    log = (heard.run / "log.txt").read_text()
    for hook in ("seg_case_preprocessed", "seg_epoch_ended", "seg_validation_done"):
        assert log.count(f"plugin fake-bad (fake-bad 1.2) failed in {hook}: OSError: disk away") == 1
    assert "SEG-P06" not in (plain / "log.txt").read_text()


def test_the_report_has_the_sections_of_plugins(heard, plain):
    page = (heard.run / "report.html").read_text()
    assert "Worst &lt;cases&gt;</h2>\n<b>none</b>\n" in page
    assert "Made by the plugin fake-spy (fake-spy 1.2)." in page
    assert "it failed with OSError: disk away" in page
    assert "<section>" not in (plain / "report.html").read_text()


def test_the_table_of_epochs_has_every_epoch(heard):
    with (heard.run / "epochs.csv").open() as stream:
        found = [(row["configuration"], row["fold"], row["epoch"], row["step"]) for row in csv.DictReader(stream)]
    assert found == [("3d_fullres", "0", "1", "1"), ("3d_fullres", "0", "2", "2")]


def test_an_amended_plan_is_what_is_trained(data, tmp_path):
    def smaller(plan, **_):
        full = plan.configurations["3d_fullres"]
        return evolve(plan, configurations={**plan.configurations, "3d_fullres": evolve(full, batch=1)})

    run(data, tmp_path, seg_plan_made=smaller)
    plan = json.loads((tmp_path / "plan.json").read_text())["configurations"]["3d_fullres"]
    assert plan["batch"] == 1
    assert plan["reasons"]["batch"].startswith("Amended by plugin mine (dist 1.2), instead of 2.")
    model = json.loads((tmp_path / "model/model.json").read_text())
    assert model["configurations"]["3d_fullres"]["batch"] == 1
    assert "Amended by plugin mine (dist 1.2)" in (tmp_path / "report.html").read_text()


def test_an_error_ends_the_run_and_is_told(data, tmp_path):
    ended = []
    with pytest.raises(SegError) as caught:
        run(data, tmp_path, seg_plan_made=lambda **_: 42, seg_run_ended=lambda **facts: ended.append(facts))
    assert caught.value.exit_code == Exit.PLUGIN
    assert ended == [{"folder": tmp_path, "evaluations": {}, "error": caught.value}]
    assert not (tmp_path / "plan.json").exists()


class Stop(Silent):
    """Sends a signal after the first step."""

    def say(self, text):
        if text.startswith("epoch 1"):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_is_told_and_a_resumed_run_doubles_no_epoch(data, tmp_path):
    ended = []
    with pytest.raises(Interrupted) as caught:
        run(data, tmp_path, Stop(), seg_run_ended=lambda **facts: ended.append(facts["error"]))
    assert ended == [caught.value]
    run(data, tmp_path, seg_run_ended=lambda **facts: ended.append(facts["error"]))
    assert ended == [caught.value, None]
    with (tmp_path / "epochs.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["1", "2"]


def test_the_stages_alone_are_heard_too(heard, data, tmp_path, monkeypatch):
    calls = tmp_path / "calls.jsonl"
    site = tmp_path / "site"
    site.mkdir()
    install(site, "fake-stages", SPY.replace("{file!r}", repr(str(calls))))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["--config", "3d_fullres"]
    assert execute(["preprocess", str(data), "--plan", str(heard.run / "plan.json"), *words,
                    "-o", str(tmp_path / "cases")]) == 0
    weights = heard.run / WEIGHTS
    for file in (weights, weights.with_name("done.json"), *weights.parent.glob("state_*")):
        file.unlink()
    shutil.rmtree(heard.run / "validation")
    for command in (["train", str(heard.run), *words], ["validate", str(heard.run), *words],
                    ["report", str(heard.run)]):
        assert execute(command) == 0
    assert execute(["plan", "--fingerprint", str(heard.run / "fingerprint.json"), "--dataset",
                    str(data / "dataset.json"), "-o", str(tmp_path / "plan.json")]) == 0
    sys.modules.pop("fake_stages", None)
    assert [hook for hook, _ in read_calls(calls)] == [
        *["seg_case_preprocessed"] * 5, "seg_epoch_ended", "seg_epoch_ended", "seg_validation_done",
        "seg_report_sections", "seg_plan_made"]
