import torch
from torch import nn

from seg.footprint import footprint
from seg_unetpp.unetpp import UNetPlusPlus

FLOAT = 4  # bytes


def test_weights_are_counted_in_parameters_and_bytes():
    network = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4)).eval()
    found = footprint(network, torch.zeros(1, 1, 8, 8))
    assert found.parameters == 4 + 2 * 4
    assert found.weight_bytes == FLOAT * (4 + 4 * 4) + 8  # means and variances, and a counter of 64 bits


def test_activations_are_what_is_alive_at_the_same_time():
    """Of three maps in a row two are needed at once; what is done in place, and the tiles themselves, cost nothing."""
    voxels = 2 * 8 * 8
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 1, 1))
    assert footprint(network, torch.zeros(2, 1, 8, 8), "off").activation_bytes == FLOAT * voxels * (4 + 3)


def test_what_is_kept_for_later_counts():
    class Kept(nn.Module):
        def forward(self, x):
            first = x + 1
            second = first * 2
            return second * 3 + first

    assert footprint(Kept(), torch.zeros(10, 10)).activation_bytes == FLOAT * 3 * 100 + FLOAT * 100


def test_views_of_weights_cost_nothing():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(100, 100))

        def forward(self, x):
            return x.add_(self.weight.t().reshape(100, 100).sum(0))

    assert footprint(Flat(), torch.zeros(1, 100)).activation_bytes <= FLOAT * (100 * 100 + 100)


def test_a_level_takes_no_more_than_the_next():
    nested = UNetPlusPlus(features=4)
    topology = nested.topology([(3, 3)] * 4, [(1, 1), *[(2, 2)] * 3], 1, 3)
    network, tiles = nested.build(topology).eval(), torch.zeros(2, 1, 32, 32)
    found = [footprint(nested.prune(network, name), tiles, "off") for name in nested.levels(topology)]
    for field in ("parameters", "weight_bytes", "activation_bytes"):
        values = [getattr(one, field) for one in found]
        assert values == sorted(set(values))
    assert found[-1].activation_bytes <= FLOAT * 2 * nested.feature_map_size(topology, (32, 32), 3)
