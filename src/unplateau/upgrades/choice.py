"""Which extractor to train, without training each in full: what it supplies against what the task demands.

An extractor is worth what it comes to in a short rehearsal on the task, and, of what is then still missing, what it has
shown on the eye chart that it can learn, family by family, as far as the task demands it.

Axes: R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.measures.intervals import COVERAGE, Draws, interval
from unplateau.types import Interval
from unplateau.upgrades.demand import FAMILIES, Demand, normal
from unplateau.upgrades.eyechart import COLOUR


@dataclass(frozen=True)
class Candidate:
    """An extractor that could be trained: its supply of each family and of colour once taught, and its IoU after a
    rehearsal.

    The draws (R,) are those of the IoU; `milliseconds` is what an image of the task costs.
    """

    name: str
    supply: dict[str, Interval]
    rehearsed: float
    draws: Draws
    milliseconds: float


@dataclass(frozen=True)
class Ranked:
    """One extractor in its place.

    `gain` is the predicted IoU over that of colour alone, `per_millisecond` the same by cost. `place` runs from 1;
    `best`..`worst` are the places it takes in 90 % of the resamples.
    """

    extractor: str
    place: int
    best: int
    worst: int
    gain: Interval
    per_millisecond: Interval
    milliseconds: float
    rehearsed: Interval
    learnable: Interval


def ranked(candidates: Sequence[Candidate], demand: Demand, *, seed: int) -> tuple[Ranked, ...]:
    """The candidates by predicted gain, best first."""
    generator = np.random.default_rng(seed)
    learnt = [_learnable(candidate, demand, generator) for candidate in candidates]
    gains = [
        (
            _gain(each.rehearsed, own[0], each.supply[COLOUR].mean, demand.trivial),
            _gain(each.draws, own[1], normal(each.supply[COLOUR], generator), demand.trivial),
        )
        for each, own in zip(candidates, learnt, strict=True)
    ]
    order = sorted(range(len(candidates)), key=lambda place: -float(gains[place][0]))
    places = _places(np.stack([draws for _, draws in gains]))
    return tuple(
        _row(candidates[index], place, places[index], gains[index], learnt[index])
        for place, index in enumerate(order, start=1)
    )


def _row(
    each: Candidate,
    place: int,
    taken: tuple[int, int],
    gain: tuple[NDArray[np.float64], Draws],
    learnt: tuple[float, Draws],
) -> Ranked:
    whole = interval(float(gain[0]), gain[1])
    return Ranked(
        extractor=each.name,
        place=place,
        best=min(taken[0], place),
        worst=max(taken[1], place),
        gain=whole,
        per_millisecond=Interval(*(number / each.milliseconds for number in (whole.mean, whole.low, whole.high))),
        milliseconds=each.milliseconds,
        rehearsed=interval(each.rehearsed, each.draws),
        learnable=interval(learnt[0], learnt[1]),
    )


def _learnable(candidate: Candidate, demand: Demand, generator: np.random.Generator) -> tuple[float, Draws]:
    """Supply x demand: the share of what is to be had that it can learn, and its draws."""
    total = max(1 - demand.trivial, 1e-9)
    means = [demand.families[family].mean * candidate.supply[family].mean for family in FAMILIES]
    draws = [demand.draws[family] * normal(candidate.supply[family], generator) for family in FAMILIES]
    return float(sum(means)) / total, np.sum(draws, axis=0) / total


def _gain(reached: float | Draws, learnt: float | Draws, colour: float | Draws, trivial: float) -> NDArray[np.float64]:
    """Predicted IoU over the trivial answer's: what the rehearsal reached, and what is learnt of the rest.

    Who keeps colour comes to what colour says, even where so few steps did not.
    """
    sure = np.maximum(reached, trivial * np.minimum(colour, 1.0))
    return np.asarray(1 - (1 - sure) * (1 - np.asarray(learnt)) - trivial)


def _places(gains: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The places, from 1, that each of the rows (E, R) takes in the central 90 % of the resamples."""
    standing = (-gains).argsort(0).argsort(0) + 1
    tail = (1 - COVERAGE) / 2
    bounds = np.quantile(standing, [tail, 1 - tail], axis=1, method="nearest")
    return [(int(low), int(high)) for low, high in bounds.T]
