"""The record of one evaluation, from counts that were added up batch by batch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.boundary import boundary_counts
from unplateau.measures.thresholds import (
    Counts,
    ScoreTable,
    average_precision,
    best_threshold,
    coverage,
    iou,
    mean_iou,
)
from unplateau.types import IGNORE, Epoch


def epoch_of(table: ScoreTable, edges: Counts, step: int = 0, *, overlapping: bool = False) -> Epoch:
    """What scores and boundary bands (N, C, 3) of the held-out images say; losses, rate and gradient are nan.

    The tables of several images may have been added to one: every number pools the pixels of all. A threshold decides
    one class, or classes that may overlap.
    """
    threshold = best_threshold(table) if overlapping or table.argmax.shape[1] == 1 else math.nan
    half = table.argmax
    return Epoch(
        step=step,
        train_loss=math.nan,
        val_loss=math.nan,
        iou=mean_iou(half),
        best_iou=mean_iou(table.at(threshold)) if math.isfinite(threshold) else mean_iou(half),
        best_threshold=threshold,
        coverage=coverage(half),
        average_precision=average_precision(table),
        boundary_iou=mean_iou(edges),
        class_iou=tuple(float(value) for value in iou(half.sum(0))),
        learning_rate=math.nan,
        gradient_norm=math.nan,
    )


def edge_counts(scores: NDArray[np.floating], masks: NDArray[np.uint8]) -> Counts:
    """Counts (N, C, 3) of the boundary bands of answers: scores (N, C, H, W) in 0..1 against masks (N, H, W).

    With C = 1 the class is index 1 of the mask, decided at 0.5; else each pixel takes its best-scored class.
    """
    classes = scores.shape[1]
    if classes == 1:
        chosen, true = scores >= 0.5, (masks == 1)[:, None]
    else:
        index = np.arange(classes)[None, :, None, None]
        chosen, true = scores.argmax(1)[:, None] == index, masks[:, None] == index
    return boundary_counts(chosen, true, masks != IGNORE)


def added(tables: list[ScoreTable]) -> ScoreTable:
    """One table of one row that pools all images of several: its size does not grow with their number."""
    histograms = np.sum([table.histograms.sum(0) for table in tables], axis=0)
    return ScoreTable(histograms[None], np.sum([table.argmax.sum(0) for table in tables], axis=0)[None])
