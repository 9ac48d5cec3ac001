"""What differs between two plans: each changed value once, nothing else, from whatever file a plan stands in."""

import json

import pytest
from attrs import evolve

from seg import Description, Fingerprint, Intensities, Labels
from seg.convert import to_data, write_json
from seg.nnunet_files import plan_to_nnunet
from seg.plan_diff import compare_plans, find_plan
from seg.stages.plan import make_plan
from seg_cli.main import execute
from seg_nnunet.planner import NnUNetPlanner
from seg_unet.unet import UNet

ONE = Intensities(mean=0.5, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
LABELS = Labels(values={"background": 0, "liver": 1})
DATA = {"name": "d", "channel_names": {"0": "MR"}, "labels": LABELS.values, "numTraining": 3, "file_ending": ".nii.gz"}


def made(shape=(482, 512, 512), **options):
    fingerprint = Fingerprint(cases=("a", "b", "c"), shapes=(shape,) * 3, spacings=((1.0, 0.77, 0.77),) * 3,
                              intensities=(ONE,), relative_size_after_cropping=1.0)
    description = Description(name="d", channel_names=("MR",), labels=LABELS, training_cases=3)
    return make_plan(fingerprint, description, NnUNetPlanner(**options), "nnunet", UNet(), "unet", str(options))


LARGE = made()


def with_full(**changes):
    full = LARGE.configurations["3d_fullres"]
    return evolve(LARGE, configurations={**LARGE.configurations, "3d_fullres": evolve(full, **changes)})


def test_reasons_source_and_rounding_alone_are_no_difference():
    reworded = evolve(LARGE, reasons={}, source="other", configurations={
        name: evolve(each, reasons={"patch": "So be it."}, spacing=tuple(step * (1 + 1e-12) for step in each.spacing))
        for name, each in LARGE.configurations.items()})
    assert not compare_plans(LARGE, reworded)
    assert not compare_plans(LARGE, LARGE)


@pytest.mark.parametrize(("changes", "name"), [
    ({"patch": (64, 64, 64)}, "patch"), ({"batch": 7}, "batch"), ({"spacing": (1.0, 0.77, 0.78)}, "spacing"),
    ({"mirror_axes": ()}, "mirror_axes"), ({"batch_dice": False}, "batch_dice"), ({"next_stage": "2d"}, "next_stage"),
    ({"topology": evolve(LARGE.configurations["3d_fullres"].topology, outputs=5)}, "topology.outputs"),
])
def test_a_changed_value_is_the_one_difference(changes, name):
    other = with_full(**changes)
    found = compare_plans(LARGE, other)
    assert (found.plan, found.only_first, found.only_second) == ((), (), ())
    assert [key for key, differences in found.configurations.items() if differences] == ["3d_fullres"]
    (difference,) = found.configurations["3d_fullres"]
    assert difference.name == name
    assert difference.first_reason == LARGE.configurations["3d_fullres"].reasons[name]
    assert difference.texts[0] != difference.texts[1]
    (back,) = compare_plans(other, LARGE).configurations["3d_fullres"]
    assert (back.first, back.second) == (difference.second, difference.first)


def test_what_the_whole_plan_decides_and_what_one_has_alone():
    small, other = made((36, 50, 35)), evolve(LARGE, intensities=(evolve(ONE, mean=0.50001),), planner="mine")
    found = compare_plans(small, LARGE)
    assert (found.only_first, found.only_second) == ((), ("3d_lowres", "3d_cascade_fullres"))
    assert set(found.configurations) == {"2d", "3d_fullres"}
    names = [difference.name for difference in compare_plans(LARGE, other).plan]
    assert names == ["planner", "intensities.0.mean"]
    assert compare_plans(LARGE, other).plan[1].texts == ("0.5", "0.50001")


def test_a_plan_is_found_wherever_it_stands(tmp_path):
    run, model, theirs = (tmp_path / name for name in ("run", "model", "theirs"))
    write_json(run / "plan.json", LARGE)
    write_json(model / "model.json", {"plan": to_data(LARGE), "members": []})
    write_json(theirs / "plans.json", plan_to_nnunet(LARGE))
    write_json(theirs / "dataset.json", DATA)
    for path in (run, run / "plan.json", model, model / "model.json", theirs, theirs / "plans.json"):
        found = compare_plans(LARGE, find_plan(path))
        assert [difference.name for difference in found.plan] == []
        assert not found


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_the_command_tells_them_and_ends_with_0(option, tmp_path, capsys):
    for name, plan in (("a", LARGE), ("b", with_full(batch=7)), ("c", made((36, 50, 35)))):
        write_json(tmp_path / f"{name}.json", plan)
    told = {}
    for other in "abc":
        assert execute(["diff-plans", str(tmp_path / "a.json"), str(tmp_path / f"{other}.json"), *option]) == 0
        told[other] = capsys.readouterr().out
    if option:
        (difference,) = json.loads(told["b"])["configurations"]["3d_fullres"]
        assert (difference["name"], difference["first"], difference["second"]) == ("batch", 2, 7)
        assert json.loads(told["c"])["only_first"] == ["3d_lowres", "3d_cascade_fullres"]
        assert not any(json.loads(told["a"])["configurations"].values())
    else:
        assert "no differences" in told["a"]
        assert "batch │ 2 │ 7 │ A: Memory for 2 patches" in told["b"]
        assert "only in A: 3d_lowres, 3d_cascade_fullres" in told["c"]


@pytest.mark.parametrize(("content", "code"), [(None, "SEG-C08"), ("{", "SEG-C03"), ("{}", "SEG-C02"),
                                               ('{"plan": 3, "members": []}', "SEG-C02")])
def test_what_is_no_plan_is_refused(content, code, tmp_path, capsys):
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    assert execute(["diff-plans", str(tmp_path), str(tmp_path)]) == 2
    assert code in capsys.readouterr().err
