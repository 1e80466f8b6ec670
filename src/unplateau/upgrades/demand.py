"""What a task demands of each family: read off a diagnosis, or measured quickly by three small trainings.

Demand is in IoU: what lies between the trivial answer, colour alone, and 1, dealt out to the families.

Axes: N images, C classes, G groups, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from unplateau.data.splits import refuse_no_inner, split
from unplateau.experiments.views import object_diameter
from unplateau.extractors.bounded import bounded
from unplateau.measures.intervals import RESAMPLES, Draws, interval
from unplateau.measures.thresholds import Counts, best_threshold, counts_at, iou, mean_over_classes
from unplateau.training.loop import finetune
from unplateau.training.recipe import Recipe
from unplateau.training.scoring import score
from unplateau.training.train import build_pieces
from unplateau.types import Interval, Pictures
from unplateau.upgrades.eyechart import colour_parts
from unplateau.upgrades.probe import Truth, deal, probe

FAMILIES = ("textural", "geometric", "semantic")

RECIPE = Recipe(steps=36, batch=12, evaluations=1)
"""Of a rung: enough to tell what its reach is good for, not to train it out."""

WIDTH = 8
"""Channels of a rung at full size."""

SIDE = 48
"""Long side in pixels that the rungs are trained at, or less."""


@dataclass(frozen=True)
class Demand:
    """IoU that each family would add to `trivial`, the IoU of colour alone.

    `draws` (R,) of each are resampled together; `source` says where it comes from.
    """

    trivial: float
    families: dict[str, Interval]
    draws: dict[str, Draws]
    source: str


def trivial_counts(pictures: Pictures, truth: Truth, seed: int) -> Counts:
    """Counts (N, C, 3) of the light decoder on colour alone."""
    return probe(partial(colour_parts, pictures.images), truth, seed)


def truth_of(pictures: Pictures, seed: int) -> Truth:
    """The masks of a task, with its groups dealt to quarters by how much of what is looked for they hold.

    Raises:
        DataError: fewer than two groups.
    """
    positive = [float(((mask > 0) & (mask != 255)).sum()) for mask in pictures.masks]
    return Truth(pictures.masks, pictures.task.outputs, deal(pictures.groups, positive, seed))


def demand_of_shares(shares: Mapping[str, Interval], trivial: float, source: str, seed: int) -> Demand:
    """The demand of a task whose `shares` of the families a diagnosis has measured."""
    generator = np.random.default_rng(seed)
    draws = np.stack([normal(shares[family], generator) for family in FAMILIES])
    means = np.array([shares[family].mean for family in FAMILIES])
    return _dealt_out(means, draws, trivial, source)


def measured_demand(pictures: Pictures, trivial: float, seed: int) -> Demand:
    """The demand by three small trainings that differ in reach alone: half an object, two objects, the whole image.

    Texture is worth what the first adds to colour, shape what the second adds to the first. What neither local view
    gives is left to context, whether or not so short a training found it there.

    Raises:
        DataError: too few images or groups to train and report on.
    """
    small = shrunk(pictures, SIDE)
    diameter = object_diameter(small)
    reaches = (max(5.0, diameter / 2), max(9.0, 2 * diameter), float("inf"))
    named = [bounded(reach, width=WIDTH).architecture for reach in reaches]
    local, ordered, whole = (_rung_ious(small, name, seed) for name in named)
    means = np.array([local[0], ordered[0], whole[0]])
    steps = _steps(means[:, None], trivial)[:, 0]
    draws = _steps(np.stack([local[1], ordered[1], whole[1]]), trivial)
    return _dealt_out(steps, draws, trivial, f"measured by {', '.join(named)}")


def _steps(ious: NDArray[np.float64], trivial: float) -> NDArray[np.float64]:
    """What each family adds, (3, R), of the IoU (3, R) of the rungs; a rung that falls back adds nothing."""
    local = np.maximum(ious[0], trivial)
    ordered = np.maximum(ious[1], local)
    return np.stack([local - trivial, ordered - local, 1 - ordered])


def _dealt_out(means: NDArray[np.float64], draws: NDArray[np.float64], trivial: float, source: str) -> Demand:
    """What is to be had above `trivial`, in proportion to non-negative worths (3,) and their draws (3, R)."""
    own, dealt = _proportions(means[:, None])[:, 0] * (1 - trivial), _proportions(draws) * (1 - trivial)
    families = {family: interval(float(own[place]), dealt[place]) for place, family in enumerate(FAMILIES)}
    return Demand(trivial, families, dict(zip(FAMILIES, dealt, strict=True)), source)


def _proportions(worths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of each column; equal ones where nothing is worth anything."""
    kept = np.maximum(worths, 0) + 1e-9
    return kept / kept.sum(0)


def normal(known: Interval, generator: np.random.Generator) -> Draws:
    """Draws of a number of which only mean and 90 % interval are known, as of a normal distribution."""
    half_width = (known.high - known.low) / 2
    return known.mean + generator.standard_normal(RESAMPLES) * (half_width / 1.645 if half_width > 0 else 0.0)


def _rung_ious(pictures: Pictures, name: str, seed: int) -> tuple[float, Draws]:
    """IoU of a short training on images that chose nothing, and its draws over groups."""
    fold = split(pictures, seed=seed)[0]
    refuse_no_inner([fold])
    model = build_pieces(name, "linear", pictures.task.outputs, frozen=False, seed=seed)
    trained = finetune(model, pictures, fold, RECIPE, seed=seed).model
    threshold = best_threshold(score(trained, pictures, fold.inner)) if pictures.task.outputs == 1 else float("nan")
    counts = counts_at(score(trained, pictures, fold.report), threshold)
    return iou_draws(counts, [pictures.groups[place] for place in fold.report], np.random.default_rng(seed))


def iou_draws(counts: Counts, groups: list[str], generator: np.random.Generator) -> tuple[float, Draws]:
    """Mean IoU over classes of counts (N, C, 3), and its draws (R,) with whole groups resampled."""
    names, inverse = np.unique(groups, return_inverse=True)
    summed = np.zeros((len(names), *counts.shape[1:]), np.float64)
    np.add.at(summed, inverse, counts)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES).astype(np.float64)
    drawn = np.tensordot(times, summed, axes=1)
    return float(mean_over_classes(iou(summed.sum(0)))), mean_over_classes(iou(drawn))


def shrunk(pictures: Pictures, side: int) -> Pictures:
    """The pictures with a long side of at most `side` pixels."""
    factor = side / max(pictures.size)
    if factor >= 1:
        return pictures
    size = [max(8, round(each * factor)) for each in pictures.size]
    images = F.interpolate(pictures.images.float(), size=size, mode="area").round().to(torch.uint8)
    masks = F.interpolate(pictures.masks[:, None].float(), size=size, mode="nearest-exact")[:, 0].to(torch.uint8)
    return replace(pictures, images=images, masks=masks)
