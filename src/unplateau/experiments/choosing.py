"""Choosing between rungs on few inner groups: the simplest that nothing surely beats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from unplateau.experiments.fits import Fitted, Scored
from unplateau.measures.thresholds import Counts, counts_at, net_threshold

CONFIDENCE = 0.9
"""How sure the inner part must be that more view is better before it is taken."""

UNITS = 8
"""Parts that a single inner group is cut into, in its order, so that a choice still has a spread to look at."""


NONE = -float(np.finfo(np.float64).max)
"""What a rung is worth of which no ratio is defined: less than any that has one."""

Parts = tuple[NDArray[np.float64], NDArray[np.float64]]
"""What is above and below the line of a ratio, each added over units: (..., C)."""


def overlap(sums: NDArray[np.float64]) -> Parts:
    """The two parts of the IoU of counts (..., C, 3)."""
    hit, predicted, true = np.moveaxis(sums, -1, 0)
    return hit, predicted + true - hit


def net(sums: NDArray[np.float64]) -> Parts:
    """The two parts of the net area of counts (..., C, 3): found less claimed wrongly, and true."""
    hit, predicted, true = np.moveaxis(sums, -1, 0)
    return 2 * hit - predicted, true


@dataclass(frozen=True)
class Reading:
    """How answers are read: on which masks of a training, at which `threshold`, and by what `ratio` of counts rungs are
    compared.
    """

    tables: Callable[[Fitted], Scored]
    threshold: Callable[[Fitted, Scored], float]
    ratio: Callable[[NDArray[np.float64]], Parts]

    def inner(self, fitted: Fitted) -> Counts:
        """Counts (N, C, 3) on the inner part."""
        tables = self.tables(fitted)
        return counts_at(tables.inner, self.threshold(fitted, tables))

    def report(self, fitted: Fitted) -> Counts:
        """Counts (N, C, 3) on the report part."""
        tables = self.tables(fitted)
        return counts_at(tables.report, self.threshold(fitted, tables))


def _on_grid(fitted: Fitted) -> Scored:
    return fitted.on_grid


def _inside(fitted: Fitted) -> Scored:
    return fitted.inside


def _in_force(fitted: Fitted, _: Scored) -> float:
    return fitted.threshold


def _of_net_area(_: Fitted, tables: Scored) -> float:
    return net_threshold(tables.inner)


BY_IOU = Reading(_on_grid, _in_force, overlap)
"""As every score of a diagnosis is read."""

BY_AREA = Reading(_on_grid, _of_net_area, net)
"""As shares of area are read: the threshold of the best IoU claims what it cannot tell, and nets nothing by it."""

INSIDE = Reading(_inside, _of_net_area, net)
"""The same where the borders of objects do not count."""


def prefer(sums: NDArray[np.float64], reading: Reading = BY_IOU) -> int:
    """Which of several rungs (rungs, units, C, 3), simplest first, their counts on the inner units speak for.

    The first that the best one does not surely beat (a one-sided t-test on the units' influence on the difference of
    IoU, or of another ratio): with two inner videos the best of ten scores is luck, and the simplest is the safer bet.
    The rule is that of one standard error (Breiman et al., Classification and Regression Trees, 1984) with the width
    that few units need.
    """
    told = [_ratio(*reading.ratio(each)) for each in sums]
    worth = np.array([ratio.mean() if len(ratio) else NONE for ratio, _ in told])
    best, units = int(worth.argmax()), sums.shape[1]
    width = float(student_t.ppf(CONFIDENCE, max(1, units - 1)))
    influence = np.stack([change for _, change in told])
    spread = np.sqrt(units / max(1, units - 1) * ((influence[best] - influence) ** 2).sum(-1))
    return int(np.flatnonzero(worth[best] - worth <= width * spread)[0])


def choosing_units(groups: list[str]) -> NDArray[np.int64]:
    """The unit of each inner image: its group, or a part of the only group."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    return index if len(names) > 1 else np.arange(len(groups)) * UNITS // max(len(groups), 1)


def unit_sums(counts: Counts, units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts (N, C, 3) summed over units: (units, C, 3)."""
    total = np.zeros((int(units.max()) + 1, *counts.shape[1:]))
    np.add.at(total, units, counts)
    return total


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> Parts:
    """The ratio of each class that occurs (classes,), and its first-order change by each unit (units,): (above - ratio
    * below) / total below, mean over these classes.
    """
    total = below.sum(0)
    occurs = total > 0
    ratio = above.sum(0)[occurs] / total[occurs]
    change = (above[:, occurs] - ratio * below[:, occurs]) / total[occurs]
    return ratio, change.mean(-1) if occurs.any() else np.zeros(len(above))
