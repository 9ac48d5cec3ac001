"""The command line as a user meets it: what it prints, its exit codes, and what it never does."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import SimpleITK
import typer

from seg.errors import Exit
from seg_cli import main
from seg_cli.main import app, execute

COMMANDS = sorted(command.name for command in app.registered_commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, command):
    code, out, _ = command(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: seg {name}")


def test_every_option_says_what_it_is_for():
    commands = typer.main.get_command(app).commands
    silent = [(name, option.name) for name, command in commands.items() for option in command.params
              if not option.hidden and not option.help]
    assert silent == []


def test_the_stages_are_commands(command):
    stages = {"run", "check", "fingerprint", "plan", "preprocess", "train", "validate", "predict", "evaluate", "report"}
    assert stages | {"phantom", "list-plugins", "show"} <= set(COMMANDS)
    code, out, _ = command("--help")
    assert code == 0
    assert all(re.search(rf"^  {name} ", out, re.MULTILINE) for name in stages)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["chek"], "'check'"),
        (["run", "x", "--epocs", "1"], "--epochs"),
        (["run", "x", "--planner", "nnunt"], "'nnunet'"),
        (["run", "x", "--arch", "unt"], "'unet'"),
        (["run", "x", "--augmenter", "nnune"], "'nnunet'"),
        (["run", "x", "--set", "planner.vram=1"], "'vram_gb'"),
        (["run", "x", "--set", "plannr.vram_gb=1"], "'planner'"),
        (["run", "x", "--set", "train.step_per_epoch=1"], "'steps_per_epoch'"),
        (["run", "x", "--set", "train.steps_per_epoch=1.5"], "expected int, got 1.5"),
        (["run", "x", "--set", "planner.vram_gb=0"], "vram_gb"),
        (["run", "x", "--set", "vram_gb"], "KIND.OPTION=VALUE"),
        (["run", "x", "--epochs", "0"], "--epochs"),
        (["run", "x", "--epochs", "1", "--budget", "1m"], "--budget"),
        (["run", "x", "--budget", "soon"], "90s"),
        (["run", "x", "--recipe", "nnunt"], "'nnunet'"),
        (["run", "x", "--loss", "dice_c"], "'dice_ce'"),
        (["run", "x", "--set", "train.recipe=budget"], "--recipe"),
        (["run", "x", "--set", "recipe.momentun=0.9"], "'momentum'"),
        (["run", "x", "--budget", "1m", "--set", "recipe.momentum=0.9"], "recipe.momentum"),
        (["run", "x", "--epochs", "1", "--set", "recipe.averaging=0.9"], "recipe.averaging"),
        (["run", "x", "--labels", "cell"], "cell=255"),
        (["run", "x", "--settings", "nowhere.toml"], "nowhere.toml"),
        (["run"], "DATA"),
        (["show", "planer", "nnunet"], "'planner'"),
        (["show", "planner", "nnunt"], "'nnunet'"),
        (["phantom", "x", "--shape", "1,2"], "3 numbers"),
        (["train", "nowhere"], "nowhere"),
        (["validate", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["predict", "-m", "nowhere", "-i", "x", "-o", "y"], "nowhere"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_command_is_exit_2_and_names_what_is_right(words, named, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*words)
    assert (code, out) == (Exit.USAGE, "")
    assert named in err
    assert not list(tmp_path.iterdir())


def test_all_misspelt_keys_of_a_settings_file_are_named_at_once(command, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[run]\nplaner = 'nnunet'\n[train]\nsteps_per_epch = 2\n[archtecture]\nfeatures = 4\n")
    code, _, err = command("run", tmp_path, "--settings", file)
    assert code == Exit.USAGE
    assert err.count("SEG-C04 error") == 3
    for right in ("planner", "steps_per_epoch", "architecture"):
        assert f"Did you mean '{right}'?" in err


def test_settings_come_from_defaults_then_the_file_then_the_command_line(command, tmp_path, data):
    file = tmp_path / "settings.toml"
    file.write_text("[run]\nepochs = 7\nseed = 5\n[train]\nsteps_per_epoch = 3\n[planner]\nvram_gb = 11\n")
    run = tmp_path / "run"
    code, _, err = command("run", data, "-o", run, "--settings", file, "--seed", "6", "--set",
                           "train.steps_per_epoch=4", "--dry-run")
    assert code == 0
    assert "7 epochs of 4 steps" in err
    text = (run / "run.toml").read_text()
    assert "seed = 6" in text
    assert "vram_gb = 11" in text
    assert '# name = "nnunet"' in text
    assert '# from = "segplug' in text


@pytest.mark.parametrize("option", ["recipe.momentum=0.9", "recipe.averaging=0.9"])
def test_options_of_either_recipe_pass_while_the_length_is_unknown(option, command, tmp_path, monkeypatch):
    """What the recipe will be depends on the device: it is refused, if at all, where that is known."""
    monkeypatch.setattr("seg.stages.run.run", lambda *_, **__: SimpleNamespace(evaluations={}, selection=None,
                                                                               folder=tmp_path))
    assert command("run", tmp_path, "--set", option)[0] == 0


def test_a_loss_and_a_recipe_are_chosen_like_other_components(command, tmp_path, monkeypatch):
    seen = []

    def remember(data, out, settings, **_):
        seen.append(settings)
        return SimpleNamespace(evaluations={}, selection=None, folder=tmp_path)

    monkeypatch.setattr("seg.stages.run.run", remember)
    file = tmp_path / "settings.toml"
    file.write_text("[run]\nrecipe = 'budget'\nloss = 'dice_ce'\n[loss]\ntop_k = 10\n[recipe]\nlearning_rate = 0.1\n")
    assert command("run", tmp_path, "--settings", file)[0] == 0
    assert command("run", tmp_path, "--recipe", "budget", "--loss", "dice_ce", "--set", "loss.top_k=10", "--set",
               "recipe.learning_rate=0.1")[0] == 0
    assert seen[0] == seen[1]
    assert (seen[0].recipe, seen[0].loss) == ("budget", "dice_ce")


def test_a_dry_run_stops_after_the_estimates(command, tmp_path, data):
    code, _, err = command("run", data, "-o", tmp_path / "run", "--epochs", "3", "--dry-run")
    assert code == 0
    assert re.search(r"disk about .* memory about ", err)
    there = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"run.toml", "fingerprint.json", "plan.json", "splits.json", "log.txt"} <= there
    assert not {"cases", "training", "model"} & there


def test_a_run_without_a_length_says_which_it_took(command, tmp_path, data):
    code, _, err = command("run", data, "-o", tmp_path / "run", "--device", "cpu", "--dry-run")
    assert code == 0
    assert "5 trainings of 20 min each" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--device", "abacus"], Exit.USAGE), (["--device", "cuda:63"], Exit.RESOURCES), (["--fold", "x"], Exit.USAGE),
     (["--config", "4d"], Exit.USAGE), (["--splits", "nowhere.json"], Exit.USAGE),
     (["--plan", "nowhere.json"], Exit.USAGE)],
)  # fmt: skip
def test_what_only_the_data_or_the_machine_can_refuse(words, code, command, tmp_path, data):
    found, _, err = command("run", data, "-o", tmp_path / "run", "--epochs", "1", *words)
    assert found == code
    assert re.search(r"^SEG-[A-Z]\d\d error", err, re.MULTILINE)


def test_a_start_that_was_refused_does_not_bind_the_folder(command, tmp_path, data):
    words = ["run", data, "-o", tmp_path / "run", "--epochs", "1", "--dry-run"]
    assert command(*words, "--splits", "nowhere.json")[0] == Exit.USAGE
    assert command(*words)[0] == 0
    assert command(*words, "--seed", "4")[0] == Exit.USAGE


def test_groups_and_copies_of_an_image_are_not_parted(command, tmp_path, data):
    rows = [f"{data}/imagesTr/phantom_{index:03d}_0000.nii.gz,{data}/labelsTr/phantom_{index:03d}.nii.gz,{name},{group}"
            for index, name, group in zip((0, 1, 2, 3, 4, 0), "abcdef", ("p", *[""] * 5), strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,case,group", *rows]))
    words = ["run", tmp_path / "list.csv", "--epochs", "1", "--dry-run"]
    code, _, err = command(*words, "-o", tmp_path / "run")
    assert (code, err.count("SEG-D21 warning"), "SEG-D23" in err) == (0, 1, False)
    folds = [set(split["val"]) for split in json.loads((tmp_path / "run/splits.json").read_text())]
    assert sorted(map(sorted, folds)) == [["a", "f"], ["b"], ["c"], ["d"], ["e"]]
    assert command(*words, "-o", tmp_path / "run", "--fold", "5")[0] == Exit.USAGE
    (tmp_path / "splits.json").write_text('[{"train": ["a", "b"], "val": ["f"]}]')
    code, _, err = command(*words, "-o", tmp_path / "other", "--splits", tmp_path / "splits.json")
    assert (code, err.count("SEG-D23 warning")) == (0, 1)


def test_list_plugins_is_read_by_programs(command):
    code, out, _ = command("list-plugins", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {(row["kind"], row["name"]) for row in rows} >= {
        ("planner", "nnunet"), ("planner", "resenc_m"), ("planner", "resenc_l"), ("planner", "resenc_xl"),
        ("architecture", "unet"), ("architecture", "unetpp"), ("architecture", "resenc"), ("augmenter", "none"),
        ("sampler", "uniform"), ("ensembler", "mean"), ("fingerprinter", "nnunet"), ("layout", "decathlon"),
    }  # fmt: skip
    assert all(row["distribution"] and row["version"] and row["status"] for row in rows)
    assert command("list-plugins")[1].count("\n") > len(rows)


def test_show_lists_options_with_defaults_bounds_and_help(command):
    _, out, _ = command("show", "planner", "nnunet")
    assert re.search(r"planner\.vram_gb .* float .* 8\.0 .* 0.01 ≤ x .* GB", out)
    _, out, _ = command("show", "train")
    assert re.search(r"train\.steps_per_epoch .* 250 ", out)


def test_check_says_no_faults_and_writes_the_records(command, data, tmp_path):
    code, out, err = command("check", data, "--json", tmp_path / "records.json")
    assert code == 0
    assert "5 cases checked, no faults" in out
    assert "SEG-" not in err
    assert json.loads((tmp_path / "records.json").read_text()) == []


def test_phantom_depends_on_the_seed_alone(command, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        code, out, _ = command("phantom", tmp_path / name, "--cases", "2", "--dims", "2", "--seed", seed)
        assert code == 0
        assert "2 cases" in out
    files = {name: tmp_path / name / "imagesTr" / "phantom_001_0000.png" for name in "abc"}
    voxels = {name: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file))) for name, file in files.items()}
    assert (voxels["a"] == voxels["b"]).all()
    assert voxels["a"].shape != voxels["c"].shape or (voxels["a"] != voxels["c"]).any()


def test_evaluate_warns_of_truths_without_a_prediction(command, data, tmp_path):
    first, *others = sorted((data / "labelsTr").iterdir())
    (tmp_path / first.name).write_bytes(first.read_bytes())
    code, _, err = command("evaluate", data / "labelsTr", tmp_path, "--labels", "organ=1,tumour=2")
    assert code == 0
    assert " ".join(err.split()).count(f"truths without a prediction: {len(others)} (phantom_001, ") == 1


def test_evaluate_gives_1_for_equal_folders(command, data, tmp_path):
    truth = data / "labelsTr"
    code, out, _ = command("evaluate", truth, truth, "-o", tmp_path, "--labels", "organ=1,tumour=2")
    assert code == 0
    assert re.search(r"^organ +│ +1\.0000 │ +0\.0000 │ +1\.0000", out, re.MULTILINE)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["mean"]["dice"] == 1
    assert len(found["cases"]) == 5
    assert (tmp_path / "metrics.csv").read_text().startswith("case,class,dice,hd95_mm,nsd")


def test_a_bug_is_exit_1_with_one_line_and_a_traceback_only_on_demand(monkeypatch, capsys):
    def fails(*_):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("seg.discovery.discover", fails)
    assert execute(["list-plugins"]) == Exit.BUG
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by nothing" in err
    assert "Traceback" not in err
    assert execute(["list-plugins", "--debug"]) == Exit.BUG
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 0), (MemoryError(), 5)])
def test_exits_that_are_no_bugs(error, code, monkeypatch, capsys):
    def stops(*_, **__):
        raise error

    monkeypatch.setattr(main, "app", stops)
    assert execute(["list-plugins"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_what_needs_no_torch_imports_none(tmp_path, data):
    """In a process of its own: help, plugins, wrong names, and a plan from a fingerprint."""
    fingerprint = tmp_path / "fingerprint.json"
    assert execute(["fingerprint", str(data), "-o", str(fingerprint)]) == 0
    plan = ["plan", "--fingerprint", str(fingerprint), "--dataset", str(data / "dataset.json")]
    commands = [["--help"], ["list-plugins"], ["show", "architecture", "unetpp"],
                ["run", "x", "--planner", "nnunt"], [*plan, "-o", str(tmp_path / "plan.json")],
                [*plan, "--planner", "resenc_l", "--export-nnunet", str(tmp_path / "nnunet.json")],
                [*plan, "--explain"]]  # fmt: skip
    script = f"""
import sys
from seg_cli.main import execute
codes = [execute(words) for words in {commands!r}]
assert codes == [0, 0, 0, 2, 0, 0, 0], codes
assert "torch" not in sys.modules and "SimpleITK" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3d_fullres" in json.loads((tmp_path / "plan.json").read_text())["configurations"]
    assert "patch_size" in json.loads((tmp_path / "nnunet.json").read_text())["configurations"]["3d_fullres"]


def test_a_plan_is_explained_value_by_value(tmp_path, data, command):
    command("fingerprint", data, "-o", tmp_path / "fingerprint.json")
    words = ["plan", "--fingerprint", tmp_path / "fingerprint.json", "--dataset", data / "dataset.json"]
    code, out, err = command(*words, "--explain", "-o", tmp_path / "plan.json")
    assert (code, err) == (0, "")
    written = json.loads((tmp_path / "plan.json").read_text())
    assert [line for line in out.splitlines() if line in ("plan", *written["configurations"])] == [
        "plan", *written["configurations"]]
    for configuration in written["configurations"].values():
        for name, reason in configuration["reasons"].items():
            assert re.search(rf"^{re.escape(name)} +│ .+ │ {re.escape(reason[:40])}", out, re.MULTILINE)


def test_the_command_is_installed():
    script = Path(sys.executable).with_name("seg")
    if not script.exists():
        pytest.skip("the package is not installed beside this Python")
    done = subprocess.run([script, "show", "planner", "nnunt"], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.USAGE
    assert "SEG-C05 error" in done.stderr
