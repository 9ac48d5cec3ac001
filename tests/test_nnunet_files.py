"""nnU-Net's files: what goes out comes back, and what is wrong is told in full."""

import json

import pytest
from attrs import evolve

from seg import Configuration, Description, Fingerprint, Intensities, Labels, Plan, SegError, Topology
from seg.convert import write_json
from seg.nnunet_files import (
    fingerprint_from_nnunet,
    fingerprint_to_nnunet,
    plan_from_nnunet,
    plan_to_nnunet,
    read_description,
    read_fingerprint_file,
    read_plan_file,
)

ONE = Intensities(mean=1, median=2, std=3, min=4, max=5, percentile_00_5=6, percentile_99_5=7)
FINGERPRINT = Fingerprint(cases=("0", "1"), shapes=((8, 9, 10), (4, 5, 6)), spacings=((1.0, 2.0, 3.0),) * 2,
                          relative_size_after_cropping=0.5, intensities=(ONE, evolve(ONE, mean=9)))
DESCRIPTION = Description(name="d", channel_names=("CT", "T1"), training_cases=2,
                          labels=Labels(values={"background": 0, "whole": (1, 2), "core": 2},
                                        regions_class_order=(1, 2)))
DATASET = {"channel_names": {"0": "CT", "1": "T1"}, "labels": {"background": 0, "whole": [1, 2], "core": 2},
           "regions_class_order": [1, 2], "numTraining": 2, "file_ending": ".nii.gz", "name": "d"}


def topology(dims, in_channels=2):
    return Topology(in_channels=in_channels, outputs=2, features=(8, 16), kernels=((3,) * dims,) * 2,
                    strides=((1,) * dims, (2,) * dims), blocks=(2, 2), decoder_blocks=(2,))


def configuration(name, dims=3, **changes):
    fields = {"name": name, "spacing": (3.0, 1.0, 2.0), "median_shape": (10.5,) * dims, "patch": (16,) * dims,
              "batch": 3, "topology": topology(dims), "normalization": ("ct", "zscore"),
              "use_mask_for_norm": (False, True), "mirror_axes": tuple(range(dims))}
    return Configuration(**{**fields, **changes})


CONFIGURATIONS = [
    configuration("2d", 2, batch_dice=True),
    configuration("3d_lowres", spacing=(3.3, 2.0, 2.0), next_stage="3d_cascade_fullres"),
    configuration("3d_fullres"),
    configuration("3d_cascade_fullres", topology=topology(3, 4), previous_stage="3d_lowres"),
]
PLAN = Plan(description=DESCRIPTION, planner="nnunet", architecture="unet", transpose_forward=(2, 0, 1),
            original_median_spacing=(3.0, 1.0, 2.0), original_median_shape=(10.0, 8.0, 9.0),
            intensities=FINGERPRINT.intensities, configurations={each.name: each for each in CONFIGURATIONS})


def without_reasons(plan):
    configurations = {name: evolve(each, reasons={}) for name, each in plan.configurations.items()}
    return evolve(plan, reasons={}, configurations=configurations)


def test_a_fingerprint_goes_there_and_back():
    data = json.loads(json.dumps(fingerprint_to_nnunet(FINGERPRINT)))
    assert fingerprint_from_nnunet(data) == FINGERPRINT


@pytest.mark.parametrize(("planner", "architecture", "name", "network"), [
    ("nnunet", "unet", "nnUNetPlans", "PlainConvUNet"),
    ("resenc_l", "resenc", "nnUNetResEncUNetLPlans", "ResidualEncoderUNet"),
    ("mine", "unetpp", "mine", "unetpp"),
])
def test_a_plan_goes_there_and_back(planner, architecture, name, network):
    plan = evolve(PLAN, planner=planner, architecture=architecture)
    data = json.loads(json.dumps(plan_to_nnunet(plan)))
    assert data["plans_name"] == name
    assert data["transpose_backward"] == [1, 2, 0]
    inherited = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    assert data["configurations"]["3d_cascade_fullres"] == inherited
    assert data["configurations"]["2d"]["spacing"] == [1.0, 2.0]
    assert data["configurations"]["2d"]["architecture"]["network_class_name"].endswith(network)
    assert without_reasons(plan_from_nnunet(data, DESCRIPTION)) == plan


def test_a_plan_of_the_old_form_is_read():
    data = plan_to_nnunet(PLAN)
    for each in data["configurations"].values():
        if "architecture" in each:
            old = each.pop("architecture")["arch_kwargs"]
            each |= {"UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 8, "unet_max_num_features": 320,
                     "n_conv_per_stage_encoder": old["n_conv_per_stage"], "conv_kernel_sizes": old["kernel_sizes"],
                     "n_conv_per_stage_decoder": old["n_conv_per_stage_decoder"],
                     "pool_op_kernel_sizes": old["strides"]}
    assert without_reasons(plan_from_nnunet(data, DESCRIPTION)) == PLAN


def changed(change):
    data = json.loads(json.dumps(plan_to_nnunet(PLAN)))
    change(data, data["configurations"]["3d_fullres"])
    return data


@pytest.mark.parametrize(("change", "told"), [
    (lambda plan, full: full.pop("patch_size"), "3d_fullres: the key 'patch_size' is missing"),
    (lambda plan, full: full.update(batch_size="2"), "expected int, got '2'"),
    (lambda plan, full: full.update(inherits_from="3d_cascade_fullres"), "inherits from itself"),
    (lambda plan, full: full.update(resampling_fn_data="other"), "resampling_fn_data: other"),
    (lambda plan, full: full.update(normalization_schemes=["Odd"]), "normalisation Odd"),
    (lambda plan, full: full["architecture"]["arch_kwargs"].update(norm_op="x.Batch"), "norm_op is x.Batch"),
    (lambda plan, full: full["architecture"]["arch_kwargs"].update(n_stages=3), "has 2 entries, expected 3"),
    (lambda plan, full: plan.update(transpose_forward=[0, 0, 1]), "transpose_forward"),
    (lambda plan, full: plan.pop("configurations"), "no configurations"),
    (lambda plan, full: plan["foreground_intensity_properties_per_channel"].pop("1"), "a plan for 1 channels"),
])
def test_a_plan_that_cannot_be_used_says_why(change, told):
    with pytest.raises(SegError, match=told.replace("[", r"\[")) as caught:
        plan_from_nnunet(changed(change), DESCRIPTION)
    assert caught.value.exit_code == 2


def test_files_are_told_apart_by_their_keys(tmp_path):
    write_json(tmp_path / "ours.json", FINGERPRINT)
    write_json(tmp_path / "theirs.json", fingerprint_to_nnunet(FINGERPRINT))
    assert read_fingerprint_file(tmp_path / "ours.json") == read_fingerprint_file(tmp_path / "theirs.json")
    write_json(tmp_path / "our_plan.json", PLAN)
    write_json(tmp_path / "their_plan.json", plan_to_nnunet(PLAN))
    assert read_plan_file(tmp_path / "our_plan.json", DESCRIPTION) == PLAN
    assert without_reasons(read_plan_file(tmp_path / "their_plan.json", DESCRIPTION)) == PLAN
    with pytest.raises(SegError, match="does not say what the classes are"):
        read_plan_file(tmp_path / "their_plan.json")
    write_json(tmp_path / "dataset.json", DATASET)
    assert without_reasons(read_plan_file(tmp_path / "their_plan.json")) == PLAN


def test_a_plan_for_other_classes_or_with_an_unknown_key_is_refused(tmp_path):
    write_json(tmp_path / "plan.json", PLAN)
    with pytest.raises(SegError, match="other channels"):
        read_plan_file(tmp_path / "plan.json", evolve(DESCRIPTION, channel_names=("CT", "T2")))
    text = (tmp_path / "plan.json").read_text(encoding="utf-8").replace('"batch": 3', '"bach": 3', 1)
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(SegError, match="Did you mean 'batch'"):
        read_plan_file(tmp_path / "plan.json")


def test_a_description_is_read_from_nnunets_and_from_the_decathlons_keys():
    assert read_description(DATASET, "dataset.json") == DESCRIPTION
    decathlon = {"name": "Liver", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "tumour"},
                 "training": [{"image": "a", "label": "b"}] * 3}
    found = read_description(decathlon, "dataset.json")
    assert found.labels.values == {"background": 0, "liver": 1, "tumour": 2}
    assert (found.channel_names, found.training_cases, found.file_ending) == (("CT",), 3, ".nii.gz")


@pytest.mark.parametrize(("changes", "places"), [
    ({"channel_names": None, "numTraining": "2", "file_ending": 3}, ["channel_names", "numTraining", "file_ending"]),
    ({"channel_names": {"0": "CT", "2": "T1"}}, ["channel_names"]),
    ({"labels": {"background": 0, "a": "1"}}, ["labels.a"]),
    ({"labels": {"background": 1, "a": 0}}, ["labels.background"]),
    ({"labels": {"background": 0, "a": 1, "b": 3}}, ["labels"]),
    ({"labels": {"background": 0, "a": 1, "b": 1}}, ["labels.b"]),
    ({"labels": {"background": 0, "ignore": 1, "b": 2}}, ["labels.ignore"]),
    ({"labels": {"background": 0}}, ["labels"]),
    ({"regions_class_order": [1]}, ["regions_class_order"]),
])
def test_all_that_is_wrong_with_a_description_is_told_at_its_place(changes, places):
    with pytest.raises(SegError) as caught:
        read_description({**DATASET, **changes}, "dataset.json")
    assert [record.found.split(":")[0] for record in caught.value.records] == [f"$.{place}" for place in places]
    assert {record.code for record in caught.value.records} == {"SEG-D14"}
