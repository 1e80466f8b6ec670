"""Are two ways of training truly different? IoU of paired trainings, and what groups and seeds do to the difference.

Axes: S seeds, K folds that together report every image once, G groups, C classes, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from unplateau.measures.intervals import COVERAGE, RESAMPLES
from unplateau.measures.thresholds import iou, mean_over_classes
from unplateau.types import Interval

Sums = NDArray[np.float64]
"""(S, K, G, C, 3): counts on the report part of each training, summed over each group."""


@dataclass(frozen=True)
class Difference:
    """IoU gained over another way, its 90 % interval, and the two-sided p of there being none; nan = cannot be had."""

    gain: Interval
    p: float


@dataclass(frozen=True)
class Spread:
    """A number with the variance that other groups and that other seeds would give it, and the freedom of each."""

    mean: float
    variances: tuple[float, ...]
    freedoms: tuple[float, ...]

    @property
    def variance(self) -> float:
        """Of both together."""
        return sum(self.variances)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the sum (Welch 1947, Satterthwaite 1946)."""
        parts = sum(v**2 / f for v, f in zip(self.variances, self.freedoms, strict=True))
        return self.variance**2 / parts if parts else math.inf

    @property
    def interval(self) -> Interval:
        """The central 90 % of Student's t around the mean."""
        reach = float(stats.t.ppf((1 + COVERAGE) / 2, self.freedom)) * math.sqrt(self.variance)
        return Interval(self.mean, self.mean - reach, self.mean + reach)

    @property
    def p(self) -> float:
        """Two-sided, of a mean of nothing."""
        if self.mean == 0 or not math.isfinite(self.variance):
            return 1.0 if self.mean == 0 else math.nan
        if self.variance == 0:
            return 0.0
        return float(2 * stats.t.sf(abs(self.mean) / math.sqrt(self.variance), self.freedom))


def level(sums: Sums, draws: NDArray[np.float64], seed_spread: float) -> Interval:
    """IoU of one way, mean over seeds, with its interval, no further than an IoU can go; see `difference`."""
    band = _spread(_mean(sums), _resampled(sums, draws), _swapped(sums), _drawn(draws), seed_spread).interval
    return Interval(band.mean, *(min(max(bound, 0.0), 1.0) for bound in (band.low, band.high)))


def difference(above: Sums, below: Sums, draws: NDArray[np.float64], seed_spread: float) -> Difference:
    """IoU of `above` minus IoU of `below`, paired by seed, fold and group.

    The variance is that of resampled groups, `draws` (R, G) saying how often each is drawn, plus that of the seeds:
    each training is put in the place of its fold's mean over seeds, and what that does to the IoU of all folds varies
    from seed to seed. With a single seed nothing varies, and `seed_spread` is taken for the standard deviation of one
    training's part.
    """
    found = _spread(
        _mean(above) - _mean(below),
        _resampled(above, draws) - _resampled(below, draws),
        _swapped(above) - _swapped(below),
        _drawn(draws),
        seed_spread,
    )
    return Difference(found.interval, found.p)


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """Each p as it stands when all of them are judged at once (Holm 1979); nan stays nan, and counts as one of them."""
    order = sorted(range(len(ps)), key=lambda place: (math.isnan(ps[place]), ps[place]))
    adjusted, so_far = [math.nan] * len(ps), 0.0
    for rank, place in enumerate(order):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = so_far if math.isfinite(ps[place]) else math.nan
    return tuple(adjusted)


def group_draws(groups: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each of `count` groups is drawn in each resample (R, G); those not in `groups` never."""
    reported = np.unique(groups)
    draws = np.zeros((RESAMPLES, count))
    draws[:, reported] = generator.multinomial(len(reported), np.full(len(reported), 1 / len(reported)), RESAMPLES)
    return draws


def _iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return mean_over_classes(iou(sums))


def _mean(sums: Sums) -> float:
    return float(_iou(sums.sum((1, 2))).mean())


def _drawn(draws: NDArray[np.float64]) -> int:
    return int((draws.sum(0) > 0).sum())


def _resampled(sums: Sums, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU in each resample of the groups (R,), mean over seeds."""
    return _iou(np.einsum("rg,sgcx->rscx", draws, sums.sum(1))).mean(1)


def _swapped(sums: Sums) -> NDArray[np.float64]:
    """IoU of all folds (S, K) with one training in it and the mean over seeds in every other fold."""
    own, mean = sums.sum(2), sums.sum(2).mean(0)
    return _iou(mean.sum(0) - mean[None] + own)


def _spread(
    mean: float, resampled: NDArray[np.float64], swapped: NDArray[np.float64], groups: int, seed_spread: float
) -> Spread:
    seeds, folds = swapped.shape
    # n draws out of n vary by (n - 1) / n of what they stand for.
    of_groups = float(np.nanvar(resampled)) * groups / (groups - 1) if groups > 1 else math.nan
    if seeds == 1:
        return Spread(mean, (of_groups, seed_spread**2 / folds), (groups - 1, math.inf))
    each = swapped.var(0, ddof=1) / seeds
    parts = float((each**2).sum()) / (seeds - 1)
    freedom = float(each.sum()) ** 2 / parts if parts else math.inf
    return Spread(mean, (of_groups, float(each.sum())), (max(groups - 1, 1), freedom))
