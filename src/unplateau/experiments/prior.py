"""The lowest rung: what position alone can tell, with no image at all."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from unplateau.experiments.fits import SEEN, Fitted, Scored, spread
from unplateau.experiments.views import without_borders
from unplateau.measures.scoring import score_images
from unplateau.measures.thresholds import ScoreTable
from unplateau.types import IGNORE, Fold, Pictures

SMOOTH = 0.06
"""Width of the smoothing as a share of the grid's shorter side: few images give a spotty map."""


def position_scores(pictures: Pictures, fold: Fold) -> Fitted:
    """Scores of the smoothed mean mask of `fold.fit`, the same for each image; needs no training."""
    start = time.perf_counter()
    scores = position_map(pictures, fold.fit)
    tables = [_table(scores, pictures, part) for part in (fold.inner, fold.report, spread(fold.fit, SEEN))]
    inside = without_borders(pictures, (*fold.inner, *fold.report))
    cores = Scored(*(_table(scores, inside, part) for part in (fold.inner, fold.report)))
    return Fitted(tables[0], tables[1], tables[2], (), time.perf_counter() - start, cores=cores)


def position_map(pictures: Pictures, indices: tuple[int, ...]) -> NDArray[np.float64]:
    """Share of each output class at each place (C, H, W), over pixels that are counted, smoothed."""
    masks = pictures.masks[list(indices)].numpy()
    labels = [1] if pictures.task.binary else list(range(pictures.task.outputs))
    width = SMOOTH * min(masks.shape[1:])
    counted = gaussian_filter((masks != IGNORE).sum(0).astype(np.float64), width)
    found = [gaussian_filter((masks == label).sum(0).astype(np.float64), width) for label in labels]
    return np.stack(found) / np.maximum(counted, 1e-9)


def _table(scores: NDArray[np.float64], pictures: Pictures, indices: tuple[int, ...]) -> ScoreTable:
    masks = pictures.masks[list(indices)].numpy()
    # A rare class has scores far below 0.5 everywhere; its range is stretched so that the bins tell places apart.
    stretched = scores / max(float(scores.max()), 1e-9) if len(scores) == 1 else scores
    return score_images(np.broadcast_to(stretched, (len(masks), *scores.shape)), masks)
