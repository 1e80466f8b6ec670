"""Choosing between rungs on few inner groups: the simplest that nothing surely beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from unplateau.measures.thresholds import Counts, mean_iou

CONFIDENCE = 0.9
"""How sure the inner part must be that more view is better before it is taken."""

UNITS = 8
"""Parts that a single inner group is cut into, in its order, so that a choice still has a spread to look at."""


def prefer(sums: NDArray[np.float64]) -> int:
    """Which of several rungs (rungs, units, C, 3), simplest first, their counts on the inner units speak for.

    The first that the best one does not surely beat (a one-sided t-test on the units' influence on the difference of
    IoU): with two inner videos the best of ten scores is luck, and the simplest is the safer bet. The rule is that of
    one standard error (Breiman et al., Classification and Regression Trees, 1984) with the width that few units need.
    """
    scores = [mean_iou(each) for each in sums]
    worth = np.nan_to_num(np.array(scores), nan=-1.0)
    best, units = int(worth.argmax()), sums.shape[1]
    width = float(student_t.ppf(CONFIDENCE, max(1, units - 1)))
    influence = np.stack([_influence(each) for each in sums])
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


def _influence(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """First-order change of the IoU by each unit (units,): (hit - IoU * union) / total union, mean over classes."""
    hit, union = sums[..., 0], sums[..., 1] + sums[..., 2] - sums[..., 0]
    total = union.sum(0)
    ratio = np.divide(hit.sum(0), total, out=np.zeros(len(total)), where=total > 0)
    change: NDArray[np.float64] = ((hit - ratio * union) / np.maximum(total, 1))[:, total > 0].mean(-1)
    return change
