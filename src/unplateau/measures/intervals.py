"""Intervals by resampling whole groups. Neighbouring pixels, and frames of one video, agree with each other:
an interval over pixels or frames comes out far too narrow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unplateau.types import Interval

COVERAGE = 0.90
RESAMPLES = 1000

Draws = NDArray[np.float64]
"""(RESAMPLES,) values of one statistic under resampling; differences of two Draws made alike are paired."""


def interval(mean: float, draws: Draws) -> Interval:
    """The central interval of the draws, widened to hold the measured mean; nan bounds if no draw is finite."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return Interval(mean, float("nan"), float("nan"))
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Interval(float(mean), float(min(low, mean)), float(max(high, mean)))


def bootstrap(
    per_group: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], float],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of any statistic of rows (groups, ...), resampling rows with replacement."""
    groups = len(per_group)
    picks = generator.integers(0, groups, size=(resamples, groups))
    draws = np.array([statistic(per_group[pick]) for pick in picks])
    return interval(statistic(per_group), draws)
