import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def module(name):
    return importlib.import_module(name)


def row(**given):
    return module("beside.table").Row(**{"part": "step", "what": "one", "unit": "s", "ours": [1.0]} | given)


def test_table_gives_median_best_ratio_and_whether_the_target_is_met():
    rows = [row(ours=[3.0, 1.0, 2.0], theirs=[4.0, 4.0, 5.0], at_most=0.55, remark="own draws"),
            row(what="two", ours=[4.0], theirs=[4.0], at_most=0.55),
            row(part="start", what="three", ours=[123.4], unit="MB")]
    lines = module("beside.table").markdown(rows, ["Device: a"]).splitlines()
    assert lines[0] == "Device: a"
    assert "| one | 2 (best 1) s | 4 (best 4) s | 0.50 | ≤ 0.55 | own draws |" in lines
    assert "| two | 4 s | 4 s | 1.00 | ≤ 0.55, missed |  |" in lines
    assert "| three | 123 MB | – |  |  |  |" in lines
    assert lines.index("### Step") < lines.index("### Start")


@pytest.mark.parametrize(("value", "target"), [(0.99991, "≥ 0.9999"), (0.99, "≥ 0.9999, missed")])
def test_without_their_figure_the_target_is_one_of_ours(value, target):
    assert row(unit="", ours=[value], at_least=0.9999).target == target


def test_programs_are_run_in_turn():
    order = []
    found = module("beside.processes").in_turn(
        {"a": lambda turn: order.append(f"a{turn}") or turn, "b": lambda turn: order.append(f"b{turn}") or -turn}, 2)
    assert order == ["a0", "b0", "a1", "b1"]
    assert found == {"a": [0, 1], "b": [0, -1]}


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc of Linux")
def test_memory_of_a_tree_is_that_of_a_process_and_its_children():
    child = "held = bytearray(64 << 20); print(flush=True); input()"
    parent = f"import subprocess, sys; held = bytearray(64 << 20); subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = module("beside.processes").tree_mb(process.pid)
        process.communicate(b"\n")
    assert 128 < found < 192


def test_a_run_counts_the_time_of_its_children_and_reads_the_last_figures():
    child = "sum(range(30_000_000))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('{{\"b\": 1}}'); print()"
    alone = module("beside.processes").run([sys.executable, "-c", "pass"])
    found = module("beside.processes").run([sys.executable, "-c", code])
    assert found.figures == {"b": 1}
    assert found.cpu_s > alone.cpu_s


def test_a_failed_program_says_why():
    processes = module("beside.processes")
    with pytest.raises(processes.Failed, match="no such luck"):
        processes.run([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_generated_cases_hold_every_class(tmp_path):
    cases = module("beside.cases").Cases(shape=(12, 16, 16), spacing=(3.0, 1.0, 0.5), classes=4, count=2)
    folder = cases.write(tmp_path / "data")
    label = sitk.ReadImage(str(folder / "labelsTr/ct1.nii.gz"))
    assert label.GetSpacing() == (0.5, 1.0, 3.0)
    assert set(np.unique(sitk.GetArrayFromImage(label))) == {0, 1, 2, 3, 4}
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2


def test_changed_plan_is_one_that_seg_reads(tmp_path):
    from seg.nnunet_files import read_plan_file

    cases = module("beside.cases")
    file = cases.plan(cases.Cases(shape=(20, 24, 24)).write(tmp_path / "data"), (2.0, 1.0, 1.0))
    cases.Network(patch=(10, 24, 24), batch=3, features=(4, 8, 16)).change(file)
    found = read_plan_file(file).configurations["3d_fullres"]
    assert (found.patch, found.batch, found.spacing) == ((10, 24, 24), 3, (2.0, 1.0, 1.0))
    assert found.topology.features == (4, 8, 16)
    assert found.topology.strides == ((1, 1, 1), (2, 2, 2), (1, 2, 2))


def test_agreement_is_the_mean_dice_of_the_classes(tmp_path):
    for name, values in (("a", [[[0, 1, 1, 2]]]), ("b", [[[0, 1, 2, 2]]])):
        sitk.WriteImage(sitk.GetImageFromArray(np.array(values, np.uint8)), str(tmp_path / f"{name}.nii.gz"))
    agreement = module("beside.cases").agreement
    assert agreement(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz") == pytest.approx(2 / 3)
    assert agreement(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz") == 1


def test_command_knows_its_parts():
    arguments = module("side_by_side").arguments
    assert arguments(["--nnunet", "env"]).parts == list(module("beside.parts").PARTS)
    assert arguments(["--nnunet", "env", "--parts", "step,start"]).parts == ["step", "start"]
    with pytest.raises(SystemExit):
        arguments(["--nnunet", "env", "--parts", "stop"])


def test_a_step_of_ours_is_timed(tmp_path):
    """`ours.py` in a run folder of its own: it lives on what `seg.stages.train` makes of one."""
    cases, network = module("beside.cases"), {"patch": (8, 16, 16), "batch": 2, "features": (4, 8)}
    raw, folder = cases.Cases(shape=(12, 16, 16)).write(tmp_path / "raw"), tmp_path / "run"
    file = cases.Network(**network).change(cases.plan(raw))
    cases.seg("preprocess", raw, "--plan", file, "--config", "3d_fullres", "-o", folder / "cases/3d_fullres")
    for name in ("nnUNetPlans.json", "dataset.json"):
        (folder / name).write_text((raw / name).read_text())
    (folder / "splits.json").write_text(json.dumps([{"train": ["ct0"], "val": []}]))
    asked = {"folder": str(folder), "device": "cpu", "warm": 1, "steps": 2, "fixed": False, "autocast": "off"}
    done = subprocess.run([sys.executable, FOLDER / "beside/ours.py", "step", json.dumps(asked)], check=True,
                          capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1])["seconds"] > 0
