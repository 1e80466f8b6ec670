"""Objects that were left out of the masks at random, told from objects that something unseen sets apart.

Where half of all objects lack a label, a model taught so believes in each by half: no single one is surely an error.
What gives it away is that labelled and unlabelled ones look alike to the model, and that nothing else, not their
place, their size and shape, their neighbours or their picture, says which is which. Objects of a task that a model
does not understand (the discs on one side of a marker) look alike to it too, but there the place or the neighbours do
tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from unplateau.measures.label_scores import Objects

FEWEST = 40
"""Objects under which a pattern among them could hide."""

ALIKE = 0.7
"""Chance that the model believes more in a labelled object than in one without a label, up to which they look alike."""

LEAST = 0.1
"""Share of either kind under which there are too few of it to compare."""

CHANCE = 0.05
"""Chance, over all tests together, that labels given at random seem to have a pattern."""

SHUFFLES = 499


@dataclass(frozen=True)
class Lottery:
    """How labels fell among objects: the chance that a labelled one is believed more in, and the least p of `tests`
    (times their number, at most 1) that place, shape, neighbours or picture have nothing to do with it.
    """

    share: float
    told_apart: float
    pattern: float
    objects: int

    @property
    def random(self) -> bool:
        """Whether labels were left out at random, as far as these objects can tell."""
        enough = self.objects >= FEWEST and LEAST <= self.share <= 1 - LEAST
        return enough and self.told_apart <= ALIKE and self.pattern >= CHANCE


def draw_lots(found: Objects, generator: np.random.Generator) -> Lottery:
    """What is known of how labels fell among the components of the answers, those of `found` that decide."""
    labelled = ~found.alone
    share = float(found.alone.mean()) if len(labelled) else 0.0
    if len(labelled) < FEWEST or not LEAST <= share <= 1 - LEAST:
        return Lottery(share, 1.0, 0.0, len(labelled))
    told_apart = mannwhitneyu(found.belief[labelled], found.belief[~labelled])
    apart = float(told_apart.statistic / (labelled.sum() * (~labelled).sum()))
    told_by = (found.row, found.column, found.pixels, found.fill)
    tests = (
        *(float(mannwhitneyu(each[labelled], each[~labelled]).pvalue) for each in told_by),
        _by_neighbour(found, labelled, generator),
        _by_picture(found, labelled, generator),
    )
    return Lottery(share, apart, min(1.0, len(tests) * min(tests)), len(labelled))


def _by_neighbour(found: Objects, labelled: NDArray[np.bool_], generator: np.random.Generator) -> float:
    """How often shuffling labels within each picture makes neighbours agree as often as they do."""
    distance = cdist(*2 * [np.stack([found.row, found.column], axis=1)])
    distance[found.image[:, None] != found.image] = np.inf
    np.fill_diagonal(distance, np.inf)
    paired = np.isfinite(distance.min(1))
    nearest = distance.argmin(1)

    def agreement(labels: NDArray[np.bool_]) -> float:
        return float((labels == labels[nearest])[paired].mean()) if paired.any() else 0.0

    # Sorting by picture and a random key is a shuffle within pictures.
    order = np.argsort(found.image, kind="stable")
    shuffles = []
    for _ in range(SHUFFLES):
        shuffled = np.empty_like(labelled)
        shuffled[order] = labelled[np.lexsort((generator.random(len(labelled)), found.image))]
        shuffles.append(agreement(shuffled))
    return _tail(agreement(labelled), np.array(shuffles))


def _by_picture(found: Objects, labelled: NDArray[np.bool_], generator: np.random.Generator) -> float:
    """How often shuffling labels over all pictures makes them as unlike each other as they are."""
    _, picture = np.unique(found.image, return_inverse=True)
    count = np.bincount(picture)

    def unlikeness(labels: NDArray[np.bool_]) -> float:
        return float((np.bincount(picture, labels) ** 2 / count).sum())

    shuffles = np.array([unlikeness(generator.permutation(labelled)) for _ in range(SHUFFLES)])
    return _tail(unlikeness(labelled), shuffles)


def _tail(value: float, shuffles: NDArray[np.float64]) -> float:
    return float((1 + (shuffles >= value - 1e-12).sum()) / (1 + len(shuffles)))
