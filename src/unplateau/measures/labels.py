"""How well image labels are told.

Axes: N images, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unplateau.types import IGNORE

Scores = NDArray[np.floating]
"""(N, C), 0..1."""

Labels = NDArray[np.uint8]
"""(N, C): 1 where the image has the class, 0 where not, 255 = not known."""


def accuracy(scores: Scores, labels: Labels, *, exclusive: bool) -> float:
    """Share of right answers; nan without any.

    Of labels that exclude each other, one answer an image: the best-scored class. Of others, one answer an image and
    class: whether its score is at least 0.5.
    """
    known = labels != IGNORE
    if exclusive:
        rows = known.all(1)
        right = np.take_along_axis(labels[rows], scores[rows].argmax(1)[:, None], axis=1) == 1
        return _mean(right)
    return _mean(((scores >= 0.5) == (labels == 1))[known])


def commonest(labels: Labels, *, exclusive: bool) -> float:
    """The accuracy of who gives all images the same answer, the commonest: what a model must surpass."""
    known = labels != IGNORE
    yes = ((labels == 1) & known).sum(0)
    if exclusive:
        return float(yes.max() / max(len(labels), 1))
    return _ratio(np.maximum(yes, known.sum(0) - yes).sum(), known.sum())


def average_precision(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """Area under the precision-recall curve of each class (C,) by step-wise sum; nan where no image has it.

    Images of the same score are taken together, as scikit-learn does.
    """
    pairs = zip(scores.T, labels.T, strict=True)
    return np.array([_precision(score[label != IGNORE], label[label != IGNORE] == 1) for score, label in pairs])


def _precision(score: Scores, true: NDArray[np.bool_]) -> float:
    if not true.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(true[order])
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    recall, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    return float((np.diff(recall, prepend=0) * precision).sum())


def _mean(right: NDArray[np.bool_]) -> float:
    return _ratio(int(right.sum()), right.size)


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
