"""Stages of a cascade come after those they need, and those are trained on every fold."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from seg.cascades import trainings, with_previous_stages

PLAN = {name: SimpleNamespace(previous_stage=stage) for name, stage in
        (("last", "middle"), ("2d", None), ("first", None), ("middle", "first"))}


def test_a_stage_brings_those_before_it():
    assert with_previous_stages(["2d"], PLAN) == ["2d"]
    assert with_previous_stages(["last"], PLAN) == ["first", "middle", "last"]


@given(st.sets(st.sampled_from(sorted(PLAN))))
def test_each_comes_once_and_after_what_it_needs(chosen):
    found = with_previous_stages(chosen, PLAN)
    assert set(found) >= chosen
    assert len(found) == len(set(found))
    for place, name in enumerate(found):
        assert PLAN[name].previous_stage in (None, *found[:place])


def test_what_hands_on_is_trained_on_every_fold():
    assert trainings(["last"], ["1"], PLAN, 3) == {"first": ("0", "1", "2"), "middle": ("0", "1", "2"), "last": ("1",)}
    assert trainings(["2d", "first"], ["1", "full"], PLAN, 3) == {"2d": ("1", "full"), "first": ("1", "full")}
    assert trainings(["middle"], ["full"], PLAN, 2) == {"first": ("0", "1", "full"), "middle": ("full",)}
