"""Score maps to a `ScoreTable`: the only place where probabilities and masks meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.thresholds import BINS, Counts, ScoreTable, counts_of
from unplateau.types import IGNORE


def score_images(scores: NDArray[np.floating], masks: NDArray[np.uint8]) -> ScoreTable:
    """Table of score maps (N, C, H, W) in 0..1 against masks (N, H, W) of class indices.

    With C = 1 the single class is index 1 of the mask (binary); else class c is index c. Pixels of 255 are not counted.
    Memory is that of one image, times a small number.
    """
    tables = [_score_image(score, mask) for score, mask in zip(scores, masks, strict=True)]
    return ScoreTable(np.stack([table for table, _ in tables]), np.stack([counts for _, counts in tables]))


def score_layers(scores: NDArray[np.floating], masks: NDArray[np.uint8]) -> ScoreTable:
    """Table of score maps (N, C, H, W) against masks (N, C, H, W) of 0/1/255: each class is binary by itself."""
    tables = [score_images(scores[:, [place]], masks[:, place]) for place in range(masks.shape[1])]
    return ScoreTable(
        np.concatenate([table.histograms for table in tables], axis=1),
        np.concatenate([table.argmax for table in tables], axis=1),
    )


def count_best(scores: NDArray[np.floating], mask: NDArray[np.uint8]) -> Counts:
    """Counts (C, 3) of a score map (C, H, W) of several classes, each pixel at its best-scored one, against its mask.

    Without histograms: many classes at the size of a photograph would take long to sort into bins.
    """
    counted, classes = mask != IGNORE, len(scores)
    chosen, true = scores.argmax(0)[counted], mask[counted]
    areas = (np.bincount(each, minlength=classes)[:classes] for each in (chosen[chosen == true], chosen, true))
    return counts_of(*areas)


def _score_image(scores: NDArray[np.floating], mask: NDArray[np.uint8]) -> tuple[NDArray[np.int64], Counts]:
    classes = len(scores)
    counted = mask != IGNORE
    labels = mask[counted].astype(np.int64)
    of_pixel = scores[:, counted]
    true = labels == 1 if classes == 1 else labels == np.arange(classes)[:, None]
    true = true.reshape(classes, -1)
    bins = np.minimum((of_pixel * BINS).astype(np.int64), BINS - 1)
    cell = (np.arange(classes)[:, None] * 2 + true) * BINS + bins
    histogram = np.bincount(cell.ravel(), minlength=classes * 2 * BINS).reshape(classes, 2, BINS)
    chosen = bins >= BINS // 2 if classes == 1 else of_pixel.argmax(0) == np.arange(classes)[:, None]
    return histogram, counts_of((chosen & true).sum(-1), chosen.sum(-1), true.sum(-1))
