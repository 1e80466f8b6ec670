"""Scores at every threshold in one pass. Counts are integers that add over images, batches and machines.

A `ScoreTable` holds, for each image and class, how many pixels got which score, apart for true and for false
pixels. Everything that depends on a threshold follows from it without seeing a probability map again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 200
"""Resolution of a score: thresholds are multiples of 1 / BINS."""

THRESHOLDS: NDArray[np.float64] = np.arange(BINS) / BINS
"""Thresholds at which the curves are known: a pixel is positive when its score is at least the threshold."""

HOPELESS = 0.5
"""Share of the best IoU below which 0.5 is given up on the word of a single group."""

Counts = NDArray[np.int64]
"""(..., 3): true positive, predicted and true pixels."""


@dataclass(frozen=True)
class ScoreTable:
    """Histograms (N, C, 2, BINS) of scores in 0..1, [:, :, 1] over true pixels, [:, :, 0] over the others.

    `argmax` (N, C, 3) are the counts when each pixel takes its best-scored class; for a binary task they are the
    counts at the threshold 0.5. `groups` (N,) numbers the group of each image; None = each image is its own.
    """

    histograms: NDArray[np.int64]
    argmax: Counts
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.histograms)

    def at(self, threshold: float) -> Counts:
        """Counts (N, C, 3) when a pixel is positive from `threshold` (0..1) on; rounded to a multiple of 1 / BINS."""
        first = int(np.clip(round(threshold * BINS), 0, BINS))
        chosen = self.histograms[..., first:].sum(-1)
        return counts_of(chosen[..., 1], chosen.sum(-1), self.histograms[..., 1, :].sum(-1))

    def take(self, images: NDArray[np.int64]) -> ScoreTable:
        """The table of some of the images."""
        groups = None if self.groups is None else self.groups[images]
        return ScoreTable(self.histograms[images], self.argmax[images], groups)


def scores_of(steps: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores (...) of answers kept in steps of 1 / BINS: the middle of each step."""
    return np.asarray((steps.astype(np.float32) + 0.5) / BINS, np.float32)


def counts_at(table: ScoreTable, threshold: float) -> Counts:
    """Counts (N, C, 3) of a table at a threshold, 0.5 where it is nan; argmax for many classes."""
    if table.argmax.shape[1] > 1:
        return table.argmax
    return table.at(threshold if np.isfinite(threshold) else 0.5)


def counts_of(hit: NDArray[np.int64], predicted: NDArray[np.int64], true: NDArray[np.int64]) -> Counts:
    """Stack true positive, predicted and true pixels to Counts (..., 3)."""
    return np.stack([hit, predicted, true], axis=-1)


def join(tables: list[ScoreTable]) -> ScoreTable:
    """One table of the images of several, each its own group: numbers of groups are those of one table only."""
    return ScoreTable(
        np.concatenate([table.histograms for table in tables]), np.concatenate([table.argmax for table in tables])
    )


def iou(counts: Counts | NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (...,) of counts (..., 3); nan where a class is neither predicted nor true."""
    hit, predicted, true = np.moveaxis(counts.astype(np.float64), -1, 0)
    union = predicted + true - hit
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


def net_area(counts: Counts | NDArray[np.float64]) -> NDArray[np.float64]:
    """Area found less area claimed wrongly, as a share of what is true: 1 - (missed + spurious) / true, (...,).

    Of counts (..., 3).
    At least 0, which an empty answer has; nan without true area. Unlike the IoU it adds: right on half of the true area
    and silent on the rest is half of what is to be had.
    """
    hit, predicted, true = np.moveaxis(counts.astype(np.float64), -1, 0)
    wrong = predicted + true - 2 * hit
    share = np.divide(true - wrong, true, out=np.full(hit.shape, np.nan), where=true > 0)
    return np.maximum(share, 0.0)


def mean_iou(counts: Counts | NDArray[np.float64]) -> float:
    """IoU over all images of counts (N, C, 3), then the mean over classes that occur; nan when none does.

    Pixels of all images are pooled before the ratio is taken, the convention of the field's benchmarks.
    """
    return float(mean_over_classes(iou(counts.sum(0))))


def mean_over_classes(classes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of IoU (..., C) over the classes that occur; nan where none does."""
    counted = np.isfinite(classes)
    total = np.where(counted, classes, 0.0).sum(-1)
    found = counted.sum(-1)
    return np.divide(total, found, out=np.full(total.shape, np.nan), where=found > 0)


def iou_by_threshold(table: ScoreTable) -> NDArray[np.float64]:
    """IoU (C, BINS) of the pooled images at each of `THRESHOLDS`."""
    return iou(counts_of(*_by_threshold(table)))


def _by_threshold(table: ScoreTable) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """True positive, predicted and true pixels (C, BINS) of the pooled images at each of `THRESHOLDS`."""
    above = table.histograms.sum(0)[..., ::-1].cumsum(-1)[..., ::-1]
    hit, predicted = above[:, 1], above.sum(1)
    return hit, predicted, np.broadcast_to(hit[:, :1], hit.shape)


def best_threshold(table: ScoreTable) -> float:
    """The threshold of the highest mean IoU over classes; the middle of those that tie; nan if none is defined."""
    return _highest(iou_by_threshold(table))


def net_threshold(table: ScoreTable) -> float:
    """The threshold of the largest net area, mean over classes; the middle of those that tie.

    1, from which on next to nothing is positive, where no threshold finds more than it claims wrongly; nan if net area
    is not defined. Where half of the area cannot be told from what is not true, the best IoU claims all of it and the
    largest net area none.
    """
    curve = net_area(counts_of(*_by_threshold(table)))
    return 1.0 if np.isfinite(curve).any() and np.nanmax(curve) <= 0 else _highest(curve)


def _highest(curve: NDArray[np.float64]) -> float:
    """Where the mean of curves (C, BINS) over the classes that occur is highest, the middle of ties; nan if none."""
    defined = np.isfinite(curve).all(-1)
    if not defined.any():
        return float("nan")
    mean = curve[defined].mean(0)
    ties = np.flatnonzero(mean >= mean.max() - 1e-12)
    return float(THRESHOLDS[ties[len(ties) // 2]])


def chosen_threshold(table: ScoreTable) -> float:
    """The best threshold if thresholds chosen in the same way hold for groups that did not choose, else 0.5.

    Each group is left out once and read at the best threshold of the others (cross-validation after Stone, 1974); if
    that scores no more IoU over all groups than 0.5, where the losses aim, the choice is luck: two videos cannot say
    that 0.9 is right for a third. A single group has none to be held against: it moves the threshold only where 0.5
    finds less than `HOPELESS` of what the best one finds, so that next to nothing can be lost. nan if none is defined.
    """
    best, parts = best_threshold(table), _histograms_by_group(table)
    if not np.isfinite(best):
        return best
    half = np.full(len(parts), BINS // 2)
    if len(parts) < 2:
        return best if _iou_read_at(parts, half) < HOPELESS * mean_iou(table.at(best)) else 0.5
    places = _mean_curve(parts.sum(0) - parts).argmax(1)
    return best if _iou_read_at(parts, places) > _iou_read_at(parts, half) else 0.5


def _iou_read_at(parts: NDArray[np.int64], places: NDArray[np.int64]) -> float:
    """Mean IoU of histograms (G, C, 2, BINS), each group read from its own place (G,) of `THRESHOLDS` on."""
    chosen = (parts * (np.arange(BINS) >= places[:, None])[:, None, None]).sum(-1)
    return mean_iou(counts_of(chosen[..., 1], chosen.sum(-1), parts[..., 1, :].sum(-1)))


def _histograms_by_group(table: ScoreTable) -> NDArray[np.int64]:
    """Histograms (G, C, 2, BINS) added over the images of each group."""
    if table.groups is None:
        return table.histograms
    _, place = np.unique(table.groups, return_inverse=True)
    added = np.zeros((int(place.max(initial=-1)) + 1, *table.histograms.shape[1:]), np.int64)
    np.add.at(added, place, table.histograms)
    return added


def _mean_curve(histograms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean IoU over classes (G, BINS) of histograms (G, C, 2, BINS) at each threshold, 0 where none is defined."""
    above = histograms[..., ::-1].cumsum(-1)[..., ::-1]
    hit, predicted = above[:, :, 1], above.sum(2)
    curves = iou(counts_of(hit, predicted, np.broadcast_to(hit[..., :1], hit.shape)))
    return np.nan_to_num(mean_over_classes(np.moveaxis(curves, 1, -1)))


def coverage(counts: Counts) -> float:
    """Predicted over true positive area of counts (N, C, 3), all classes pooled; nan when nothing is true."""
    _, predicted, true = counts.sum((0, 1))
    return float(predicted / true) if true else float("nan")


def average_precision(table: ScoreTable) -> float:
    """Area under the precision-recall curve of pixels by step-wise sum, mean over classes that occur; nan if none."""
    above = table.histograms.sum(0)[..., ::-1].cumsum(-1).astype(np.float64)
    hit, predicted = above[:, 1], above.sum(1)
    precision = np.divide(hit, predicted, out=np.ones_like(hit), where=predicted > 0)
    occurs = hit[:, -1] > 0
    if not occurs.any():
        return float("nan")
    recall = hit[occurs] / hit[occurs, -1:]
    return float((np.diff(recall, axis=-1, prepend=0) * precision[occurs]).sum(-1).mean())


def ranking(table: ScoreTable) -> float:
    """Chance that a true pixel of the pooled images scores more than a false one, ties by half; mean over classes.

    The area under the receiver operating characteristic (Hanley and McNeil, Radiology 143, 1982); nan where a class has
    pixels of one kind alone.
    """
    false, true = np.moveaxis(table.histograms.sum(0).astype(np.float64), 1, 0)
    below = false.cumsum(-1) - false / 2
    pairs = true.sum(-1) * false.sum(-1)
    won = np.divide((true * below).sum(-1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return float(won.mean())
