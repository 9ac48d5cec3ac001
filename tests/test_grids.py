"""Grids of settings: the product, its names, and what is refused."""

import itertools

import pytest

from seg import SegError
from seg.errors import Exit
from seg.grids import make_grid, member_name, named_kinds, split_values
from seg.settings import Settings

BASE = Settings(epochs=1)


def test_the_grid_is_the_product_and_the_last_factor_varies_fastest():
    factors = {"architecture": ["unet", "unetpp"], "seed": [0, 1, 2], "planner.vram_gb": [4, 8]}
    members = make_grid(BASE, factors)
    found = [(one.settings.architecture, one.settings.seed, one.settings.of("planner")["vram_gb"]) for one in members]
    assert found == list(itertools.product(*factors.values()))
    assert len({one.name for one in members}) == len(members)
    assert all(list(one.choices) == list(factors) for one in members)


def test_names_have_what_varies_alone():
    factors = {"architecture": ["unet", "unetpp"], "sampler": ["uniform"], "augmenter": ["nnunet", "none"]}
    members = make_grid(BASE, factors)
    assert [one.name for one in members] == ["unet-nnunet", "unet-none", "unetpp-nnunet", "unetpp-none"]
    assert {one.settings.sampler for one in members} == {"uniform"}


@pytest.mark.parametrize("choices", [
    {"architecture": "some-dist:unet"}, {"planner.x": "../up"}, {"planner.path": "a/b c"}, {"planner.sizes": "1,2"}])
def test_names_can_be_folders(choices):
    name = member_name(choices)
    assert name
    assert not set(name) & set("/\\: *?")
    assert name.strip(".") == name


def test_options_and_groups_can_vary_beside_what_is_set():
    base = Settings(options={"planner": {"mirroring": "auto"}})
    first, second = make_grid(base, {"planner.vram_gb": [4, 8]})
    assert [one.settings.of("planner") for one in (first, second)] == [
        {"mirroring": "auto", "vram_gb": 4}, {"mirroring": "auto", "vram_gb": 8}]
    members = make_grid(BASE, {"train.clip_norm": [0.1, 0.2]})
    assert [one.settings.train.clip_norm for one in members] == [0.1, 0.2]
    assert {one.settings.train.steps_per_epoch for one in members} == {BASE.train.steps_per_epoch}


@pytest.mark.parametrize(("text", "values"), [
    ("4,8", [4, 8]), ("0.5", [0.5]), ("true,false", [True, False]), ("unet,unetpp", ["unet", "unetpp"]),
    ("auto, 0.5", ["auto", 0.5]), ("[1, 2],[3, 4]", [[1, 2], [3, 4]])])
def test_values_are_read_as_set_reads_them(text, values):
    assert split_values(text) == values


@pytest.mark.parametrize(("factors", "named"), [
    ({}, "nothing varies"), ({"architecture": ["unet"]}, "nothing varies"),
    ({"architectur": ["a", "b"]}, "Did you mean 'architecture'"), ({"epochs": [1, 2]}, "cannot be varied"),
    ({"plannr.vram_gb": [1, 2]}, "Did you mean 'planner'"), ({"train.clip_nrm": [1, 2]}, "clip_norm"),
    ({"seed": ["a", "b"]}, "expected int"), ({"train.steps_per_epoch": [0, 1]}, "steps_per_epoch"),
    ({"sampler": ["uniform", "uniform"]}, "several are called uniform")])
def test_mistakes_are_refused_with_a_hint(factors, named):
    with pytest.raises(SegError, match=named) as caught:
        make_grid(BASE, factors)
    assert caught.value.exit_code == Exit.USAGE


def test_every_kind_that_settings_name_can_vary():
    assert {"planner", "architecture", "augmenter", "postprocessor"} <= set(named_kinds())
    for kind in named_kinds():
        assert [getattr(one.settings, kind) for one in make_grid(BASE, {kind: ["a", "b"]})] == ["a", "b"]
