"""A plan that does not fit together stops before anything is built from it."""

import pytest
from attrs import evolve, frozen

from seg import Description, Fingerprint, Intensities, Labels, SegError
from seg.stages.plan import make_plan
from seg_nnunet.planner import NnUNetPlanner
from seg_unet.unet import UNet

ONE = Intensities(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
FINGERPRINT = Fingerprint(cases=("a",), shapes=((32, 40, 48),), spacings=((1.0, 1.0, 1.0),), intensities=(ONE,),
                          relative_size_after_cropping=1.0)
DESCRIPTION = Description(name="d", channel_names=("MR",), labels=Labels(values={"background": 0, "liver": 1}),
                          training_cases=1)


@frozen
class Wrong:
    """A planner whose 3-D configuration is changed afterwards."""

    changes: dict

    def plan(self, fingerprint, description, architecture):
        found = NnUNetPlanner().plan(fingerprint, description, architecture)
        full = found.configurations["3d_fullres"]
        topology = evolve(full.topology, **self.changes.get("topology", {}))
        full = evolve(full, **{**self.changes, "topology": topology})
        return evolve(found, configurations={**found.configurations, "3d_fullres": full})


def test_names_and_source_are_filled_in():
    found = make_plan(FINGERPRINT, DESCRIPTION, NnUNetPlanner(), "nnunet", UNet(), "unet", "digest")
    assert (found.planner, found.architecture, found.source) == ("nnunet", "unet", "digest")


@pytest.mark.parametrize(("changes", "told"), [
    ({"patch": (33, 40, 48)}, "axis 0 of the patch has 33 voxels"),
    ({"topology": {"kernels": ((3, 3, 3),)}}, "kernels has 1 entries"),
    ({"topology": {"blocks": (2,)}}, "blocks has 1 entries"),
    ({"topology": {"outputs": 5}}, "5 outputs, expected 2"),
    ({"topology": {"in_channels": 3}}, "3 in_channels, expected 1"),
    ({"mirror_axes": (3,)}, "no axes of the patch"),
    ({"normalization": ()}, "0 entries of normalization"),
    ({"spacing": (1.0, 0.0, 1.0)}, "not positive"),
    ({"next_stage": "4d"}, "'4d' is not in the plan"),
    ({"name": "other"}, "called 'other' inside"),
])
def test_a_plan_that_does_not_fit_names_its_planner(changes, told):
    with pytest.raises(SegError, match=told) as caught:
        make_plan(FINGERPRINT, DESCRIPTION, Wrong(changes), "mine", UNet(), "unet")
    assert caught.value.exit_code == 6
    assert "'mine'" in str(caught.value)


def test_a_fingerprint_of_images_that_lie_otherwise_is_refused():
    mixed = evolve(FINGERPRINT, orientations={"LPS": 2, "RAS": 1})
    turned = evolve(DESCRIPTION, orientation="RAS")
    with pytest.raises(SegError, match=r"SEG-D22 .* lie as LPS, RAS; expected RAS") as caught:
        make_plan(mixed, turned, NnUNetPlanner(), "nnunet", UNet(), "unet")
    assert caught.value.exit_code == 3
    for fingerprint, description in ((mixed, DESCRIPTION), (FINGERPRINT, turned),
                                     (evolve(mixed, orientations={"RAS": 3}), turned)):
        assert make_plan(fingerprint, description, NnUNetPlanner(), "nnunet", UNet(), "unet").configurations


def test_a_fingerprint_of_other_channels_is_refused():
    two = evolve(DESCRIPTION, channel_names=("T1", "T2"))
    with pytest.raises(SegError, match="a fingerprint of 1 channels"):
        make_plan(FINGERPRINT, two, NnUNetPlanner(), "nnunet", UNet(), "unet")
