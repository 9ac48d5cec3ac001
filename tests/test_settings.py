import pytest
from attrs import evolve

from seg import SegError
from seg.settings import (
    DataOptions,
    PredictOptions,
    Settings,
    TrainOptions,
    differences,
    parse_duration,
    parse_labels,
    read_settings,
    write_settings,
)

FULL = Settings(
    planner="mine", configurations=("2d", "3d_fullres"), folds=("0", "full"), budget_s=90.5, seed=7,
    labels={"cell": 255, 'a "b" = ü': 1},
    options={"planner": {"vram_gb": 11, "list": [1, 2.5, "x"]}, "layout": {"a": True}},
    train=TrainOptions(clip_norm=1.0), loss="mine", recipe="budget", predict=PredictOptions(mirroring=False),
    data=DataOptions(reorient="RAS"),
)  # fmt: skip


def toml(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_said_is_the_defaults():
    assert read_settings(None, [], {}) == Settings()


@pytest.mark.parametrize("settings", [Settings(), FULL])
def test_what_is_written_is_read_back(tmp_path, settings):
    path = tmp_path / "run.toml"
    write_settings(path, settings, {"components": {"planner": {"from": "a\nb"}}, "versions": {"python": "3"}})
    assert read_settings(path, [], {}) == settings
    assert "# python" in path.read_text(encoding="utf-8")


def test_later_ones_win(tmp_path):
    path = toml(tmp_path, "[run]\nseed = 1\nplanner = 'file'\n"
                          "[planner]\nvram_gb = 8\nother = 1\n[train]\nclip_norm = 1")
    found = read_settings(path, ["planner.vram_gb=11", "train.clip_norm=2", "recipe.learning_rate=0.1"], {"seed": 3})
    assert found.seed == 3
    assert found.planner == "file"
    assert found.of("planner") == {"vram_gb": 11, "other": 1}
    assert found.of("sampler") == {}
    assert found.train.clip_norm == 2.0
    assert found.of("recipe") == {"learning_rate": 0.1}


@pytest.mark.parametrize(("text", "told"), [
    ("[runn]\nseed = 1", "'run'"), ("[run]\nsead = 1", "'seed'"), ("[run]\nseed = 1.5", "expected int"),
    ("[run]\nseed = -1", "seed"), ("[train]\nclip = 1", "'clip_norm'"),
    ("planner = 'nnunet'", "planner"), ("run = 3", "run"), ("train = 5", "train"), ("[run]\ntrain = {}", "'train'"),
    ("[train]\nrecipe = 'budget'", "--recipe NAME"),
    ("[run]\noptions = {}", "'options'"), ("[run]\nlabels = {a = 'x'}", "expected int"),
    ("[[planner]]\na = 1", "planner"),
    ("[run]\nepochs = 1\nbudget_s = 5", "--epochs"), ("seed = 1", "seed"), ("[run", "cannot be read"),
])  # fmt: skip
def test_a_wrong_file_is_exit_2(tmp_path, text, told):
    path = toml(tmp_path, text)
    with pytest.raises(SegError, match=told) as caught:
        read_settings(path, [], {})
    assert caught.value.exit_code == 2
    assert "settings.toml" in str(caught.value) or "--epochs" in told


def test_all_unknown_keys_come_at_once(tmp_path):
    with pytest.raises(SegError) as caught:
        read_settings(toml(tmp_path, "[run]\na = 1\nb = 2\n[train]\nc = 3\n[other]\nd = 4"), [], {})
    assert len(caught.value.records) == 4


@pytest.mark.parametrize(("text", "told"), [
    ("planner.vram_gb", "KIND.OPTION=VALUE"), ("planner=nnunet", "KIND.OPTION=VALUE"), ("planer.a=1", "'planner'"),
    ("train.step_per_epoch=1", "'steps_per_epoch'"),
    ("train.steps_per_epoch=0", "steps_per_epoch"), (".a=1", "unknown key ''"),
    ("train.=1", "KIND.OPTION=VALUE"), ("predict.step=2", "step"), ("metrics.tolerance_mm=x", "expected float"),
    ("run.seed=1", "unknown key 'run'"), ("metric.a=1", "unknown key 'metric'"), ("metrics.also=1", "expected a list"),
    ("train.recipe=budget", "--recipe NAME"), ("train.learning_rate=0.1", "--set recipe.learning_rate"),
])  # fmt: skip
def test_a_wrong_set_is_exit_2(text, told):
    with pytest.raises(SegError, match=told) as caught:
        read_settings(None, [text], {})
    assert caught.value.exit_code == 2


def test_set_beside_a_kind_that_is_no_table(tmp_path):
    with pytest.raises(SegError):
        read_settings(toml(tmp_path, "planner = 'nnunet'"), ["planner.vram_gb=1"], {})


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("1h 30m", 5400), (" 2d ", 172800), ("0.5s", 0.5),
])  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10x", "-5m", "0s", "1..5h", "1.2.3h", "10m!", "five minutes", "1h-30m"])
def test_what_is_no_duration(text):
    with pytest.raises(SegError) as caught:
        parse_duration(text)
    assert caught.value.exit_code == 2


def test_labels():
    assert parse_labels("cell=255") == {"cell": 255}
    assert list(parse_labels(" b = 2 , a=1").items()) == [("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    "text", ["", "cell", "cell=", "=1", "cell=x", "cell=-1", "cell=1.5", "a=1,a=2", "a=1,b=1", "a=1,", "a=²"])
def test_what_are_no_labels(text):
    with pytest.raises(SegError) as caught:
        parse_labels(text)
    assert caught.value.exit_code == 2


def test_only_what_changes_results_differs():
    assert differences(FULL, evolve(FULL, device="cuda", folds=(), predict=PredictOptions())) == []
    assert differences(FULL, evolve(FULL, train=evolve(FULL.train, stall_s=5.0))) == []
    assert differences(FULL, evolve(FULL, seed=8)) == ["seed: 7 then, 8 now"]
    assert len(differences(FULL, Settings())) == 9


def test_whether_a_step_is_recorded_decides_nothing():
    other = evolve(FULL, train=evolve(FULL.train, graph="off"))
    assert differences(FULL, other) == []
    assert other.train.deciding == FULL.train.deciding == {
        "steps_per_epoch": 250, "clip_norm": 1.0, "min_steps": 1500, "autocast": "auto"}
    assert len(differences(FULL, evolve(FULL, train=TrainOptions()))) == 1


@pytest.mark.parametrize("code", ["RAS", "LPI", "SAR", ""])
def test_orientations(code):
    assert read_settings(None, [f"data.reorient={code}"], {}).data.reorient == code


@pytest.mark.parametrize("code", ["ras", "RA", "RASS", "RLS", "RAA", "XYZ", "true", "1", "2D"])
def test_what_is_no_orientation(code):
    with pytest.raises(SegError, match=r"reorient|expected str") as caught:
        read_settings(None, [f"data.reorient={code}"], {})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("settings", "name"), [
    (Settings(), "nnunet"), (Settings(epochs=3), "nnunet"), (Settings(budget_s=9.0), "budget"),
    (Settings(budget_s=9.0, recipe="nnunet"), "nnunet"), (Settings(epochs=3, recipe="mine"), "mine"),
])  # fmt: skip
def test_the_recipe_is_chosen_by_the_length(settings, name):
    assert settings.chosen_recipe == name


def test_further_metrics_are_a_list_of_names_from_both_ways(tmp_path):
    for text in ("recall,segplug:lesion_f1", " recall , segplug:lesion_f1", '["recall", "segplug:lesion_f1"]'):
        assert read_settings(None, [f"metrics.also={text}"], {}).metrics.also == ("recall", "segplug:lesion_f1")
    found = read_settings(toml(tmp_path, '[metrics]\nalso = ["recall"]'), [], {})
    write_settings(tmp_path / "run.toml", found, {})
    assert read_settings(tmp_path / "run.toml", [], {}).metrics.also == ("recall",)
    assert read_settings(None, ["metrics.also=recall"], {}).metrics.also == ("recall",)
