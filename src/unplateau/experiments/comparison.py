"""`compare`: recipes trained on the same folds and seeds, and which of the differences between them are real."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unplateau.data.splits import refuse_no_inner, split
from unplateau.experiments.fits import Fit, Fitted, run_fits
from unplateau.experiments.gains import SEED_SPREAD
from unplateau.experiments.run import decided
from unplateau.experiments.ways import Pieces, Way, taken, weighed
from unplateau.measures.intervals import COVERAGE
from unplateau.measures.paired import Difference, difference, group_draws, holm, level
from unplateau.measures.thresholds import mean_iou
from unplateau.progress import Told
from unplateau.training.recipe import Recipe
from unplateau.types import Fold, Interval, Pictures

BETTER, WORSE, UNTOLD = "better", "worse", "cannot tell"
"""What can be said of a recipe beside the first one."""


@dataclass(frozen=True)
class Contest:
    """What is compared: recipes by name, the first of which the others are measured against, on which two pieces.

    `others` are the pieces of those that have their own; of several ways, the cheapest to use first, each fold takes
    one (`experiments.ways`).
    """

    recipes: Mapping[str, Recipe]
    extractor: str
    decoder: str
    frozen: bool
    seeds: int
    folds: int
    seed: int
    others: Mapping[str, tuple[Pieces, ...]] = field(default_factory=dict)

    def ways(self, name: str) -> tuple[Pieces, ...]:
        """The pieces that the recipe of that name trains, or those of which it is to take some."""
        return self.others.get(name, (Pieces(self.extractor, self.decoder, self.frozen),))

    def open(self) -> dict[str, tuple[Pieces, ...]]:
        """Those with several ways."""
        return {name: self.ways(name) for name in self.recipes if len(self.ways(name)) > 1}


@dataclass(frozen=True)
class Entry:
    """How a recipe came out. `trainings` (seeds, folds) is the IoU of each; None stands beside the first recipe.

    `p` is what is left of Holm's correction for all differences at once.
    """

    name: str
    recipe: Recipe
    iou: Interval
    trainings: tuple[tuple[float, ...], ...]
    seconds: float
    gain: Interval | None = None
    p: float | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Comparison:
    """All entries, in the order they were given in, with the data they were measured on.

    `ways` holds what was tried for those that could be built in several.
    """

    entries: tuple[Entry, ...]
    folds: int
    seeds: int
    groups: int
    repeats: bool
    ways: Mapping[str, tuple[Way, ...]] = field(default_factory=dict)


def run_contest(contest: Contest, pictures: Pictures, cache: Path, told: Told) -> Comparison:
    """Train every recipe with every seed on every fold and compare them; what `cache` holds is not trained again.

    Trainings of different recipes with the same seed and fold begin with the same weights, and those of one batch size
    see the same batches in the same order. What has several ways is trained in each of them once a fold, by the first
    seed; what the fold takes is then trained by the other seeds too, and reported.

    Raises:
        DataError: an image is missing to choose or to report on.
        OutputError: an outcome cannot be written.
    """
    folds = _different(split(pictures, folds=contest.folds, seed=contest.seed))
    refuse_no_inner(folds)
    views, per = {"image": pictures}, contest.seeds * len(folds)
    spare = len(folds) * sum(len(ways) - 1 for ways in contest.open().values())
    total = spare + per * len(contest.recipes)
    ways = _weighed(contest, pictures, folds, cache, lambda done, _, name: told(done, total, name))
    fits = []
    for name in contest.recipes:
        pieces = taken(ways[name]) if name in ways else contest.ways(name) * len(folds)
        fits += _fits(contest, name, folds, pieces, contest.seeds)
    fitted = run_fits(fits, views, cache, lambda done, _, name: told(spare + done, total, name))
    by_name = {name: fitted[place * per : (place + 1) * per] for place, name in enumerate(contest.recipes)}
    return replace(_compared(contest, pictures, folds, by_name), ways=ways)


def _different(folds: tuple[Fold, ...]) -> tuple[Fold, ...]:
    """Folds that are the same to the image would only be more seeds."""
    return tuple(dict.fromkeys(folds))


def _weighed(
    contest: Contest, pictures: Pictures, folds: tuple[Fold, ...], cache: Path, told: Told
) -> dict[str, tuple[Way, ...]]:
    """Which way each fold takes of what has several."""
    ways = contest.open()
    fits = [
        fit
        for name, several in ways.items()
        for pieces in several
        for fit in _fits(contest, name, folds, (pieces,) * len(folds), 1)
    ]
    fitted = iter(run_fits(fits, {"image": pictures}, cache, told))
    return {
        name: weighed(several, [list(islice(fitted, len(folds))) for _ in several], folds, pictures.groups)
        for name, several in ways.items()
    }


def _fits(contest: Contest, name: str, folds: tuple[Fold, ...], pieces: tuple[Pieces, ...], seeds: int) -> list[Fit]:
    """The trainings of a recipe, seed by seed, each fold with its own pieces."""
    recipe = contest.recipes[name]
    return [
        Fit(
            name=_file_name(name),
            extractor=own.extractor,
            decoder=own.decoder,
            frozen=own.frozen,
            pretrained=own.pretrained,
            view="image",
            fold=number,
            parts=fold,
            recipe=recipe,
            seed=contest.seed * 1000 + repeat * len(folds) + number,
            cost=recipe.batches * recipe.batch,
        )
        for repeat in range(seeds)
        for number, (fold, own) in enumerate(zip(folds, pieces, strict=True))
    ]


def _file_name(name: str) -> str:
    """A name that every file system takes, for a recipe may be named by its own words."""
    return re.sub(r"[^\w.+-]+", "_", name)[:60]


def _compared(
    contest: Contest, pictures: Pictures, folds: tuple[Fold, ...], fitted: Mapping[str, list[Fitted]]
) -> Comparison:
    _, groups = np.unique(np.asarray(pictures.groups), return_inverse=True)
    repeats = all(set(fold.report) == set(folds[0].report) for fold in folds)
    sums = {name: _sums(outcomes, folds, groups, repeats) for name, outcomes in fitted.items()}
    reported = groups[sorted({index for fold in folds for index in fold.report})]
    draws = group_draws(reported, int(groups.max()) + 1, np.random.default_rng(contest.seed))
    first, *others = contest.recipes
    found = [difference(sums[name], sums[first], draws, SEED_SPREAD) for name in others]
    judged = dict(zip(others, zip(found, holm([each.p for each in found]), strict=True), strict=True))
    entries = tuple(
        _entry(
            name,
            contest.recipes[name],
            level(sums[name], draws, SEED_SPREAD / math.sqrt(2)),
            fitted[name],
            len(folds),
            judged.get(name),
        )
        for name in contest.recipes
    )
    return Comparison(entries, len(folds), contest.seeds, len(np.unique(reported)), repeats)


def _sums(
    outcomes: list[Fitted], folds: tuple[Fold, ...], groups: NDArray[np.int64], repeats: bool
) -> NDArray[np.float64]:
    """Counts of each training by group; where all folds report the same images they are but more seeds."""
    total = np.zeros((len(outcomes), int(groups.max()) + 1, *decided(outcomes[0]).shape[1:]))
    for place, outcome in enumerate(outcomes):
        np.add.at(total[place], groups[list(folds[place % len(folds)].report)], decided(outcome))
    return total[:, None] if repeats else total.reshape(-1, len(folds), *total.shape[1:])


def _entry(
    name: str,
    recipe: Recipe,
    band: Interval,
    outcomes: list[Fitted],
    folds: int,
    judged: tuple[Difference, float] | None,
) -> Entry:
    each = [mean_iou(decided(outcome)) for outcome in outcomes]
    trainings = tuple(tuple(each[start : start + folds]) for start in range(0, len(each), folds))
    seconds = float(np.mean([outcome.seconds for outcome in outcomes]))
    if judged is None:
        return Entry(name, recipe, band, trainings, seconds)
    found, p = judged
    return Entry(name, recipe, band, trainings, seconds, found.gain, p, verdict_of(found.gain, p))


def verdict_of(gain: Interval, p: float) -> str:
    """Better or worse where a difference is left at the level of the intervals after the correction."""
    if not p < 1 - COVERAGE:
        return UNTOLD
    return BETTER if gain.mean > 0 else WORSE


def conclusion(comparison: Comparison) -> str:
    """What came of it, in a sentence or two."""
    first, *others = comparison.entries
    said = {word: [each for each in others if each.verdict == word] for word in (BETTER, WORSE, UNTOLD)}
    parts = []
    for word in (BETTER, WORSE):
        ranked = sorted(said[word], key=lambda each: -abs(each.gain.mean) if each.gain else 0.0)
        if ranked:
            listed = ", ".join(f"{each.name!r} ({each.gain:+.3f})" for each in ranked)
            parts.append(f"{word.capitalize()} than {first.name!r}: {listed}.")
    if said[UNTOLD]:
        listed = ", ".join(repr(each.name) for each in said[UNTOLD])
        parts.append(f"Of {listed} no difference to {first.name!r} can be told.")
    return " ".join(parts)


def method(comparison: Comparison, what: str = "recipe") -> str:
    """How the verdicts came about, for whoever reads the table; `what` is what an entry is."""
    trained = f"{comparison.seeds} seeds" if comparison.seeds > 1 else "a single seed"
    folds = f"{comparison.folds} folds" if comparison.folds > 1 else "one split"
    several = len(comparison.entries) - 1
    corrected = (
        f"The {several} differences are judged together by Holm's correction, so that the chance to call any of them "
        "real that is not stays at most 10 %; the intervals are of each alone."
        if several > 1
        else "A difference counts as real where its 90 % interval leaves out zero."
    )
    assumed = (
        f" With one seed their variance is not measured: a standard deviation of {SEED_SPREAD} of a difference between "
        "two trainings is taken for it."
        if comparison.seeds == 1 and not (comparison.repeats and comparison.folds > 1)
        else ""
    )
    return (
        f"Every {what} was trained with the same {trained} on the same {folds}; intervals (90 %) hold the variance of "
        f"{comparison.groups} resampled groups and of the seeds.{assumed} {corrected} "
        "The IoU of whichever is picked as the best flatters a little, for it was picked on these images."
    )


def data_facts(pictures: Pictures, path: str) -> dict[str, Any]:
    """What the data were that models were compared on."""
    return {
        "path": path,
        "images": len(pictures),
        "groups": len(set(pictures.groups)),
        "size": pictures.size,
        "classes": pictures.task.names,
    }


def comparison_document(comparison: Comparison, contest: Contest, pictures: Pictures, path: str) -> dict[str, Any]:
    """The content of `compare.json`."""
    return {
        "version": 1,
        "data": data_facts(pictures, path),
        "pieces": {"extractor": contest.extractor, "decoder": contest.decoder, "frozen": contest.frozen},
        "seeds": comparison.seeds,
        "folds": comparison.folds,
        "seed": contest.seed,
        "conclusion": conclusion(comparison),
        "method": method(comparison),
        "recipes": comparison.entries,
    }
