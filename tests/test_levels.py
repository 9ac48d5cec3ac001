import pytest
import torch
from attrs import evolve

from seg import CaseMetrics, ClassMetrics, SegError
from seg.convert import write_json
from seg.levels import (
    FoldLevels,
    Level,
    at_level,
    levels_within,
    read_levels,
    require_level,
    smallest_sufficient,
    together,
)
from seg.metrics import evaluation
from seg_unet.unet import UNet
from seg_unetpp.unetpp import UNetPlusPlus

SHAPE = ([(3, 3)] * 4, [(1, 1), *[(2, 2)] * 3], 1, 2)
NESTED, PLAIN = UNetPlusPlus(features=2), UNet(features=2)
TOPOLOGY = NESTED.topology(*SHAPE)


def level(name, *dice, seconds=1.0, **sizes):
    """A level that was measured on one case for each Dice."""
    cases = [CaseMetrics(case=str(index), classes={"organ": ClassMetrics(
        dice=value, hd95_mm=None, nsd=value, truth_voxels=1, predicted_voxels=1)}) for index, value in enumerate(dice)]
    sizes = {"parameters": 1, "weight_bytes": 4, "activation_bytes": 8} | sizes
    return Level(name=name, evaluation=evaluation(cases, ["organ"]), seconds=seconds, **sizes)


def fold(*levels):
    return FoldLevels(source="s", device="cpu", levels=levels)


def refused(call, *arguments):
    with pytest.raises(SegError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_network_contains_its_level_and_the_cheaper_ones():
    assert levels_within(NESTED, TOPOLOGY) == ("L1", "L2", "L3")
    assert levels_within(NESTED, TOPOLOGY, "L2") == ("L1", "L2")
    assert levels_within(PLAIN, TOPOLOGY) == ()


def test_without_a_level_the_network_stays_what_it_is():
    network = PLAIN.build(PLAIN.topology(*SHAPE))
    assert at_level(PLAIN, network, TOPOLOGY, "") is network


def test_a_level_of_a_level_is_that_level():
    network, x = NESTED.build(TOPOLOGY).eval(), torch.randn(1, 1, 16, 16)
    held = at_level(NESTED, network, TOPOLOGY, "L2")
    found = at_level(NESTED, held, TOPOLOGY, "L1", "L2")
    assert torch.equal(found(x)[0], at_level(NESTED, network, TOPOLOGY, "L1")(x)[0])


def test_what_is_not_contained_is_refused_with_what_is():
    network = NESTED.build(TOPOLOGY)
    assert "one of L1, L2, L3" in refused(at_level, NESTED, network, TOPOLOGY, "L4")
    told = refused(at_level, NESTED, at_level(NESTED, network, TOPOLOGY, "L2"), TOPOLOGY, "L3", "L2")
    assert "one of L1, L2." in told
    assert "holds the level L2" in told
    assert "L1, L2, L3" in refused(levels_within, NESTED, TOPOLOGY, "L9")


def test_an_architecture_without_levels_refuses_them_all():
    network = PLAIN.build(PLAIN.topology(*SHAPE))
    for name in ("L1", "auto"):
        assert "without levels" in refused(require_level, PLAIN, TOPOLOGY, name)
    assert "without levels" in refused(at_level, PLAIN, network, TOPOLOGY, "L1")
    require_level(PLAIN, TOPOLOGY, "")


def test_a_level_is_required_by_name_or_any():
    for name in ("", "auto", "L1", "L3"):
        require_level(NESTED, TOPOLOGY, name)
    assert "one of L1, L2, L3" in refused(require_level, NESTED, TOPOLOGY, "L4")


@pytest.mark.parametrize(("dice", "tolerance", "expected"), [
    ((0.8, 0.9, 0.9), 0.0, "L2"), ((0.8, 0.95, 0.9), 0.0, "L2"), ((0.8, 0.899, 0.9), 0.002, "L2"),
    ((0.8, 0.897, 0.9), 0.002, "L3"), ((0.8, 0.9, 0.9), 1.0, "L1"), ((0.0, 0.0, 0.0), 0.0, "L1"),
])  # fmt: skip
def test_the_smallest_that_is_as_good_as_the_best(dice, tolerance, expected):
    levels = [level(f"L{index}", value) for index, value in enumerate(dice, 1)]
    assert smallest_sufficient(levels, tolerance).name == expected


def test_without_any_dice_it_is_the_whole():
    assert smallest_sufficient([level("L1", None), level("L2")], 0.1).name == "L2"
    assert smallest_sufficient([level("L1", None), level("L2", 0.1), level("L3", 0.1)], 1.0).name == "L2"
    with pytest.raises(ValueError, match="no levels"):
        smallest_sufficient([], 0.0)


def test_folds_count_by_their_cases():
    one = fold(level("L1", 0.2, 0.4, seconds=1.0), level("L2", 0.5, 0.5, activation_bytes=9))
    other = fold(level("L1", 0.9, seconds=3.0), level("L2", 0.8))
    first, second = together([one, other])
    assert first.dice == pytest.approx((0.5, 0.5))
    assert first.seconds == 2.0
    assert second.dice == pytest.approx((0.6, 0.6))
    assert (second.activation_bytes, second.memory_bytes) == (9, 13)
    assert together([one]) == one.levels
    assert together([]) == ()


def test_a_level_that_a_fold_lacks_is_no_level_of_all():
    deep, shallow = fold(level("L1", 0.2), level("L2", 0.3)), fold(level("L1", 0.4))
    assert [found.name for found in together([deep, shallow])] == ["L1"]
    assert [found.name for found in together([shallow, deep])] == ["L1"]


def test_what_is_written_is_read_back(tmp_path):
    found = fold(level("L1", 0.2, None), level("L2", 0.3, 0.4))
    write_json(tmp_path / "fold_0/levels.json", found)
    assert read_levels(tmp_path) == together([found])
    write_json(tmp_path / "fold_1/levels.json", evolve(found, source="other"))
    assert [len(one.evaluation.cases) for one in read_levels(tmp_path)] == [4, 4]
    assert read_levels(tmp_path / "absent") == ()
