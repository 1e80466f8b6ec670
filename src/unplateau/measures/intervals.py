"""Intervals by resampling whole groups. Neighbouring pixels, and frames of one video, agree with each other:
an interval over pixels or frames comes out far too narrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.thresholds import Counts, iou
from unplateau.types import Interval

COVERAGE = 0.90
RESAMPLES = 1000

Draws = NDArray[np.float64]
"""(RESAMPLES,) values of one statistic under resampling; differences of two Draws made alike are paired."""


def group_sums(counts: Counts, groups: Sequence[str]) -> NDArray[np.float64]:
    """Counts (N, ...) summed over the images of each group: (groups, ...), groups in sorted order."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(sums, index, counts)
    return sums


def resampled_weights(groups: int, generator: np.random.Generator, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """How often each group is drawn in each bootstrap resample: (resamples, groups), rows sum to `groups`."""
    return generator.multinomial(groups, np.full(groups, 1 / groups), size=resamples).astype(np.float64)


def iou_draws(sums: NDArray[np.float64], weights: NDArray[np.float64]) -> Draws:
    """Mean IoU over classes in each resample, from group sums (groups, C, 3) and weights (resamples, groups).

    nan in a resample in which no class occurs.
    """
    pooled = np.einsum("rg,gcx->rcx", weights, sums)
    classes = iou(pooled.astype(np.int64))
    counted = np.isfinite(classes)
    total = np.where(counted, classes, 0).sum(-1)
    return np.divide(total, counted.sum(-1), out=np.full(len(classes), np.nan), where=counted.any(-1))


def interval(mean: float, draws: Draws) -> Interval:
    """The central interval of the draws, shifted so that its mean is the measured one; nan bounds if no draw is finite."""
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
