"""Several ways to come to the same: each is trained once, and the images that choose say which is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unplateau.experiments.choosing import choosing_units, prefer, unit_sums
from unplateau.experiments.fits import Fitted
from unplateau.measures.thresholds import Counts, counts_at, mean_iou
from unplateau.types import Fold


@dataclass(frozen=True)
class Pieces:
    """Which two pieces are trained; `pretrained` takes the published weights of an extractor that is a name."""

    extractor: str
    decoder: str
    frozen: bool = False
    pretrained: bool = False


@dataclass(frozen=True)
class Way:
    """Pieces that were tried: IoU on the inner images, mean over folds, seconds a training, and the folds that take
    them.
    """

    pieces: Pieces
    inner: float
    seconds: float
    folds: tuple[int, ...]


def weighed(
    ways: Sequence[Pieces], fitted: Sequence[Sequence[Fitted]], folds: Sequence[Fold], groups: Sequence[str]
) -> tuple[Way, ...]:
    """Which of several ways, the cheapest to use first, each fold takes; `fitted` holds a training a way and fold.

    A fold takes the first that the best on its inner images does not surely beat. What a fold reports has no part in
    it: the inner images of another fold may be just these, so that folds choose together only where all of them report
    the same.
    """
    together = all(set(fold.report) == set(folds[0].report) for fold in folds)
    parts = [tuple(range(len(folds)))] if together else [(number,) for number in range(len(folds))]
    takes = {number: way for part in parts for way in [_preferred(fitted, folds, groups, part)] for number in part}
    return tuple(
        Way(
            pieces,
            float(np.mean([mean_iou(_inner(each)) for each in outcomes])),
            float(np.mean([each.seconds for each in outcomes])),
            tuple(number for number, way in takes.items() if way == place),
        )
        for place, (pieces, outcomes) in enumerate(zip(ways, fitted, strict=True))
    )


def taken(ways: Sequence[Way]) -> tuple[Pieces, ...]:
    """What each fold takes."""
    found = {number: way.pieces for way in ways for number in way.folds}
    return tuple(found[number] for number in sorted(found))


def prevailing(ways: Sequence[Way]) -> Way:
    """The way that most folds take; of as many the cheaper."""
    return max(ways, key=lambda way: len(way.folds))


def _preferred(
    fitted: Sequence[Sequence[Fitted]], folds: Sequence[Fold], groups: Sequence[str], part: Sequence[int]
) -> int:
    """The place of the way that the inner images of some folds prefer."""
    units = choosing_units([groups[index] for number in part for index in folds[number].inner])
    counts = [np.concatenate([_inner(outcomes[number]) for number in part]) for outcomes in fitted]
    return prefer(np.stack([unit_sums(each, units) for each in counts]))


def _inner(fitted: Fitted) -> Counts:
    return counts_at(fitted.inner, fitted.threshold)
