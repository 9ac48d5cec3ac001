"""A run of MLflow for each run folder; nothing without the package."""

import json
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

import seg_mlflow
from seg import Evaluation, SegError

EVALUATION = Evaluation(cases=(), class_means={}, mean={"dice": 0.5, "hd95_mm": None})
SETTINGS = "[run]\nseed = 1\nplanner = 'nnunet'\n# [components.planner]\n# name = 'nnunet'\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.toml").write_text(SETTINGS)
    (folder / "report.html").write_text("<html>")
    return folder


def epoch(run, number, loss=0.25):
    row = {"epoch": number, "step": 2 * number, "seconds": 0.5, "loss": loss, "lr": 0.01}
    seg_mlflow.seg_epoch_ended(folder=run / "training/2d/fold_0", configuration="2d", fold="0", row=row)


def whole(run, error=None):
    """A run from start to end, with one epoch."""
    seg_mlflow.seg_run_started(folder=run)
    epoch(run, 1)
    seg_mlflow.seg_validation_done(folder=run / "validation/2d/fold_0", configuration="2d", fold="0",
                                   evaluation=EVALUATION)
    seg_mlflow.seg_run_ended(folder=run, evaluations={} if error else {"2d": EVALUATION}, error=error)


class Client:
    """Stands for MLflow's client where it is not installed: it writes down what it is asked."""

    calls = None

    def __init__(self, tracking_uri):
        self.calls.append(("at", tracking_uri))

    def get_experiment_by_name(self, name):
        self.calls.append(("experiment", name))

    def create_run(self, experiment, run_name):
        self.calls.append(("create_run", run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="the run"))

    def __getattr__(self, name):
        return lambda *arguments, **options: self.calls.append((name, *arguments, options))


@pytest.fixture
def calls(monkeypatch):
    mlflow, entities, database = (ModuleType(name) for name in ("mlflow", "mlflow.entities", "sqlalchemy"))
    entities.Param = entities.Metric = lambda *values: values
    mlflow.MlflowClient = type("Recorder", (Client,), {"calls": []})
    for module in (mlflow, entities, database):
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return mlflow.MlflowClient.calls


def named(calls, name):
    return [call for call in calls if call[0] == name]


def metrics(calls):
    batches = [call[-1]["metrics"] for call in named(calls, "log_batch") if "metrics" in call[-1]]
    return {(name, step): value for batch in batches for name, value, _, step in batch}


def test_a_run_folder_has_one_run_with_settings_metrics_and_report(run, calls):
    whole(run)
    whole(run)
    assert {uri for _, uri in named(calls, "at")} == {f"sqlite:///{run}/mlflow.db"}
    assert named(calls, "create_run") == [("create_run", "run")]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    params = {key: value for call in named(calls, "log_batch") for key, value in call[-1].get("params", ())}
    assert params == {"run.seed": "1", "run.planner": "nnunet", "components.planner.name": "nnunet"}
    assert metrics(calls) == {("2d/fold_0/loss", 1): 0.25, ("2d/fold_0/lr", 1): 0.01, ("2d/fold_0/dice", 0): 0.5,
                              ("2d/dice", 0): 0.5}
    assert named(calls, "log_artifact") == [("log_artifact", "the run", str(run / "report.html"), {})] * 2
    assert [call[-1]["status"] for call in named(calls, "set_terminated")] == ["FINISHED", "FINISHED"]


@pytest.mark.parametrize(("error", "status"), [(SegError([]), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_how_a_run_ended(run, calls, error, status):
    whole(run, error)
    assert named(calls, "set_terminated") == [("set_terminated", "the run", {"status": status})]
    assert not named(calls, "log_artifact")


def test_another_server_gets_a_run_of_its_own(run, calls, monkeypatch):
    seg_mlflow.seg_run_started(folder=run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    epoch(run, 1)
    assert len(named(calls, "create_run")) == 2
    assert named(calls, "at")[-1] == ("at", "http://server")
    assert json.loads((run / seg_mlflow.FILE).read_text()) == {"server": "http://server", "run": "the run"}


@pytest.mark.parametrize("absent", [("mlflow", "sqlalchemy"), ("sqlalchemy",)], ids="-".join)
def test_nothing_is_written_without_the_packages(run, monkeypatch, absent):
    monkeypatch.setattr(seg_mlflow, "find_spec", lambda name: None if name in absent else object())
    whole(run)
    assert {path.name for path in run.iterdir()} == {"run.toml", "report.html"}


@pytest.mark.filterwarnings("ignore")  # other people's
def test_mlflow_reads_it(run):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    whole(run, KeyboardInterrupt())
    seg_mlflow.seg_run_started(folder=run)
    epoch(run, 2, 0.125)
    seg_mlflow.seg_run_ended(folder=run, evaluations={"2d": EVALUATION}, error=None)
    client = MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("seg").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["run.seed"] == "1"
    assert found.data.metrics["2d/dice"] == 0.5
    history = client.get_metric_history(found.info.run_id, "2d/fold_0/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.125)]
    assert [item.path for item in client.list_artifacts(found.info.run_id)] == ["report.html"]
