"""What a trained model scores on the images that chose nothing, in the measures of its task."""

from __future__ import annotations

import numpy as np
import torch

from unplateau.measures import boxes as box_measures
from unplateau.measures import labels as label_measures
from unplateau.measures.thresholds import (
    Counts,
    ScoreTable,
    chosen_threshold,
    counts_at,
    iou,
    mean_iou,
    mean_over_classes,
)
from unplateau.model import SegmentationModel
from unplateau.training.native import count_native, score_native
from unplateau.training.objectives import AbstractObjective, BoxObjective, LabelObjective
from unplateau.training.scoring import score, tallies
from unplateau.types import Fold, Pictures

Facts = dict[str, float]


def assess(model: SegmentationModel, pictures: Pictures, fold: Fold) -> Facts:
    """Scores on `fold.report`, by name; a `threshold` is chosen on `fold.inner`.

    Masks: `iou`, `iou_at_half`, `threshold`, and `iou of CLASS` where classes may overlap. Where masks came at another
    size than the grid, `threshold` is the one for that size, which `predict` decides at, and `native_iou` the IoU
    there; all else is of the grid, at the grid's own `grid_threshold`. Labels: `accuracy`, `commonest` (the accuracy of
    always giving the commonest answer) and `average_precision`. Boxes: `ap50` and `map`.
    """
    if pictures.task.kind == "label":
        return _labels(model, pictures, fold)
    if pictures.task.kind == "boxes":
        return _boxes(model, pictures, fold)
    facts = _on_grid(model, pictures, fold)
    return facts | _native(model, pictures, fold, facts["threshold"])


def _on_grid(model: SegmentationModel, pictures: Pictures, fold: Fold) -> Facts:
    inner, report = score(model, pictures, fold.inner), score(model, pictures, fold.report)
    threshold = chosen_threshold(inner) if _decided(pictures) else float("nan")
    counts = _counts(report, threshold, pictures)
    facts = {"iou": mean_iou(counts), "iou_at_half": mean_iou(report.argmax), "threshold": threshold}
    if pictures.task.kind == "multi-label":
        each = iou(counts.sum(0)).tolist()
        facts |= {f"iou of {name}": value for name, value in zip(pictures.task.names, each, strict=True)}
    return facts


def _native(model: SegmentationModel, pictures: Pictures, fold: Fold, grid_threshold: float) -> Facts:
    """What changes by the size that the masks came in; nothing where it is the grid's."""
    if not _decided(pictures):
        best = count_native(model, pictures, fold.report)
        return {} if best is None else {"native_iou": mean_iou(best)}
    tables = score_native(model, pictures, (fold.inner, fold.report))
    if tables is None:
        return {}
    inner, report = tables
    threshold = chosen_threshold(inner)
    native_iou = mean_iou(_counts(report, threshold, pictures))
    return {"threshold": threshold, "grid_threshold": grid_threshold, "native_iou": native_iou}


def _decided(pictures: Pictures) -> bool:
    """Whether a threshold decides."""
    return pictures.task.binary or pictures.task.kind == "multi-label"


def _counts(table: ScoreTable, threshold: float, pictures: Pictures) -> Counts:
    if pictures.task.kind == "multi-label" and np.isfinite(threshold):
        return table.at(threshold)
    return counts_at(table, threshold)


def _labels(model: SegmentationModel, pictures: Pictures, fold: Fold) -> Facts:
    exclusive = pictures.task.exclusive
    kind: AbstractObjective = LabelObjective(pictures.task, torch.ones(pictures.task.outputs))
    said = tallies(model, pictures, fold.report, kind)
    scores, labels = (np.concatenate(each) for each in zip(*said, strict=True))
    return {
        "accuracy": label_measures.accuracy(scores, labels, exclusive=exclusive),
        "commonest": label_measures.commonest(labels, exclusive=exclusive),
        "average_precision": float(mean_over_classes(label_measures.average_precision(scores, labels))),
    }


def _boxes(model: SegmentationModel, pictures: Pictures, fold: Fold) -> Facts:
    said = tallies(model, pictures, fold.report, BoxObjective(pictures.task))
    precision = box_measures.average_precision([image for batch in said for image in batch])
    each = mean_over_classes(precision)
    return {"ap50": float(each[0]), "map": float(np.mean(each))}
