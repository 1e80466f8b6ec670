"""Whether half the side is enough to see what is to be learnt: thin things are gone there, or merge."""

from __future__ import annotations

import numpy as np
import torch

from unplateau.measures.resolution import resolution_counts
from unplateau.measures.thresholds import iou, mean_over_classes
from unplateau.training.recipe import Recipe
from unplateau.types import Pictures

ENOUGH = 0.6
"""IoU of a perfect answer at half size from which a training may begin there. Cracks on a grid of 96 pixels have 0.50,
and on inner images lost .008 by beginning so (docs/decisions/012); people, streets and fire have .72 to .96."""

LOOKED_AT = 200
"""Masks that are looked at, evenly over the data."""


def suited(pictures: Pictures) -> Recipe:
    """The default recipe, without its start at half size where even a perfect answer would be a bad one there.

    Asked of masks of one class a pixel: what else there is to learn keeps the default.
    """
    seen = pictures.task.kind != "mask" or iou_at_half(pictures) >= ENOUGH
    return Recipe() if seen else Recipe(half_size=0.0)


def iou_at_half(pictures: Pictures) -> float:
    """IoU of the best answer that each cell of 2 x 2 pixels can give, mean over the scored classes; nan without any."""
    classes = 2 if pictures.task.binary else len(pictures.task.classes)
    places = torch.linspace(0, len(pictures) - 1, min(LOOKED_AT, len(pictures))).round().long().tolist()
    counts = sum(resolution_counts(pictures.masks[place].numpy(), pictures.size, 2, classes) for place in places)
    scored = np.asarray(counts)[1:] if pictures.task.binary else np.asarray(counts)
    return float(mean_over_classes(iou(scored)))
