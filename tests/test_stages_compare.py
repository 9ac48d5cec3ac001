"""`seg compare`: the grid is run, kept, told and paired; one member that fails leaves the rest."""

import csv
import json
import os
import re
from html.parser import HTMLParser

import h5py
import numpy as np
import pytest

import seg
from helpers import SHORT
from seg.convert import read_json, write_json
from seg.discovery import discover
from seg.errors import Exit
from seg.grids import make_grid
from seg.settings import Settings
from seg.stages.compare import _refuse_other_folds, estimate_lines
from seg.stages.comparison import Comparison
from seg_cli.main import execute

CASES = 6  # of the fixture `data`
GRID = ["--arch", "unet,unetpp", "--augmenter", "none,nnunet", *SHORT, "--set", "metrics.also=recall,volume_error"]
MEMBERS = ["unet-none", "unet-nnunet", "unetpp-none", "unetpp-nnunet"]


@pytest.fixture(scope="module")
def grid(data, tmp_path_factory):
    """A finished comparison; tests only look at it."""
    folder = tmp_path_factory.mktemp("grid")
    assert execute(["compare", str(data), "-o", str(folder), *GRID]) == 0
    return folder


def result(folder):
    return read_json(folder / "compare.json", Comparison)


def costly(folder):
    """What must not be made twice, by the time it was written."""
    patterns = ("*/cases/*/*.h5", "*/training/*/*/*", "*/validation/*/*/*.nii.gz")
    return {path: path.stat().st_mtime_ns for pattern in patterns for path in folder.glob(pattern)}


class Text(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.words, self.links = [], []
        self.feed(page)

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src")]


def test_every_member_is_a_run_of_the_same_folds(grid):
    found = result(grid)
    assert [member.name for member in found.members] == MEMBERS
    assert found.folds == ("0",)
    assert len({(grid / name / "splits.json").read_text() for name in MEMBERS}) == 1
    for member in found.members:
        mine = json.loads((grid / member.name / "validation/model/metrics.json").read_text())
        assert member.mean == mine["mean"]
        assert (member.cases, member.steps) == (2, 2)
        assert member.parameters > 0
        assert member.peak_memory_bytes is None
    by_name = {member.name: member.parameters for member in found.members}
    assert by_name["unet-none"] == by_name["unet-nnunet"] < by_name["unetpp-none"]


def test_cases_are_prepared_once(grid):
    files = list(grid.glob("*/cases/*/*.h5"))
    assert len(files) == 4 * 6
    assert len({file.stat().st_ino for file in files}) == 6


def test_cases_that_are_prepared_otherwise_are_prepared_anew(data, command, tmp_path):
    code, _, _ = command("compare", data, "-o", tmp_path, "--vary", "data.reorient=RAS,LPS", *SHORT)
    assert code == 0
    stores = [tmp_path / f"reorient={name}/cases/3d_fullres" for name in ("RAS", "LPS")]
    for file in stores[0].glob("*.h5"):
        images = []
        for store in stores:
            with h5py.File(store / file.name) as stored:
                images.append(stored["image"][()])
        np.testing.assert_allclose(images[0], images[1][..., ::-1, ::-1], atol=1e-4)  # sums in another order


def test_differences_are_to_the_first_and_effects_over_the_rest(grid):
    found = result(grid)
    assert [(each.name, each.against) for each in found.differences] == [(name, "unet-none") for name in MEMBERS[1:]]
    means = {member.name: member.mean["dice"] for member in found.members}
    for each in found.differences:
        assert each.differences["dice"].difference == pytest.approx(means[each.name] - means["unet-none"])
        assert each.differences["dice"].cases == 2
        assert not each.supported
    (architecture,), (augmenter,) = found.effects["architecture"], found.effects["augmenter"]
    assert (architecture.name, architecture.against, augmenter.name) == ("unetpp", "unet", "nnunet")
    assert len(architecture.each) == 2
    wanted = (means["unetpp-none"] + means["unetpp-nnunet"] - means["unet-none"] - means["unet-nnunet"]) / 2
    assert architecture.differences["dice"].difference == pytest.approx(wanted)


def test_the_page_needs_no_network_and_links_every_report(grid):
    page = Text((grid / "compare.html").read_text())
    text = " ".join(" ".join(page.words).split())
    inside = [link for link in page.links if not link.startswith("#")]
    assert inside == [f"{name}/report.html" for name in MEMBERS]
    assert all((grid / link).exists() for link in inside)
    for word in (*MEMBERS, "baseline", "architecture", "augmenter", "organ", "tumour", "the intervals say little",
                 "Differences to unet-none", "1 epochs of 2 steps"):
        assert word in text


def test_further_metrics_stand_in_the_data_in_the_table_and_on_the_page(grid):
    found = result(grid)
    assert found.further == {"recall": True, "volume_error": False}
    for effects in (found.differences, *found.effects.values()):
        assert all(list(each.differences) == ["dice", "hd95_mm", "nsd", "recall", "volume_error"] for each in effects)
    with (grid / "compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["recall"] for row in rows] == [str(member.mean["recall"]) for member in found.members]
    page = Text((grid / "compare.html").read_text())
    assert page.words.count("recall") == 4  # members, differences, two factors
    text = " ".join(" ".join(page.words).split())
    assert "Of HD95, volume_error less is better" in text
    assert f"{found.members[0].mean['recall']:.4f}" in text
    assert f"{found.differences[0].differences['recall'].difference:+.4f}" in text


def test_the_table_has_a_row_a_member(grid):
    with (grid / "compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["member"] for row in rows] == MEMBERS
    assert [(row["architecture"], row["augmenter"]) for row in rows] == [tuple(name.split("-")) for name in MEMBERS]
    assert [bool(row["difference_dice"]) for row in rows] == [False, True, True, True]


def test_the_same_command_keeps_everything(grid, data, command):
    before, found = costly(grid), result(grid)
    code, out, err = command("compare", data, "-o", grid, *GRID)
    assert code == 0
    assert err.count("trained already") == 4
    assert costly(grid) == before
    assert result(grid) == found
    assert "4 members in" in err
    assert re.search(r"unetpp-nnunet .*\d", out)
    assert out.count("volume_error") == 4  # members, differences, two factors
    assert str(grid / "compare.html") in out
    assert "the intervals say little" in out


def test_other_settings_in_the_same_folder_are_refused(grid, data, command):
    before = costly(grid)
    code, _, err = command("compare", data, "-o", grid, *GRID, "--set", "train.steps_per_epoch=3")
    assert code == Exit.USAGE
    assert "SEG-C07" in err
    assert costly(grid) == before


@pytest.mark.parametrize(("words", "exit_code", "named"), [
    (["--arch", "unet,unett"], Exit.USAGE, "Did you mean 'unet"),
    (["--arch", "unet,unetpp", "--set", "planner.nothing=1"], Exit.USAGE, "planner.nothing"),
    (["--vary", "architecture.features=4,x"], Exit.USAGE, "expected int"),
    (["--vary", "architecture.features"], Exit.USAGE, "--vary"),
    (["--arch", "unet"], Exit.USAGE, "nothing varies"),
    (["--seed", "0,a"], Exit.USAGE, "seed")])
def test_mistakes_are_told_before_any_work(words, exit_code, named, data, command, tmp_path):
    code, _, err = command("compare", data, "-o", tmp_path / "grid", "--epochs", "1", *words)
    assert code == exit_code
    assert named in err
    assert not (tmp_path / "grid").exists()


def test_faulty_data_are_refused_once(data, command, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((data / name).iterdir())[:2]:
            os.link(file, tmp_path / "data" / name / file.name)
    description = (data / "dataset.json").read_text().replace('"numTraining": 6', '"numTraining": 2')
    (tmp_path / "data/dataset.json").write_text(description)
    code, _, err = command("compare", tmp_path / "data", "-o", tmp_path / "grid", *GRID)
    assert code == Exit.DATA
    assert err.count("member ") == 1


def test_the_estimate_counts_members_and_folds(tmp_path):
    factors = {"architecture": ["unet", "unetpp"], "seed": [0, 1, 2]}
    lines = estimate_lines(make_grid(Settings(folds=("all",), budget_s=20.0), factors), tmp_path, 5)
    assert "6 members" in lines[0]
    assert "30 trainings of 20 s each, 10 min in all" in lines[1]


def test_members_of_other_folds_are_refused(tmp_path):
    for name, folds in (("a", [{"train": ["x"], "val": ["y"]}]), ("b", [{"train": ["y"], "val": ["x"]}])):
        write_json(tmp_path / name / "splits.json", folds)
    _refuse_other_folds(tmp_path / "a", [tmp_path / "a"])
    with pytest.raises(seg.SegError, match="other folds than a has"):
        _refuse_other_folds(tmp_path / "b", [tmp_path / "a"])


@pytest.mark.parametrize("broken", ["unetpp", "unet"])
def test_a_member_that_fails_leaves_the_others(broken, data, command, tmp_path, monkeypatch):
    found, _ = discover().build("architecture", broken)

    def refuse(self, topology):
        raise seg.SegError(seg.Record(code="SEG-R05", found="no room for this"), Exit.RESOURCES)

    monkeypatch.setattr(type(found), "build", refuse)
    code, out, err = command("compare", data, "-o", tmp_path, "--arch", "unet,unetpp", *SHORT)
    assert code == Exit.PARTLY
    assert "no room for this" in err
    assert "failed" in out
    made = result(tmp_path)
    good = {"unet": "unetpp", "unetpp": "unet"}[broken]
    assert {member.name: bool(member.faults) for member in made.members} == {broken: True, good: False}
    assert made.differences == ()
    assert "no room for this" in (tmp_path / "compare.html").read_text()
    monkeypatch.undo()
    code, _, err = command("compare", data, "-o", tmp_path, "--arch", "unet,unetpp", *SHORT)
    assert code == 0
    assert err.count("trained already") == 1
    assert len(result(tmp_path).differences) == 1


def test_what_a_component_raises_is_its_members_fault_alone(data, command, tmp_path, monkeypatch):
    found, _ = discover().build("architecture", "unetpp")
    monkeypatch.setattr(type(found), "build", lambda self, topology: 1 / 0)
    code, _, err = command("compare", data, "-o", tmp_path, "--arch", "unet,unetpp", *SHORT)
    assert code == Exit.PARTLY
    assert "SEG-T10" in err
    assert "ZeroDivisionError" in err


def test_a_comparison_that_is_stopped_goes_on(data, command, tmp_path, monkeypatch):
    found, _ = discover().build("architecture", "unetpp")

    def stop(self, topology):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(found), "build", stop)
    words = ("compare", data, "-o", tmp_path, "--arch", "unet,unetpp", *SHORT)
    assert command(*words)[0] == 130
    assert not (tmp_path / "compare.json").exists()
    monkeypatch.undo()
    before = {path: time for path, time in costly(tmp_path).items() if path.is_relative_to(tmp_path / "unet")}
    code, _, err = command(*words)
    assert code == 0
    assert err.count("trained already") == 1
    assert costly(tmp_path).items() >= before.items()


def test_all_members_failing_is_no_part_done(data, command, tmp_path, monkeypatch):
    for name in ("unet", "unetpp"):
        found, _ = discover().build("architecture", name)
        monkeypatch.setattr(type(found), "build", lambda self, topology: 1 / 0)
    code, _, err = command("compare", data, "-o", tmp_path, "--arch", "unet,unetpp", *SHORT)
    assert code == Exit.PLUGIN
    assert err.count("ZeroDivisionError") >= 2


def test_seeds_are_repetitions(data, command, tmp_path):
    code, _, _ = command("compare", data, "-o", tmp_path, "--augmenter", "none,nnunet", "--seed", "0,1", *SHORT)
    assert code == 0
    found = result(tmp_path)
    assert [member.name for member in found.members] == ["none-seed=0", "none-seed=1", "nnunet-seed=0", "nnunet-seed=1"]
    (only,) = found.differences
    assert (only.name, only.against, len(only.each)) == ("nnunet", "none", 2)
    assert found.effects == {}


def test_seeds_alone_are_compared_with_the_first(data, command, tmp_path):
    assert command("compare", data, "-o", tmp_path, "--seed", "0,1", *SHORT)[0] == 0
    assert [(each.name, each.against) for each in result(tmp_path).differences] == [("seed=1", "seed=0")]
