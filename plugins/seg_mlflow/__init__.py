"""A run of MLflow for each run folder, where the package `mlflow` is installed.

It lies in `mlflow.db` and `mlruns/` of the run's folder (`mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db` shows
it), or where MLFLOW_TRACKING_URI says. A run that goes on goes on there too.
"""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg import hookimpl

if TYPE_CHECKING:
    from seg import Evaluation

FILE = "mlflow_run.json"  # where the run is kept, and its id
AT_ONCE = 100  # parameters that MLflow takes in one request
LONGEST = 500  # characters of a parameter that every version takes


@hookimpl
def seg_run_started(folder: Path) -> None:
    """A run is made, before the clock of a training ticks; one that goes on is running again."""
    if _ready():
        client, run = _open(folder)
        client.update_run(run, status="RUNNING")


@hookimpl
def seg_epoch_ended(folder: Path, configuration: str, fold: str, row: Mapping[str, Any]) -> None:
    """Loss and learning rate by epoch."""
    _log(folder.parents[2], f"{configuration}/fold_{fold}", {name: row[name] for name in ("loss", "lr")}, row["epoch"])


@hookimpl
def seg_validation_done(folder: Path, configuration: str, fold: str, evaluation: Evaluation) -> None:
    """The means over the classes."""
    _log(folder.parents[2], f"{configuration}/fold_{fold}", evaluation.mean)


@hookimpl
def seg_run_ended(folder: Path, evaluations: Mapping[str, Evaluation], error: BaseException | None) -> None:
    """The means of each configuration over all folds, the report, and how it ended."""
    if not _ready():
        return
    for name, evaluation in evaluations.items():
        _log(folder, name, evaluation.mean)
    client, run = _open(folder)
    if error is None and (folder / "report.html").exists():  # a dry run has none
        client.log_artifact(run, str(folder / "report.html"))
    stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
    client.set_terminated(run, status="FINISHED" if error is None else "KILLED" if stopped else "FAILED")


def _ready() -> bool:
    """Whether MLflow can write: `mlflow-skinny` alone has no data base, and needs a server.

    Nothing here may call home unless the user says so, so MLflow's telemetry is turned off before it is imported.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    return bool(find_spec("mlflow") and (os.environ.get("MLFLOW_TRACKING_URI") or find_spec("sqlalchemy")))


def _log(folder: Path, where: str, values: Mapping[str, float | None], step: int = 0) -> None:
    if not _ready():
        return
    from mlflow.entities import Metric

    client, run = _open(folder)
    now = round(1000 * time.time())
    client.log_batch(run, metrics=[Metric(f"{where}/{name}", value, now, step) for name, value in values.items()
                                   if value is not None])


def _open(folder: Path) -> tuple[Any, str]:
    """A client, and the id of the run of MLflow that belongs to the run in `folder`; it is made at first."""
    from mlflow import MlflowClient
    from mlflow.entities import Param

    server, path = os.environ.get("MLFLOW_TRACKING_URI", ""), folder.resolve()
    client = MlflowClient(tracking_uri=server or f"sqlite:///{path / 'mlflow.db'}")
    file = folder / FILE
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if kept.get("server") == server:
        return client, kept["run"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "seg")
    known = client.get_experiment_by_name(name)
    location = None if server else (path / "mlruns").as_uri()
    experiment = known.experiment_id if known else client.create_experiment(name, artifact_location=location)
    run = client.create_run(experiment, run_name=path.name).info.run_id
    found = [Param(key, str(value)[:LONGEST]) for key, value in _settings(folder)]
    for first in range(0, len(found), AT_ONCE):
        client.log_batch(run, params=found[first : first + AT_ONCE])
    file.write_text(json.dumps({"server": server, "run": run}), encoding="utf-8")
    return client, run


def _settings(folder: Path) -> Iterator[tuple[str, Any]]:
    """Everything in `run.toml`, by dotted names: settings; components and versions, which stand there as comments."""
    lines = (folder / "run.toml").read_text(encoding="utf-8").splitlines()
    stack = [("", tomllib.loads("\n".join(line.removeprefix("# ") for line in lines)))]
    while stack:
        prefix, table = stack.pop()
        for name, value in table.items():
            if isinstance(value, dict):
                stack.append((f"{prefix}{name}.", value))
            else:
                yield f"{prefix}{name}", value
