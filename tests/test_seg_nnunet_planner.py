"""The planners: what nnU-Net itself plans, and the laws every plan obeys."""

import json
import math
import re
from pathlib import Path

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from seg import Configuration, Description, Fingerprint, Intensities, Labels, Plan, SegError, Topology
from seg.convert import from_data, to_data
from seg.nnunet_files import fingerprint_from_nnunet, plan_to_nnunet, read_description
from seg.stages.plan import plan_faults
from seg_nnunet.planner import NnUNetPlanner, ResEncLPlanner, ResEncMPlanner, ResEncXLPlanner
from seg_resenc.resenc import ResEncUNet
from seg_unet.unet import UNet

GOLDEN = Path(__file__).parents[2] / "shared" / "peer" / "golden_plans.json"
PLANNERS = {"ExperimentPlanner": NnUNetPlanner(), "nnUNetPlannerResEncM": ResEncMPlanner(),
            "nnUNetPlannerResEncL": ResEncLPlanner(), "nnUNetPlannerResEncXL": ResEncXLPlanner()}
NOT_DECIDED = {"schema", "description", "planner", "architecture", "reasons", "source"}
NEAR = {"spacing", "median_image_size_in_voxels"}
NOT_IN_PLANS = {"data_identifier", "next_stage", "num_pool_per_axis", "vram_estimate",
                "vram_estimate_from_real_network"}
ONE = Intensities(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)


def plan(fingerprint, description, planner=None):
    planner = planner or NnUNetPlanner()
    architecture = UNet() if planner.default_architecture == "unet" else ResEncUNet()
    return planner.plan(fingerprint, description, architecture)


def cases(shapes, spacings, **changes):
    found = Fingerprint(cases=tuple(map(str, range(len(shapes)))), shapes=tuple(shapes), spacings=tuple(spacings),
                        intensities=(ONE,), relative_size_after_cropping=1.0)
    return evolve(found, **changes)


def data_set(training_cases=20, **labels):
    values = {"background": 0, **(labels or {"liver": 1})}
    return Description(name="d", channel_names=("MR",), labels=Labels(values=values), training_cases=training_cases)


def names_of(kind):
    return {field.name for field in fields(kind)}


LARGE = cases([(482, 512, 512)] * 3, [(1.0, 0.77, 0.77)] * 3)
SMALL = cases([(36, 50, 35)] * 3, [(1.0, 1.0, 1.0)] * 3)


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip("nnU-Net's own plans are not beside the repository")
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]


def test_plans_are_those_of_nnunet(golden):
    for case in golden:
        given_, zeros = case["input"], to_data(ONE)
        channels = {str(index): name for index, name in enumerate(given_["channel_names"])}
        fingerprint = fingerprint_from_nnunet({
            "spacings": given_.get("spacings") or given_["spacings_unique"] * given_["n"],
            "shapes_after_crop": given_.get("shapes") or given_["shapes_unique"] * given_["n"],
            "median_relative_size_after_cropping": given_["median_relative_size_after_cropping"],
            "foreground_intensity_properties_per_channel": dict.fromkeys(channels, zeros),
        })
        description = read_description({"channel_names": channels, "labels": given_["labels"],
                                        "numTraining": given_["n"], "file_ending": ".nii.gz"}, "dataset.json")
        for name, want in case["plans"].items():
            found = plan_to_nnunet(evolve(plan(fingerprint, description, PLANNERS[name]), architecture="unet"))
            assert found["transpose_forward"] == want["transpose_forward"]
            for configuration, values in want["configurations"].items():
                other = found["configurations"][configuration]
                flat = {**other, **other.get("architecture", {}).get("arch_kwargs", {})}
                for key in set(values) - NOT_IN_PLANS:
                    want_value = pytest.approx(values[key], rel=1e-9) if key in NEAR else values[key]
                    assert flat[key] == want_value, (case["name"], name, configuration, key)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.tuples(*[st.integers(16, 400)] * 3), spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
       planner=st.sampled_from(list(PLANNERS.values())), count=st.integers(1, 4))
def test_every_plan_fits_together_and_survives_its_file(data, size, spacing, planner, count):
    factor = st.floats(0.8, 1.25)
    shapes = [tuple(round(length * data.draw(factor)) for length in size) for _ in range(count)]
    spacings = [tuple(step * data.draw(factor) for step in spacing) for _ in range(count)]
    found = plan(cases(shapes, spacings), data_set(), planner)
    assert plan_faults(found) == []
    assert from_data(json.loads(json.dumps(to_data(found))), Plan) == found
    assert set(found.configurations) in ({"2d", "3d_fullres"}, {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"})
    assert set(found.reasons) == names_of(Plan) - NOT_DECIDED
    for configuration in found.configurations.values():
        assert configuration.batch >= 2
        topology = {f"topology.{name}" for name in names_of(Topology)}
        assert set(configuration.reasons) == (names_of(Configuration) | topology) - {"name", "reasons"}
        assert all(re.search(r"^[\w'].*\.$", reason) for reason in configuration.reasons.values())
        for axis, length in enumerate(configuration.patch):
            assert length % math.prod(stride[axis] for stride in configuration.topology.strides) == 0


def test_more_memory_never_gives_a_smaller_batch_of_voxels():
    sizes = [math.prod(each.patch) * each.batch for gb in (4, 8, 16, 32)
             for each in [plan(LARGE, data_set(), NnUNetPlanner(vram_gb=gb)).configurations["3d_fullres"]]]
    assert sizes == sorted(sizes)


def test_single_slices_have_the_2d_configuration_alone():
    found = plan(cases([(1, 400, 400)] * 30, [(999.0, 1.0, 1.0)] * 30), data_set(30))
    assert list(found.configurations) == ["2d"]


def test_the_cascade_repeats_full_resolution_with_the_classes_as_further_channels():
    found = plan(LARGE, data_set(whole=(1, 2), core=2, ignore=3)).configurations
    cascade, full = found["3d_cascade_fullres"], found["3d_fullres"]
    assert (cascade.previous_stage, found["3d_lowres"].next_stage) == ("3d_lowres", "3d_cascade_fullres")
    assert cascade.topology == evolve(full.topology, in_channels=1 + 2)
    assert (cascade.patch, cascade.batch, cascade.batch_dice) == (full.patch, full.batch, True)
    assert "3d_lowres" not in plan(SMALL, data_set()).configurations


def test_reasons_name_the_numbers_that_decide_and_what_else_there_would_be():
    hippocampus = plan(cases([(36, 50, 35)] * 260, [(1.0, 1.0, 1.0)] * 260), data_set(260, front=1, back=2))
    flat, full = (hippocampus.configurations[name] for name in ("2d", "3d_fullres"))
    assert (flat.batch, full.batch) == (366, 9)
    assert "at most 5 % of the data set's voxels, which is 366 patches" in flat.reasons["batch"]
    assert full.reasons["batch"].startswith("Memory for 58 patches (560 million / 19.17 million · 2)")
    assert full.reasons["batch"].endswith("Without the share of the data set it would be 58.")
    assert "142 % of the median image" in hippocampus.reasons["configurations"]
    large = plan(LARGE, data_set()).configurations
    assert "and 128 × 160 × 128 would have 563.4 million." in large["3d_fullres"].reasons["patch"]
    assert "A larger one would show no more of the image." in large["2d"].reasons["patch"]
    assert "coarsened 31 times by 3 %" in large["3d_lowres"].reasons["spacing"]
    coarse = plan(cases([(20, 320, 320)] * 9 + [(30, 320, 320)], [(3.6, 0.62, 0.62)] * 9 + [(2.4, 0.62, 0.62)]),
                  data_set()).configurations["3d_fullres"]
    assert "3 times coarser and 3 times shorter" in coarse.reasons["spacing"]
    assert f"the 10th percentile, {coarse.spacing[0]:g} mm" in coarse.reasons["spacing"]
    given_ = plan(SMALL, data_set(), NnUNetPlanner(spacing=(1.0, 2.0, 1.5), mirroring="none")).configurations["2d"]
    assert "the rules would give 1 × 1 × 1 mm" in given_.reasons["spacing"]
    assert "With auto: All axes" in given_.reasons["mirror_axes"]


def test_a_reason_whose_number_a_budget_changed_is_replaced():
    full = plan(LARGE, data_set()).configurations["3d_fullres"]
    for form, reason in NnUNetPlanner().reductions(full):
        replaced = {name for name in full.reasons if full.reasons[name] != form.reasons[name]}
        changed = {name for name in names_of(Configuration) if getattr(form, name) != getattr(full, name)}
        changed |= {f"topology.{name}" for name in ("features", "strides")
                    if getattr(form.topology, name) != getattr(full.topology, name)}
        assert changed - {"reasons"} <= replaced
        assert reason in form.reasons.values()


def test_a_given_spacing_decides_the_order_of_the_axes():
    found = plan(SMALL, data_set(), NnUNetPlanner(spacing=(1.0, 2.0, 1.5)))
    assert found.transpose_forward == (1, 0, 2)
    assert found.configurations["3d_fullres"].spacing == (2.0, 1.0, 1.5)
    with pytest.raises(SegError, match="three positive numbers"):
        plan(SMALL, data_set(), NnUNetPlanner(spacing=(1.0, -2.0, 1.5)))


def test_left_and_right_are_not_mirrored():
    found = plan(evolve(SMALL, orientations={"RAS": 3}), data_set(kidney_left=1, kidney_right=2)).configurations
    assert found["3d_fullres"].mirror_axes == (0, 1)
    assert found["2d"].mirror_axes == (0,)
    assert "kidney_left" in found["2d"].reasons["mirror_axes"]


def test_a_network_that_never_fits_is_refused():
    class Greedy(UNet):
        def feature_map_size(self, topology, patch, classes):
            return 10**15

    with pytest.raises(SegError, match="SEG-R05"):
        NnUNetPlanner().plan(LARGE, data_set(), Greedy())


def test_reductions_get_cheaper_step_by_step_and_say_why():
    planner = NnUNetPlanner()
    full = plan(SMALL, data_set(1000)).configurations["3d_fullres"]
    steps = [full, *(each for each, _ in planner.reductions(full))]
    assert [each.batch for each in steps[:2]] == [full.batch, 2]
    assert [each.topology.features[0] for each in (steps[0], steps[-1])] == [32, 8]
    sizes = [math.prod(each.patch) * each.topology.features[0] * each.batch for each in steps]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert all(not any(size % math.prod(stride) for size, stride in zip(each.patch, zip(*each.topology.strides,
                                                                        strict=True), strict=True)) for each in steps)
    assert all(each.reasons != full.reasons for each in steps[1:])
    assert list(planner.reductions(steps[-1])) == []


def test_a_batch_that_was_asked_for_is_that_of_every_configuration_and_changes_nothing_else():
    free, told = (plan(LARGE, data_set(), NnUNetPlanner(batch=batch)).configurations for batch in (0, 8))
    assert {each.batch for each in told.values()} == {8}
    assert all("planner.batch=8" in each.reasons["batch"] for each in told.values())
    assert {name: each.patch for name, each in told.items()} == {name: each.patch for name, each in free.items()}
