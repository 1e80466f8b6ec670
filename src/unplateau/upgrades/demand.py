"""What a task demands of each family: read off a diagnosis, or off what networks of known supply came to on it.

Demand is in IoU: what a full supply of the family would add to colour. Every network that is rehearsed on the task has
a supply on the eye chart: the demand is what, times their supplies, explains best what they came to. A network that
lacks capacity is thus not taken for a task that lacks the family. What none of them reached may be of any family.

Axes: N images, C classes, G groups, K networks, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import nnls

from unplateau.measures.intervals import RESAMPLES, Draws, interval
from unplateau.measures.thresholds import Counts, iou, mean_over_classes
from unplateau.types import Interval, Pictures
from unplateau.upgrades.eyechart import COLOUR, colour_parts
from unplateau.upgrades.probe import Truth, deal, probe

FAMILIES = ("textural", "geometric", "semantic")

REFERENCES = ("orderless-7-13", "reach-13", "unet-12")
"""Rehearsed beside few candidates, which may be alike: without order, ordered nearby, and the whole image."""

Supply = dict[str, Interval]
"""Acuity of each family of an extractor once taught, and of colour."""


@dataclass(frozen=True)
class Demand:
    """IoU that a full supply of each family would add to `trivial`, the IoU of colour alone.

    `draws` (R,) of each are resampled together; `source` says where it comes from.
    """

    trivial: float
    families: dict[str, Interval]
    draws: dict[str, Draws]
    source: str


def references_beside(candidates: int) -> tuple[str, ...]:
    """What is rehearsed beside so many candidates: nothing, where they are more than the families to be told apart."""
    return () if candidates > len(FAMILIES) else REFERENCES


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


def measured_demand(
    trivial: float, supplies: Sequence[Supply], reached: Sequence[tuple[float, Draws]], seed: int
) -> Demand:
    """The demand by networks whose `supplies` are known, and what each `reached` in a rehearsal, with its draws.

    What a network reached is `trivial` x its supply of colour + the demand x its supply, of each family: what explains
    that best is the non-negative solution of least squares (Lawson and Hanson, 1974), cut to what lies above `trivial`.
    What is left of that is every family's in equal parts.
    """
    generator = np.random.default_rng(seed)
    drawn = [{family: normal(supply[family], generator) for family in (*FAMILIES, COLOUR)} for supply in supplies]
    own = np.array([[supply[family].mean for family in FAMILIES] for supply in supplies])
    colour = np.array([supply[COLOUR].mean for supply in supplies])
    means = _explained(own, np.array([iou for iou, _ in reached]) - trivial * colour, trivial)
    own_draws = np.array([[each[family] for family in FAMILIES] for each in drawn])
    gains = np.array([draws for _, draws in reached]) - trivial * np.array([each[COLOUR] for each in drawn])
    draws = np.stack(
        [_explained(own_draws[..., place], gains[:, place], trivial) for place in range(RESAMPLES)], axis=1
    )
    return _demanded(means, draws, trivial, f"measured by rehearsals of {len(supplies)} networks")


def _explained(supply: NDArray[np.float64], gains: NDArray[np.float64], trivial: float) -> NDArray[np.float64]:
    """Demand (3,) that explains the `gains` (K,) of networks by their `supply` (K, 3), up to all that is to be had.

    A rehearsal is short: what it did not reach is left to all families alike.
    """
    found, _ = nnls(np.maximum(supply, 0.0), gains)
    kept = found * min(1.0, (1 - trivial) / max(float(found.sum()), 1e-9))
    return np.asarray(kept + (1 - trivial - kept.sum()) / len(kept))


def _demanded(means: NDArray[np.float64], draws: NDArray[np.float64], trivial: float, source: str) -> Demand:
    families = {family: interval(float(means[place]), draws[place]) for place, family in enumerate(FAMILIES)}
    return Demand(trivial, families, dict(zip(FAMILIES, draws, strict=True)), source)


def _dealt_out(means: NDArray[np.float64], draws: NDArray[np.float64], trivial: float, source: str) -> Demand:
    """What is to be had above `trivial`, in proportion to non-negative worths (3,) and their draws (3, R)."""
    own, dealt = _proportions(means[:, None])[:, 0] * (1 - trivial), _proportions(draws) * (1 - trivial)
    return _demanded(own, dealt, trivial, source)


def _proportions(worths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of each column; equal ones where nothing is worth anything."""
    kept = np.maximum(worths, 0) + 1e-9
    return kept / kept.sum(0)


def normal(known: Interval, generator: np.random.Generator) -> Draws:
    """Draws of a number of which only mean and 90 % interval are known, as of a normal distribution."""
    half_width = (known.high - known.low) / 2
    return known.mean + generator.standard_normal(RESAMPLES) * (half_width / 1.645 if half_width > 0 else 0.0)


def iou_draws(counts: Counts, groups: list[str], generator: np.random.Generator) -> tuple[float, Draws]:
    """Mean IoU over classes of counts (N, C, 3), and its draws (R,) with whole groups resampled."""
    names, inverse = np.unique(groups, return_inverse=True)
    summed = np.zeros((len(names), *counts.shape[1:]), np.float64)
    np.add.at(summed, inverse, counts)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES).astype(np.float64)
    drawn = np.tensordot(times, summed, axes=1)
    mean, draws = float(mean_over_classes(iou(summed.sum(0)))), mean_over_classes(iou(drawn))
    # A resample of groups that lack every class, where none is said, knows nothing of it.
    return mean, np.where(np.isnan(draws), mean, draws)


def spread_over(pictures: Pictures, most: int) -> Pictures:
    """At most so many of the pictures, evenly over all of them; all where fewer would leave one group."""
    if len(pictures) <= most:
        return pictures
    places = np.linspace(0, len(pictures) - 1, most).round().astype(int).tolist()
    if len({pictures.groups[place] for place in places}) < 2:
        return pictures
    return pictures.take(places)


def shrunk(pictures: Pictures, side: int) -> Pictures:
    """The pictures with a long side of at most `side` pixels."""
    factor = side / max(pictures.size)
    if factor >= 1:
        return pictures
    size = [max(8, round(each * factor)) for each in pictures.size]
    images = F.interpolate(pictures.images.float(), size=size, mode="area").round().to(torch.uint8)
    masks = F.interpolate(pictures.masks[:, None].float(), size=size, mode="nearest-exact")[:, 0].to(torch.uint8)
    return replace(pictures, images=images, masks=masks)
