import pytest
from attrs import evolve

from seg import SegError, Topology, doubling_features, halving_weights, stage_voxels


def topology(stages):
    return Topology(in_channels=1, outputs=2, features=(1,) * stages, kernels=((3, 3),) * stages,
                    strides=((1, 1), *(((2, 2),) * (stages - 1))), blocks=(2,) * stages,
                    decoder_blocks=(2,) * (stages - 1))  # fmt: skip


def test_features_double_up_to_the_cap():
    assert doubling_features(32, 0, [(3, 3)] * 6) == (32, 64, 128, 256, 512, 512)
    assert doubling_features(32, 0, [(3, 3, 3)] * 6) == (32, 64, 128, 256, 320, 320)
    assert doubling_features(8, 20, [(3, 3, 3)] * 3) == (8, 16, 20)


def test_one_stage_is_refused():
    with pytest.raises(SegError, match="8 voxels"):
        doubling_features(32, 0, [(3, 3)])


def test_voxels_are_divided_by_all_strides_so_far():
    assert stage_voxels(topology(3), (12, 8)) == (96, 24, 6)


@pytest.mark.parametrize(("stages", "expected"), [
    (2, (1.0,)), (3, (1.0, 0.0)), (4, (2 / 3, 1 / 3, 0.0)), (6, (8 / 15, 4 / 15, 2 / 15, 1 / 15, 0.0)),
])  # fmt: skip
def test_the_coarsest_output_has_no_weight(stages, expected):
    assert halving_weights(topology(stages)) == pytest.approx(expected)
    assert halving_weights(evolve(topology(stages), deep_supervision=False)) == (1.0,)
