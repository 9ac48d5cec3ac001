"""Poolings: what every topology obeys."""

from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from seg_nnunet._topology import pooling

sizes = st.lists(st.integers(1, 300).map(float) | st.integers(1, 300).map(lambda n: n + 0.5), min_size=2, max_size=3)


@settings(max_examples=200, deadline=None)
@given(size=sizes, data=st.data())
def test_every_halving_is_exact_and_every_kernel_grows_once(size, data):
    spacing = data.draw(st.lists(st.floats(0.2, 8), min_size=len(size), max_size=len(size)))
    found = pooling(spacing, size)
    assert len(found.kernels) == len(found.strides)
    assert set(found.strides[0]) == {1}
    assert set(found.kernels[-1]) == {3}
    for axis, length in enumerate(size):
        divisor = prod(stride[axis] for stride in found.strides)
        assert found.divisors[axis] == divisor
        assert found.patch[axis] % divisor == 0
        assert length <= found.patch[axis] < length + divisor
        kernels = [kernel[axis] for kernel in found.kernels]
        assert kernels == sorted(kernels)


def test_a_coarse_axis_waits_for_the_others():
    found = pooling((3.6, 0.62, 0.62), (20, 320, 256))
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert found.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert found.divisors == (4, 64, 64)


def test_one_axis_alone_is_halved_down_to_twelve_voxels():
    assert len(pooling((1, 1), (7, 11)).strides) == 1
    assert pooling((1, 1), (7, 12)).strides == ((1, 1), (1, 2))
