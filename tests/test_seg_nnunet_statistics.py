"""The counted draws say what the draws themselves say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_nnunet._statistics import draw, pool


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4), whole=st.booleans())
def test_the_statistics_are_those_of_the_pooled_draws(seed, sizes, whole):
    rng, draws = np.random.default_rng(seed), 5000
    cases = [rng.normal(100, 40, size).round(0 if whole else 4).astype(np.float32) for size in sizes]
    pooled = np.concatenate([np.random.RandomState(1234).choice(case, draws) for case in cases]).astype(np.float64)
    found = pool([draw(case, draws, 10**6, np.random.RandomState(1234)) for case in cases])
    want = [pooled.mean(), pooled.std(), pooled.min(), pooled.max(), *np.percentile(pooled, [0.5, 50, 99.5])]
    got = [found.mean, found.std, found.min, found.max, found.percentile_00_5, found.median, found.percentile_99_5]
    assert got == pytest.approx(want, rel=1e-6, abs=1e-5)


def test_draws_in_pieces_are_those_of_one_go(monkeypatch):
    values = np.arange(50, dtype=np.float32)
    whole = draw(values, 1000, 100, np.random.RandomState(0))
    monkeypatch.setattr("seg_nnunet._statistics.CHUNK", 64)
    pieces = draw(values, 1000, 100, np.random.RandomState(0))
    assert np.array_equal(whole.up_to, pieces.up_to)


def test_thinned_values_keep_percentiles_near_and_extremes_exact():
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    exact, thin = (pool([draw(values, 10**5, kept, np.random.RandomState(0))]) for kept in (10**6, 1000))
    assert (exact.min, exact.max, exact.mean, exact.std) == (thin.min, thin.max, thin.mean, thin.std)
    assert thin.median == pytest.approx(exact.median, abs=0.01)
    assert thin.percentile_00_5 == pytest.approx(exact.percentile_00_5, abs=0.05)
