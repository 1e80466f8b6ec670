"""How well boxes are found: average precision as COCO measures it (arXiv 1405.0312).

Axes: M boxes that are true, P boxes that were found, in one image, T demanded overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAPS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""IoU from which on a found box is a true one; AP50 is at the first, mAP the mean over all."""

RECALLS: NDArray[np.float64] = np.linspace(0, 1, 101)
"""Recalls at which the precision is read off."""

Boxes = NDArray[np.float32]
"""(M, 5): index of the class, then left, top, right and bottom in pixels."""


@dataclass(frozen=True)
class Matched:
    """The found boxes of one image, best first: `classes` (P,), `scores` (P,), `hits` (T, P) whether each is a true
    one at each overlap; `true` (C,) how many boxes of each class there are."""

    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    true: NDArray[np.int64]


def matched(found: Boxes, scores: NDArray[np.floating], true: Boxes, classes: int) -> Matched:
    """Compare the boxes found in an image with the true ones: the best-scored first, each true box taken once.

    Of several true boxes of its class that a found box overlaps enough, it takes the one that it overlaps most.
    """
    order = np.argsort(-scores, kind="stable")
    found, scores = found[order], scores[order]
    overlaps = np.where(found[:, None, 0] == true[None, :, 0], iou(found[:, 1:], true[:, 1:]), -1.0)
    hits = np.zeros((len(OVERLAPS), len(found)), bool)
    for place, least in enumerate(OVERLAPS):
        hits[place] = _hits(overlaps, float(least))
    counts = np.bincount(true[:, 0].astype(np.int64), minlength=classes)
    return Matched(found[:, 0].astype(np.int64), scores.astype(np.float64), hits, counts)


def _hits(overlaps: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    free, hits = overlaps.copy(), np.zeros(len(overlaps), bool)
    for row in range(len(free)) if free.shape[1] else ():
        best = int(free[row].argmax())
        if free[row, best] >= least:
            hits[row], free[:, best] = True, -1.0
    return hits


def iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union (P, M) of boxes (P, 4) and (M, 4); 0 where both are empty."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def average_precision(images: Sequence[Matched]) -> NDArray[np.float64]:
    """Average precision (T, C) at each of `OVERLAPS`; nan for a class of which no image has a box."""
    true = np.sum([image.true for image in images], axis=0)
    scores = np.concatenate([image.scores for image in images])
    classes = np.concatenate([image.classes for image in images])
    hits = np.concatenate([image.hits for image in images], axis=1)
    order = np.argsort(-scores, kind="stable")
    classes, hits = classes[order], hits[:, order]
    return np.array(
        [[_area(row[classes == each], int(count)) for each, count in enumerate(true)] for row in hits], np.float64
    )


def _area(hits: NDArray[np.bool_], true: int) -> float:
    """Mean over `RECALLS` of the best precision at that recall or beyond."""
    if not true:
        return float("nan")
    right = np.cumsum(hits)
    recall, precision = right / true, right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[first].mean())
