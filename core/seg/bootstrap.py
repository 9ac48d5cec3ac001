"""Whether one evaluation is better than another, or only luckier in its cases: the paired bootstrap.

Cases are drawn with replacement, the same ones for both sides, and the difference of the means is taken anew; the
middle 95 % of these differences are the interval (Efron and Tibshirani 1993, percentile method).
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from seg.models import Evaluation

RESAMPLES = 2000
TAIL = 0.025  # of the resamples on each side, outside of the interval
FEWEST_CASES = 6  # with fewer, even a difference of one sign in every case happens by chance more often than 5 %
VALUES_AT_ONCE = 1 << 22  # of the draws; bounds the memory


@frozen(kw_only=True)
class PairedDifference:
    """How far the mean of a metric of one evaluation is above that of another.

    `cases` counts those that both have, over which both means are. `low` and `high` bound the 95 % interval; they and
    `difference` are None where a mean is not defined. `supported`: the interval excludes 0, and there are cases enough
    (6) to say so.
    """

    metric: str
    cases: int
    difference: float | None
    low: float | None
    high: float | None
    supported: bool

    def __str__(self) -> str:
        if self.difference is None:
            return "not defined"
        interval = "" if self.low is None or self.high is None else f" ({self.low:+.4f} to {self.high:+.4f})"
        return f"{self.difference:+.4f}{interval}{'' if self.supported else ', not supported'}"


def paired_difference(
    first: Evaluation, second: Evaluation, metric: str = "dice", *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference:
    """The mean of `metric` in `first` minus that in `second`, over the cases and classes that both have.

    Means are those of `seg.metrics.evaluation`: over classes, of the mean over cases in which the metric is defined.
    The draws depend on `seed` and on the number of cases alone.
    """
    names = sorted({case.case for case in first.cases} & {case.case for case in second.cases})
    classes = [name for name in first.class_means if name in second.class_means]
    tables = [_table(one, names, classes, metric) for one in (first, second)]
    whole = np.ones((1, len(names)))
    nothing = PairedDifference(metric=metric, cases=len(names), difference=None, low=None, high=None, supported=False)
    difference = float((_means(tables[0], whole) - _means(tables[1], whole))[0])
    if np.isnan(difference):
        return nothing
    drawn = np.concatenate([_means(tables[0], draws) - _means(tables[1], draws)
                            for draws in _draws(len(names), resamples, seed)])
    found = np.sort(drawn[~np.isnan(drawn)])  # a class may be in none of the cases that were drawn
    if found.size == 0:
        return nothing
    outside = int(TAIL * found.size)  # counted from both ends, so that swapping the sides negates the interval exactly
    low, high = float(found[outside]), float(found[-1 - outside])
    supported = len(names) >= FEWEST_CASES and (low > 0 or high < 0)
    return attrs.evolve(nothing, difference=difference, low=low, high=high, supported=supported)


def _table(result: Evaluation, names: list[str], classes: list[str], metric: str) -> NDArray[np.float64]:
    """The metric by case and class, NaN where it is not defined."""
    cases = {case.case: case.classes for case in result.cases}
    values = [[cases[name][one].value(metric) if one in cases[name] else None for one in classes] for name in names]
    return np.array(values, dtype=np.float64).reshape(len(names), len(classes))


def _draws(cases: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each case is drawn, (resamples, cases), in blocks."""
    rng, step = np.random.default_rng(seed), max(1, VALUES_AT_ONCE // cases)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield rng.multinomial(cases, np.full(cases, 1 / cases), size).astype(np.float64)


def _means(table: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over classes of the mean over cases, for each row of `draws`; NaN where no class has a value."""
    defined = ~np.isnan(table)
    counts = draws @ defined
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
        by_class = (draws @ np.where(defined, table, 0.0)) / counts
        present = counts > 0
        mean: NDArray[np.float64] = np.where(present, by_class, 0.0).sum(1) / present.sum(1)
    return mean
