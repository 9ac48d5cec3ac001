"""A stranger's normaliser, metric and exporter, from pip to run, choice, model, prediction and export."""

import csv
import json
import shutil
import sys

import pytest

from helpers import TINY
from seg_cli.main import execute

MODULE = """
from seg import Offer, hookimpl

@hookimpl
def seg_normalisers():
    yield Offer("median", "stranger_parts:Median", "median 0")

@hookimpl
def seg_metrics():
    yield Offer("odd", "stranger_parts:Odd", "fails on the first case")

@hookimpl
def seg_exporters():
    yield Offer("names", "stranger_parts:Names", "the names of the networks")
"""
PARTS = """
from typing import ClassVar
import numpy as np
from attrs import frozen
from seg import option

@frozen(kw_only=True)
class Median:
    uses_intensities: ClassVar[bool] = True

    def normalise(self, channel, inside, intensities):
        return ((channel - np.median(channel)) / np.float32(intensities.std)).astype(np.float32)

@frozen(kw_only=True)
class Odd:
    larger_is_better: ClassVar[bool] = False

    def measure(self, truth, predicted, spacing):
        raise ValueError("not today")

@frozen(kw_only=True)
class Names:
    ending: str = option(".txt", "of the file")

    def export(self, model, folder):
        file = folder / f"names{self.ending}"
        file.write_text("\\n".join(model.networks))
        return (file,)
"""
CASES = 6  # of the fixture `data`
ASKED = ["--set", "planner.normalization=median", "--set", "metrics.also=odd,recall,segplug:lesion_f1", "--set",
         "ensembler.metric=recall"]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The folder of the stranger's package, on the path while the tests of this file run."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "segplug_stranger-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: segplug-stranger\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[seg]\nstranger = stranger\n")
    (folder / "stranger.py").write_text(MODULE)
    (folder / "stranger_parts.py").write_text(PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("stranger", "stranger_parts"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(stranger, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert execute(["run", str(data), "-o", str(folder), *TINY, *ASKED]) == 0
    return folder


def refused(capsys, *words):
    code = execute([str(word) for word in words])
    return code, capsys.readouterr().err


def test_the_plan_names_the_normaliser_and_says_why(run):
    plan = json.loads((run / "plan.json").read_text())["configurations"]["3d_fullres"]
    assert plan["normalization"] == ["median"]
    assert plan["reasons"]["normalization"].startswith("Set by planner.normalization=median.")


def test_run_and_model_record_who_they_are_from(run):
    text = (run / "run.toml").read_text()
    assert '"normaliser median"' in text
    assert "segplug-stranger 1.2" in text
    uses = json.loads((run / "model" / "model.json").read_text())["components"]
    assert {(use["kind"], use["name"], use["distribution"]) for use in uses} >= {
        ("normaliser", "median", "segplug-stranger"), ("metric", "odd", "segplug-stranger"),
        ("metric", "recall", "segplug")}


def test_metrics_stand_everywhere_and_one_that_fails_stops_nothing(run):
    folder = run / "validation" / "3d_fullres"
    result = json.loads((folder / "metrics.json").read_text())
    assert result["larger_is_better"] == {"odd": False, "recall": True, "segplug:lesion_f1": True}
    assert result["mean"]["odd"] is None
    assert 0 <= result["mean"]["recall"] <= 1
    assert all("ValueError: not today" in told for case in result["cases"] for told in case["failed"])
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert {row["odd"] for row in rows} == {""}
    assert all(0 <= float(row["recall"]) <= 1 for row in rows if row["truth_voxels"] != "0")
    told = [line.partition("  ")[2] for line in (run / "log.txt").read_text().splitlines() if "odd of" in line]
    assert 0 < len(told) == len(set(told))
    assert json.loads((run / "validation" / "selection.json").read_text())["metric"] == "recall"
    page = (run / "report.html").read_text()
    assert ">segplug:lesion_f1<" in page
    assert "not today" in page


def test_the_same_command_does_nothing_again(run, data):
    files = {path: path.stat().st_mtime_ns for pattern in ("cases/*/*.h5", "validation/*/*/*.nii.gz")
             for path in run.glob(pattern)}
    assert execute(["run", str(data), "-o", str(run), *TINY, *ASKED]) == 0
    assert len(files) > 6
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_the_model_predicts_and_is_exported(run, data, tmp_path, capsys):
    assert execute(["predict", "-m", str(run / "model"), "-i", str(data / "imagesTr"), "-o", str(tmp_path / "found"),
                    "--device", "cpu"]) == 0
    assert execute(["evaluate", str(data / "labelsTr"), str(tmp_path / "found"), "--also", "recall,odd"]) == 0
    assert "recall" in capsys.readouterr().out
    export = ["export", "-m", str(run / "model"), "--to", "names", "--set", "exporter.ending=.csv"]
    assert execute([*export, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "names.csv").read_text() == "3d_fullres"
    assert refused(capsys, *export, "-o", tmp_path / "out")[0] == 2


def test_without_the_plugin_a_model_says_what_to_install(run, data, stranger, tmp_path, capsys):
    model = shutil.copytree(run / "model", tmp_path / "model")
    before = list(sys.path)
    sys.path.remove(str(stranger))
    try:
        code, told = refused(capsys, "predict", "-m", model, "-i", data / "imagesTr", "-o", tmp_path / "found")
    finally:
        sys.path[:] = before
    assert code == 6
    assert "pip install segplug-stranger==1.2" in told


@pytest.mark.parametrize(("asked", "word"), [
    ("planner.normalization=medium", "'median'"), ("planner.normalization=ct,median", "2 normalisers"),
    ("metrics.also=recal", "'recall'"), ("ensembler.metric=recall", "metrics.also=recall"),
    ("normaliser.a=1", "unknown key 'normaliser'"),
])  # fmt: skip
def test_mistakes_are_exit_2_before_any_case_is_prepared(stranger, data, tmp_path, capsys, asked, word):
    code, told = refused(capsys, "run", data, "-o", tmp_path / "run", *TINY, "--set", asked)
    assert code == 2
    assert word in told
    assert not (tmp_path / "run" / "cases").exists()
