"""What a diagnosis has measured so far, in the form that every check reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unplateau.data.sources import AbstractSource
from unplateau.experiments.choosing import BY_IOU, Reading, choosing_units, prefer, unit_sums
from unplateau.experiments.fits import Fitted
from unplateau.experiments.plan import CONTEXT, Plan, mapped
from unplateau.experiments.trials import Trial
from unplateau.experiments.views import Objects
from unplateau.measures.gallery import Gallery
from unplateau.measures.intervals import RESAMPLES, Draws, interval
from unplateau.measures.thresholds import (
    Counts,
    ScoreTable,
    best_threshold,
    counts_at,
    iou,
    mean_iou,
    mean_over_classes,
)
from unplateau.training.recipe import Recipe
from unplateau.types import Fold, Interval, Pictures, Size

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""What counts (..., C, 3) are worth, (..., C)."""

PARTS = 10
"""Parts that the groups are dealt to where they choose for each other: each threshold then rests on nine tenths."""

Sums = NDArray[np.float64]
"""(folds, groups, C, 3): counts on the report part, summed over each group; 0 where a fold reports none of it."""


@dataclass(frozen=True)
class Run:
    """The data, its folds, and the outcome of each fit: `outcomes[name]` holds one for each fold.

    `reported` is the IoU that a model trained elsewhere is said to have; nan when nothing was said. `answered` is the
    size at which its answers came, where that is not the working grid. `recipe` is the baseline's, None where it was
    not trained.
    """

    source: AbstractSource
    pictures: Pictures
    folds: tuple[Fold, ...]
    objects: Objects
    plan: Plan
    outcomes: dict[str, tuple[Fitted, ...]]
    seed: int
    reported: float = math.nan
    answered: Size | None = None
    recipe: Recipe | None = None
    _sums: dict[tuple[str, Reading | None], Sums] = field(default_factory=dict, repr=False, compare=False)
    _parts: dict[int, Run] = field(default_factory=dict, repr=False, compare=False)

    @property
    def diameter(self) -> float:
        """Of an object, in pixels of the working grid."""
        return self.objects.diameter

    @property
    def binary(self) -> bool:
        """Whether one threshold decides."""
        return self.pictures.task.binary

    @cached_property
    def resampler(self) -> Resampler:
        """The one set of resamples that all intervals of the diagnosis share, so that differences are paired."""
        return Resampler.of(self.pictures, self.folds, np.random.default_rng(self.seed))

    def sums(self, name: str, reading: Reading = BY_IOU) -> Sums:
        """Counts of a rung on the images that chose nothing, at thresholds chosen on the inner part of each fold."""
        if (name, reading) not in self._sums:
            self._sums[name, reading] = self.resampler.sums_of(map(reading.report, self.outcomes[name]))
        return self._sums[name, reading]

    @property
    def imposed(self) -> float | None:
        """The stale threshold at which all that stands beside the model in question is read; None = each chooses."""
        fits = self.outcomes.get(self.plan.baseline, ())
        return fits[0].imposed if fits else None

    @property
    def crossfits(self) -> bool:
        """Whether others choose the thresholds at which `fairly` reads: not where one is imposed or there is none."""
        return self.binary and self.imposed is None

    def fairly(self, name: str) -> Sums:
        """Counts of a training as trials are compared: each group at the threshold that the inner images and the other
        groups choose for it.

        What few inner images choose moves thin things by several points, and another training would have another.
        Where one is imposed, because it is stale, all stay at that one; of several classes each pixel takes its best.
        """
        if not self.crossfits:
            return self.sums(name)
        if (name, None) not in self._sums:
            fits = self.outcomes[name]
            self._sums[name, None] = self.crossfitted([fit.report for fit in fits], [fit.inner for fit in fits])
        return self._sums[name, None]

    def crossfitted(self, tables: list[ScoreTable], inner: list[ScoreTable]) -> Sums:
        """Counts of report images (a table a fold), each group at the threshold that inner images and others choose.

        The groups are dealt to at most `PARTS` parts by the seed; where the others hold no such class it is 0.5.
        """
        compare, generator = self.resampler, np.random.default_rng(self.seed)
        reported = np.unique(np.concatenate([compare.groups[report] for report in compare.reports]))
        part_of = np.zeros(len(compare.groups), np.int64)
        part_of[generator.permutation(reported)] = np.arange(len(reported)) % PARTS
        dealt = [part_of[compare.groups[report]] for report in compare.reports]
        return compare.sums_of(map(_chosen_by_others, tables, inner, dealt))

    @cached_property
    def gallery(self) -> Gallery:
        """The pictures as leaks and repeats are looked for in them; as large as they are, so ask it of a copy."""
        return Gallery(self.pictures.images.numpy())

    @cached_property
    def answers(self) -> NDArray[np.uint8]:
        """The baseline's scores (N, outputs, H, W) for every picture, in steps of 1 / BINS."""
        return self.answers_of(self.plan.baseline)

    @cached_property
    def witness(self) -> str:
        """Of the baseline and the rung that sees all, the one that the inner images prefer: it judges the labels.

        What a short-sighted model takes for one thing may rightly be labelled as two.
        """
        kept = [self.plan.baseline, CONTEXT] if CONTEXT in self.outcomes else [self.plan.baseline]
        scores = [
            np.mean([mean_iou(counts_at(fit.inner, fit.threshold)) for fit in self.outcomes[name]]) for name in kept
        ]
        return kept[int(np.argmax(scores))]

    def answers_of(self, name: str) -> NDArray[np.uint8]:
        """The scores (N, outputs, H, W) of the baseline or of the rung that sees all, for every picture.

        Of several folds that answer a picture the first counts; where every picture reports once there is only one.
        """
        pictures = self.pictures
        said = np.zeros((len(pictures), pictures.task.outputs, *pictures.size), np.uint8)
        for number in reversed(range(len(self.folds))):
            said[list(mapped(self.folds, number, len(pictures)))] = self.outcomes[name][number].maps
        return said

    @cached_property
    def unseen(self) -> NDArray[np.bool_]:
        """Which answers (N,) come from a model that did not train on the picture: those that some fold reports."""
        seen = np.ones(len(self.pictures), bool)
        seen[[index for fold in self.folds for index in fold.report]] = False
        return ~seen

    @cached_property
    def units(self) -> int:
        """How many groups report: what an interval rests on."""
        return len({self.pictures.groups[index] for fold in self.folds for index in fold.report})

    def shared(self, names: Iterable[str]) -> Run:
        """The run on the folds, the first ones, on which all of these were trained: of a task not all need be."""
        count = min((len(self.outcomes[name]) for name in names if name in self.outcomes), default=len(self.folds))
        if count == len(self.folds):
            return self
        if count not in self._parts:
            kept = {name: fits[:count] for name, fits in self.outcomes.items()}
            self._parts[count] = replace(self, folds=self.folds[:count], outcomes=kept, _sums={}, _parts={})
        return self._parts[count]

    def trial(self, remedy: str) -> Trial | None:
        """The trial of a remedy, where it was trained."""
        return next((each for each in self.plan.trials if each.remedy == remedy and each.name in self.outcomes), None)

    def reading(self, name: str) -> Interval:
        """IoU of a rung with its interval."""
        return self.resampler.interval(self.sums(name))

    def chosen(self, names: list[str], reading: Reading = BY_IOU) -> Sums:
        """Counts of the rung among `names`, simplest first, that the inner part of each fold prefers."""
        picked = [names[self._preferred(tuple(names), number, reading)] for number in range(len(self.folds))]
        return np.stack([self.sums(name, reading)[number] for number, name in enumerate(picked)])

    def _preferred(self, names: tuple[str, ...], number: int, reading: Reading) -> int:
        units = choosing_units([self.pictures.groups[index] for index in self.folds[number].inner])
        fits = [self.outcomes[name][number] for name in names]
        counts = [unit_sums(reading.inner(fit), units) for fit in fits]
        return prefer(np.stack(counts), reading)


@dataclass(frozen=True)
class Resampler:
    """Resamples of whole groups and of the seeds.

    `groups` (N,) is the group of each image; `weights` (R, groups) how often each is drawn. When all folds report the
    same images they are repeats with other seeds, and `seeds` (R, folds) says how often each is drawn; when each
    image reports once, every fold counts once.
    """

    groups: NDArray[np.int64]
    reports: tuple[NDArray[np.int64], ...]
    weights: NDArray[np.float64]
    seeds: NDArray[np.float64]

    @staticmethod
    def of(pictures: Pictures, folds: tuple[Fold, ...], generator: np.random.Generator) -> Resampler:
        """The resampler of a data set under its folds; of images where a single group reports, which is too narrow but
        not nothing.
        """
        _, groups = np.unique(np.asarray(pictures.groups), return_inverse=True)
        reports = tuple(np.array(fold.report) for fold in folds)
        if len(np.unique(groups[np.concatenate(reports)])) == 1:
            groups = np.arange(len(pictures))
        reported = np.unique(groups[np.concatenate(reports)])
        weights = np.zeros((RESAMPLES, int(groups.max()) + 1))
        even = np.full(len(reported), 1 / len(reported))
        weights[:, reported] = generator.multinomial(len(reported), even, size=RESAMPLES)
        count = len(folds)
        repeats = all(set(part) == set(reports[0]) for part in reports)
        seeds = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) if repeats else np.ones((1, 1))
        return Resampler(groups, reports, weights, np.broadcast_to(seeds, (RESAMPLES, count)).astype(float))

    def sums(self, fold: int, counts: Counts) -> NDArray[np.float64]:
        """Counts (N, C, 3) of a fold's report part, summed over groups: (groups, C, 3)."""
        total = np.zeros((self.weights.shape[1], *counts.shape[1:]))
        np.add.at(total, self.groups[self.reports[fold]], counts)
        return total

    def sums_of(self, counts: Iterable[Counts]) -> Sums:
        """Counts (N, C, 3) of every fold's report part, in order, each summed over groups."""
        return np.stack([self.sums(number, each) for number, each in enumerate(counts)])

    def mean(self, sums: Sums, score: Score = iou) -> float:
        """IoU, or another score, of all report images."""
        return float(mean_over_classes(score(sums.sum((0, 1)))))

    def draws(self, sums: Sums, score: Score = iou) -> Draws:
        """IoU, or another score, in each resample (R,)."""
        by_seed = np.einsum("rg,fgcx->rfcx", self.weights, sums)
        pooled = np.einsum("rf,rfcx->rcx", self.seeds, by_seed)
        return mean_over_classes(score(pooled))

    def interval(self, sums: Sums) -> Interval:
        """IoU with its interval."""
        return interval(self.mean(sums), self.draws(sums))

    def difference(self, above: Sums, below: Sums) -> Interval:
        """IoU of `above` minus IoU of `below`, paired by resample."""
        return interval(self.mean(above) - self.mean(below), self.draws(above) - self.draws(below))


def _chosen_by_others(table: ScoreTable, inner: ScoreTable, parts: NDArray[np.int64]) -> Counts:
    """Counts (N, C, 3) of a table's images, each of the parts (N,) at the best threshold of inner images and others."""
    whole = table.histograms.sum(0) + inner.histograms.sum(0)
    counts = np.zeros_like(table.argmax)
    for part in np.unique(parts):
        own = table.take(np.flatnonzero(parts == part))
        others = ScoreTable((whole - own.histograms.sum(0))[None], np.zeros((1, *table.argmax.shape[1:]), np.int64))
        chosen = best_threshold(others)
        counts[parts == part] = own.at(chosen if np.isfinite(chosen) else 0.5)
    return counts


def decided(fitted: Fitted) -> Counts:
    """Counts on the report part at the threshold in force (argmax for many classes)."""
    return counts_at(fitted.report, fitted.threshold)
