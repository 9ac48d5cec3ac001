"""Rows of a plan: every field is there once, with the reason it has."""

import pytest
from attrs import evolve, fields

from seg import Configuration, Description, Intensities, Labels, Plan, Topology
from seg.explain import configuration_rows, plan_rows, value_text

ONE = Intensities(mean=1, median=0, std=2, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
TOPOLOGY = Topology(in_channels=1, outputs=2, features=(8, 16), kernels=((3, 3),) * 2, strides=((1, 1), (2, 2)),
                    blocks=(2, 2), decoder_blocks=(2,))
FLAT = Configuration(name="2d", spacing=(1.0, 1.0, 0.5), median_shape=(30.5, 32.0), patch=(32, 32), batch=2,
                     topology=TOPOLOGY, normalization=("zscore",), use_mask_for_norm=(False,), mirror_axes=(),
                     reasons={"patch": "It fits.", "topology.features": "Few.", "mystery": "Of another planner."})
LABELS = Labels(values={"background": 0, "liver": 1})
PLAN = Plan(description=Description(name="d", channel_names=("MR",), labels=LABELS, training_cases=1), planner="p",
            architecture="a", transpose_forward=(0, 1, 2), original_median_spacing=(1.0, 1.0, 1.0),
            original_median_shape=(1.0, 2.0, 3.0), intensities=(ONE,), configurations={"2d": FLAT},
            reasons={"configurations": "Slices alone."})


def test_every_field_of_a_configuration_is_a_row_with_its_reason():
    rows = {row.name: row for row in configuration_rows(FLAT)}
    names = {field.name for field in fields(Configuration)} - {"name", "reasons"}
    assert set(rows) == names | {f"topology.{field.name}" for field in fields(Topology)} | {"mystery"}
    assert (rows["patch"].value, rows["patch"].reason) == ("32, 32", "It fits.")
    assert (rows["topology.features"].value, rows["topology.features"].reason) == ("8, 16", "Few.")
    assert (rows["mystery"].value, rows["mystery"].reason) == ("", "Of another planner.")
    assert rows["batch"].reason == ""


def test_a_plan_names_its_configurations():
    rows = {row.name: row for row in plan_rows(evolve(PLAN, planner="nnunet"))}
    assert (rows["configurations"].value, rows["configurations"].reason) == ("2d", "Slices alone.")
    assert rows["planner"].value == "nnunet"
    assert rows["intensities"].value == "1 ± 2, 0 to 1"


@pytest.mark.parametrize(("value", "text"), [
    (None, "–"), ((), "–"), (True, "yes"), ((False, True), "no, yes"), (0.123456, "0.1235"), (3, "3"), ("ct", "ct"),
    (((1, 2), (3, 4)), "(1, 2), (3, 4)"),
])
def test_values_read_well(value, text):
    assert value_text(value) == text
